"""The feature column and its cache on disk: copies, gaps, kills, races, damage, keys."""

import multiprocessing
import os
import pickle
import signal
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from mmeq.data.columns import ImageColumn, SequenceColumn, TextColumn, VectorColumn
from mmeq.data.feature_cache import FeatureCache, FeatureFormat
from mmeq.data.feature_keys import sample_keys, view_of
from mmeq.data.media.audio import AudioFormat
from mmeq.data.media.clip import Clip
from mmeq.data.media.column import MediaColumn
from mmeq.data.media.image import ImageFormat
from mmeq.data.media.store import Store
from mmeq.data.media.writing import Writer, describe
from mmeq.errors import MmeqError

COUNT, WIDTH = 60, 5
KEYS = np.array([f"{k:032x}" for k in range(COUNT)], dtype="S32")
NAMES = [f"n{k}" for k in range(COUNT)]
ALL = np.ones(COUNT, dtype=bool)
WANTED = np.sin(np.arange(WIDTH) + np.arange(COUNT)[:, None]).astype(np.float32)


def cache(root):
    """Four samples a shard."""
    return FeatureCache(root, FeatureFormat("toy", {"of": "sine"}), chunk=4 * WIDTH * 4)


def computing(log, pause):
    """Two samples at once, noted in a file."""

    def compute(rows):
        for begin in range(0, len(rows), 2):
            some = rows[begin : begin + 2]
            with log.open("a") as file:
                file.writelines(f"{row}\n" for row in some)
            time.sleep(pause)
            yield some, WANTED[some]

    return compute


def filled(tmp_path):
    made = cache(tmp_path / "cache")
    assert made.fill(KEYS, NAMES, computing(tmp_path / "log", 0)) == COUNT
    return made


def values(column, rows):
    return column.batch(torch.tensor(rows, dtype=torch.int64))["features"].numpy()


def start(tmp_path, pause):
    """Fill in a process of its own, which writes what it says and did into a file of its number."""

    def run():
        with (tmp_path / f"told-{os.getpid()}").open("w", buffering=1) as file:
            sys.stderr = file
            done = cache(tmp_path / "cache").fill(KEYS, NAMES, computing(tmp_path / "log", pause))
            file.write(f"{done}\n")

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def told(tmp_path, process):
    process.join(60)
    assert process.exitcode == 0
    return (tmp_path / f"told-{process.pid}").read_text().splitlines()


def logged(tmp_path):
    log = tmp_path / "log"
    return log.read_text().split() if log.exists() else []


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def test_what_is_filled_comes_back_in_any_order_and_across_shards(tmp_path):
    made = filled(tmp_path)
    column = made.column(KEYS, ALL)
    assert len(column.shards) > 5
    assert column.shape == (WIDTH,)
    assert len(column) == COUNT
    rows = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0)).tolist()
    assert np.array_equal(values(column, [*rows, rows[0]]), WANTED[[*rows, rows[0]]])
    assert values(column, []).shape == (0, WIDTH)
    assert column.content(3) == WANTED[3].tobytes()
    assert column.finite().all()
    assert np.array_equal(values(column.take(torch.tensor([5, 2])), [1, 0]), WANTED[[2, 5]])


def test_one_shard_is_copied_at_once_and_is_no_view_of_the_file(tmp_path):
    made = FeatureCache(tmp_path, FeatureFormat("toy", {}))
    made.fill(KEYS, NAMES, computing(tmp_path / "log", 0))
    column = made.column(KEYS, ALL)
    assert len(column.shards) == 1
    given = column.batch(torch.arange(4))["features"]
    given += 1  # a read-only or shared page would not bear it
    assert np.array_equal(values(column, [0, 1, 2, 3]), WANTED[:4])


def test_absent_samples_are_zeros_and_unused_ones_are_refused(tmp_path):
    made = filled(tmp_path)
    keys, present = KEYS.copy(), ALL.copy()
    keys[[1, 2]], present[1] = b"", False
    column = made.column(keys, present)
    assert np.array_equal(values(column, [0, 1, 3]), [WANTED[0], np.zeros(WIDTH), WANTED[3]])
    with pytest.raises(MmeqError, match="no part of the data"):
        column.batch(torch.tensor([2]))
    hidden = column.masked(torch.arange(COUNT) != 3)
    assert not values(hidden, [3]).any()
    assert values(column, [3]).any()


def test_a_column_is_small_when_it_is_sent_to_another_process(tmp_path):
    column = filled(tmp_path).column(KEYS, ALL)
    values(column, list(range(COUNT)))
    sent = pickle.dumps(column)
    assert len(sent) < 5000
    assert np.array_equal(values(pickle.loads(sent), [7, 50]), WANTED[[7, 50]])


def test_only_what_lacks_is_computed_and_equal_samples_once(tmp_path):
    made = cache(tmp_path / "cache")
    some = np.where(np.arange(COUNT) % 2, KEYS, b"")
    made.fill(some, NAMES, computing(tmp_path / "log", 0))
    assert made.column(KEYS, ALL) is None
    twice = KEYS.copy()
    twice[8] = twice[4]
    assert made.missing(twice) == [k for k in range(0, COUNT, 2) if k != 8]
    made.fill(twice, NAMES, computing(tmp_path / "log", 0))
    assert sorted(map(int, logged(tmp_path))) == [k for k in range(COUNT) if k != 8]
    assert np.array_equal(values(made.column(twice, ALL), [8]), WANTED[[4]])
    assert made.fill(twice, NAMES, computing(tmp_path / "log", 0)) == 0


def test_a_kill_at_any_time_costs_a_chunk_and_the_rest_is_equal(tmp_path):
    for kill in range(3):
        before = len(logged(tmp_path))
        process = start(tmp_path, 0.02)
        wait_for(lambda before=before: len(logged(tmp_path)) >= before + 11)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        kept = COUNT - len(cache(tmp_path / "cache").missing(KEYS))
        # a chunk holds 4 samples, a batch 2, and each kill may cost one of each
        assert kept >= len(logged(tmp_path)) - 6 * (kill + 1)
    left = len(cache(tmp_path / "cache").missing(KEYS))
    assert 0 < left < COUNT
    made = cache(tmp_path / "cache")
    (made.folder / f".part-0.arrow.{os.uname().nodename}.{process.pid}.tmp").write_bytes(b"half")
    assert made.fill(KEYS, NAMES, computing(tmp_path / "log", 0)) == left
    assert np.array_equal(values(made.column(KEYS, ALL), list(range(COUNT))), WANTED)
    assert not list(made.folder.glob(".*.tmp"))


def test_two_that_fill_at_once_compute_each_sample_once(tmp_path):
    one = start(tmp_path, 0.03)
    wait_for(lambda: len(logged(tmp_path)) > 5)
    two = start(tmp_path, 0.03)
    assert told(tmp_path, one) == [str(COUNT)]
    waited, done = told(tmp_path, two)
    assert f"waiting for process {one.pid}" in waited
    assert done == "0"
    assert sorted(map(int, logged(tmp_path))) == list(range(COUNT))
    column = cache(tmp_path / "cache").column(KEYS, ALL)
    assert np.array_equal(values(column, list(range(COUNT))), WANTED)


def test_who_waited_goes_on_where_a_killed_one_stopped(tmp_path):
    one = start(tmp_path, 0.03)
    wait_for(lambda: len(logged(tmp_path)) > 13)
    two = start(tmp_path, 0.0)
    time.sleep(0.1)
    one.kill()
    waited, done = told(tmp_path, two)
    assert "waiting for" in waited
    assert 0 < int(done) < COUNT
    column = cache(tmp_path / "cache").column(KEYS, ALL)
    assert np.array_equal(values(column, list(range(COUNT))), WANTED)


def test_what_an_error_interrupts_is_kept(tmp_path):
    made = cache(tmp_path / "cache")

    def breaks(rows):
        yield rows[:3], WANTED[rows[:3]]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.fill(KEYS, NAMES, breaks)
    assert len(made.missing(KEYS)) == COUNT - 3


def test_a_damaged_shard_is_named_and_computed_anew(tmp_path):
    made = filled(tmp_path)
    shard = sorted(made.folder.glob("part-*"))[2]
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="is not used: it is damaged"):
        assert made.column(KEYS, ALL) is None
    with pytest.warns(UserWarning, match="computed anew"):
        assert made.fill(KEYS, NAMES, computing(tmp_path / "log", 0)) == 4
    with pytest.warns(UserWarning, match=shard.name):
        column = made.column(KEYS, ALL)
    assert np.array_equal(values(column, list(range(COUNT))), WANTED)


def test_features_that_are_no_numbers_are_refused_with_the_sample(tmp_path):
    made = cache(tmp_path / "cache")
    with pytest.raises(MmeqError, match=r"NaN or an infinity for sample 'n1'"):
        made.fill(KEYS, NAMES, lambda rows: iter_of(rows[:2], [[1.0, 2.0], [1.0, np.inf]]))
    assert len(made.missing(KEYS)) == COUNT - 1


def iter_of(rows, features):
    yield rows, np.array(features, dtype=np.float32)


def test_a_folder_that_cannot_be_made_says_which_option_helps(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(MmeqError, match=r"cannot be written to .*cache=off"):
        cache(tmp_path / "cache").fill(KEYS, NAMES, computing(tmp_path / "log", 0))


def test_a_cache_that_is_taken_away_after_the_start_does_no_harm(tmp_path):
    made = filled(tmp_path)
    column = made.column(KEYS, ALL)
    for path in made.folder.glob("part-*"):
        path.unlink()
    assert np.array_equal(values(column, list(range(COUNT))), WANTED)
    with pytest.raises(MmeqError, match="start the run again"):
        values(pickle.loads(pickle.dumps(column)), [0])


def test_formats_do_not_see_each_other(tmp_path):
    filled(tmp_path)
    other = FeatureCache(tmp_path / "cache", FeatureFormat("toy", {"of": "cosine"}))
    assert other.missing(KEYS) == list(range(COUNT))


# what tells a sample


def pictures(folder, shades, names=None):
    clips = []
    for k, shade in enumerate(shades):
        name = f"{k}.bmp" if names is None else names[k]
        Image.new("RGB", (20, 16), (shade, 3 * k, 90)).save(folder / name)
        os.utime(folder / name, ns=(10**18, 10**18))  # as an archive leaves them
        clips.append(Clip(folder / name, name))
    return clips


def media(clips, store=None, format=ImageFormat(resize=16, size=8)):  # noqa: B008 - it is frozen
    return MediaColumn(list(clips), format, [clip.fingerprint() for clip in clips], store)


@pytest.mark.parametrize("kind", ["vector", "sequence", "image", "text"])
def test_in_memory_the_content_alone_tells_a_sample(kind):
    made = {
        "vector": VectorColumn(torch.tensor([[1.0, 2], [3, 4], [1, 2]])),
        "sequence": SequenceColumn(
            torch.tensor([[[1.0], [2]], [[1], [0]], [[1], [2]]]), torch.tensor([2, 1, 2])
        ),
        "image": ImageColumn(torch.arange(12).view(1, 3, 2, 2).repeat(3, 1, 1, 1).to(torch.uint8)),
        "text": TextColumn(["a", "b", "a"]),
    }[kind]
    if kind == "image":
        made.pixels[1] += 1
    keys = sample_keys(made, [0, 1, 2], "x")
    assert keys[0] == keys[2] != keys[1]
    assert (keys == sample_keys(made.take(torch.tensor([2, 1, 0])), [0, 1, 2], "y")).all()
    assert sample_keys(made, [2], "x").tolist() == [b"", b"", keys[2]]


def test_a_file_is_told_by_time_place_name_and_ends(tmp_path):
    clips = pictures(tmp_path, [10, 20])
    before = sample_keys(media(clips), [0, 1], "set")
    assert before[0] != before[1]
    assert (sample_keys(media(clips), [0, 1], "set") == before).all()
    assert (sample_keys(media(clips), [0, 1], "other set") != before).all()
    os.utime(clips[0].path, ns=(10**18, 10**18 + 1))
    after = sample_keys(media(clips), [0, 1], "set")
    assert (after != before).tolist() == [True, False]
    # the same name, size and time, another picture: two releases that archives unpacked
    pictures(tmp_path, [10, 21])
    assert (sample_keys(media(clips), [0, 1], "set") != before).tolist() == [False, True]


def test_a_release_that_was_moved_keeps_its_keys(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    here = sample_keys(media(pictures(tmp_path / "a", [10, 20])), [0, 1], "set")
    assert (sample_keys(media(pictures(tmp_path / "b", [10, 20])), [0, 1], "set") == here).all()


def test_parts_of_one_file_are_different_samples(tmp_path):
    [clip] = pictures(tmp_path, [10])
    other = Clip(clip.path, clip.name, crop=(0.0, 0.0, 0.5, 1.0))
    one, two = sample_keys(media([clip, other]), [0, 1], "set")
    assert one != two


def test_what_was_prepared_is_told_by_its_content(tmp_path):
    clips, format = pictures(tmp_path, [10, 20]), ImageFormat(resize=16, size=8)
    store = Store(tmp_path / "prepared", format)
    describe(store.folder, format)
    writer = Writer(store.folder, format)
    for clip in clips:
        writer.add(clip, clip.fingerprint(), "ok", blob=format.read(clip))
    writer.write()
    keys = sample_keys(media(clips, store), [0, 1], "set")
    assert keys[0] != keys[1]
    assert (sample_keys(media(clips, store), [0, 1], "other set") == keys).all()


def test_a_file_that_is_gone_is_named(tmp_path):
    clips = pictures(tmp_path, [10])
    column = media(clips)
    clips[0].path.unlink()
    with pytest.raises(MmeqError, match=r"0\.bmp can no longer be read"):
        sample_keys(column, [0], "set")


def test_a_folder_of_frames_is_told_by_what_it_holds(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(b"one")
    column = MediaColumn([Clip(folder, "frames")], ImageFormat(), ["0" * 32])
    before = sample_keys(column, [0], "set")
    (folder / "1.jpg").write_bytes(b"other")
    assert (sample_keys(column, [0], "set") != before).all()


def test_views_differ_by_size_and_column(tmp_path):
    clips = pictures(tmp_path, [10])
    seen = [
        view_of(media(clips)),
        view_of(media(clips, format=ImageFormat(resize=16, size=12))),
        view_of(media(clips, format=ImageFormat(resize=18, size=8))),
        view_of(ImageColumn(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))),
        view_of(ImageColumn(torch.zeros(1, 3, 8, 9, dtype=torch.uint8))),
        view_of(TextColumn(["a"])),
        view_of(media(clips, format=AudioFormat(fill="tile"))),
        view_of(media(clips, format=AudioFormat(fill="zero"))),
    ]
    assert all(one != two for k, one in enumerate(seen) for two in seen[:k])
