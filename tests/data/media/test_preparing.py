"""Preparation: everything once, whatever happens in between; stale, lost and broken things told."""

from __future__ import annotations

import csv
import io
import os
import random
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import mmeq
from mmeq.data.media import locks, progress
from mmeq.data.media.clip import Clip
from mmeq.data.media.locks import locked
from mmeq.data.media.preparing import in_part, prepare, read_part
from mmeq.data.media.progress import Progress, stoppable
from mmeq.data.media.shards import folder_of, format_key, read_small, shards_of
from mmeq.data.media.store import Store
from mmeq.data.media.writing import alive
from mmeq.errors import MmeqError

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from preparing_toy import Bytes, Scenes, Toy  # noqa: E402 - a module that workers can import

COUNT = 24


def write(root, n, data=None):
    path = root / f"{n:03d}.bin"
    path.write_bytes(np.random.default_rng(n).bytes(50 + n) if data is None else data)
    return path


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    for n in range(COUNT):
        write(folder, n)
    return folder


def contents(toy, modality="sound"):
    """Key → what is stored, and that no key is there twice or too much."""
    format = toy.formats[modality]
    store = Store(toy.prepared, format)
    shards = shards_of(store.folder)
    keys = [k for path in shards for k in read_small(path, format_key(format)).keys.tolist()]
    assert len(keys) == len(set(keys)) == len(store), "a key is there twice"
    found = {}
    for key in keys:
        entry = store.find(key.decode())
        blob = store.blob(entry) if entry.status == "ok" else None
        data = (blob.data.tobytes(), blob.shape) if blob else None
        found[key.decode()] = (entry.status, entry.reason, repr(entry.seconds), entry.digest, data)
    return found


def assert_whole(toy, modality="sound"):
    """All clips are stored as their format reads them, and nothing else is there."""
    found, format = contents(toy, modality), toy.formats[modality]
    clips = {clip.fingerprint(): clip for clip in toy.clips()}
    assert found.keys() == clips.keys()
    for key, clip in clips.items():
        blob = format.read(clip)
        assert found[key][0] == "ok"
        assert found[key][4] == (blob.data.tobytes(), blob.shape)
    folder = folder_of(toy.prepared, format)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")], "half files"


def counts(report, modality="sound"):
    (row,) = [row for row in report.rows if row.modality == modality]
    return dict(row.counts)


def start(root, workers=2, slow=0.0, part="1/1", entries=4096, **options):
    environment = {**os.environ, "PYTHONPATH": str(Path(mmeq.__file__).parents[1])}
    environment["TOY_ENTRIES"] = str(entries)
    return subprocess.Popen(
        [sys.executable, str(HERE / "preparing_toy.py"), str(root), str(workers), str(slow), part],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def test_everything_is_decoded_once(root):
    toy = Toy(root)
    report = prepare(toy, workers=2)
    assert_whole(toy)
    assert counts(report) == {"ok": COUNT}
    assert report.decoded == COUNT
    assert report.finished
    assert report.lost == []
    assert report.path is None
    assert report.notes == ["a note"]
    (row,) = report.rows
    assert row.seconds == sum(50 + n for n in range(COUNT))
    shards = shards_of(row.folder)
    assert row.size == sum(path.stat().st_size for path in shards)
    again = prepare(toy, workers=2)
    assert again.decoded == 0
    assert counts(again) == {"ok": COUNT}
    assert shards_of(row.folder) == shards


def test_no_torch_is_loaded_for_it():
    code = "import sys, mmeq.data.media.preparing; sys.exit('torch' in sys.modules)"
    path = str(Path(mmeq.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=True)


def test_modalities_of_one_format_share_what_is_stored(root):
    formats = {"sound": Bytes(), "again": Bytes(), "scene": Scenes(), "more": Bytes(plus=1)}
    toy = Toy(root, formats, spans=((None, None), (0.0, 10.0), (10.0, 20.0), (0.0, 10.0)))
    report = prepare(toy, workers=2)
    assert report.decoded == 3 * 3 * COUNT
    assert [row.total for row in report.rows] == [4 * COUNT] * 4
    assert len({row.folder for row in report.rows}) == 3
    for modality in formats:
        assert_whole(toy, modality)


def kill_group(process):
    os.killpg(process.pid, signal.SIGKILL)


def kill_parent(process):
    process.kill()


@pytest.mark.parametrize("kill", [kill_group, kill_parent])
@pytest.mark.slow
def test_killed_at_random_moments(root, tmp_path, kill):
    for n in range(COUNT, 60):
        write(root, n)
    calm = Toy(root, prepared_in=tmp_path / "calm")
    prepare(calm, workers=1)
    draw, toy = random.Random(5), Toy(root)
    folder = folder_of(toy.prepared, Bytes())
    kept = [set()]

    def grown():
        names = {path.name for path in shards_of(folder)}
        assert names >= kept[-1], "a whole shard was lost"
        return names > kept[-1]

    for sign in (folder.exists, grown, grown, grown, folder.exists):
        process = start(root, slow=0.1, entries=2, start_new_session=True)
        begun = time.monotonic()
        while not sign() and time.monotonic() - begun < 60:
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 0.3))
        kill(process)
        process.communicate()
        grown()
        kept.append({path.name for path in shards_of(folder)})
    assert len(kept[-1]) >= 3, "no kill came in the middle"
    assert len(Store(toy.prepared, Bytes())) < 60, "the kills came when all was over"
    assert "finished True" in finish(start(root))
    assert_whole(toy)
    assert contents(toy) == contents(calm)
    assert kept[-1] < {path.name for path in shards_of(folder)}


def test_killed_while_a_shard_is_written(root):
    toy = Toy(root)
    folder = folder_of(toy.prepared, Bytes())
    code = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from preparing_toy import Bytes, Toy\n"
        "from mmeq.data.media.shards import folder_of\n"
        "from mmeq.data.media.worker import decoded\n"
        "from mmeq.data.media.writing import Writer, describe\n"
        "toy = Toy(Path(sys.argv[2])); folder = folder_of(toy.prepared, Bytes())\n"
        "describe(folder, Bytes()); writer = Writer(folder, Bytes())\n"
        "for clip in toy.clips():\n"
        "    key = clip.fingerprint(); writer.add(clip, key, *decoded(Bytes(), clip, key))\n"
        "os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)\n"
        "writer.write()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(mmeq.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(HERE), str(root)], env=environment, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert len(list(folder.glob(".*.tmp"))) == 1
    assert shards_of(folder) == []
    assert len(Store(toy.prepared, Bytes())) == 0
    prepare(toy, workers=1)
    assert_whole(toy)


@pytest.mark.slow
def test_parts_side_by_side_are_the_whole(root):
    processes = [start(root, workers=1, part=f"{i}/3") for i in (1, 2, 3)]
    decoded = [int(finish(process).split()[-1]) for process in processes]
    assert sum(decoded) == COUNT
    assert min(decoded) > 0
    toy = Toy(root)
    assert_whole(toy)
    report = prepare(toy, workers=1)
    assert report.decoded == 0
    one = prepare(toy, workers=1, part=(2, 3))
    assert one.rows[0].total == decoded[1]


def test_parts_depend_on_names_alone():
    names = [f"clips/{n}.mp4" for n in range(3000)]
    parts = [[name for name in names if in_part(name, (i, 3))] for i in (1, 2, 3)]
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert all(900 < len(part) < 1100 for part in parts)
    # a digest of the name, not Python's hash, which differs in each process
    assert [i for i in (1, 2, 3) if in_part("clips/0.mp4", (i, 3))] == [2]
    assert in_part(os.fsdecode(b"caf\xe9"), (1, 1))


def test_a_file_that_changed_is_decoded_again(root):
    toy = Toy(root)
    prepare(toy, workers=1)
    path = root / "003.bin"
    clip = Clip(path, path.name)
    old = clip.fingerprint()
    stat = path.stat()
    path.write_bytes(path.read_bytes()[::-1])  # the same size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    new = clip.fingerprint()
    assert Store(toy.prepared, Bytes()).find(new) is None
    report = prepare(toy, workers=1)
    assert report.decoded == 1
    store = Store(toy.prepared, Bytes())
    assert store.blob(store.find(new)).data.tobytes() == path.read_bytes()
    assert store.blob(store.find(old)).data.tobytes() == path.read_bytes()[::-1]


def test_a_changed_format_has_another_folder(root):
    prepare(Toy(root), workers=1)
    toy = Toy(root, {"sound": Bytes(plus=7)})
    report = prepare(toy, workers=1)
    assert report.decoded == COUNT
    assert_whole(toy)
    assert_whole(Toy(root))


def test_damaged_shards_are_set_aside_and_their_clips_decoded_again(root):
    toy = Toy(root)
    prepare(toy, workers=2)
    folder = folder_of(toy.prepared, Bytes())
    first = shards_of(folder)[0]
    before = contents(toy)
    half = first.read_bytes()[: first.stat().st_size // 2]
    first.write_bytes(half)
    with pytest.warns(UserWarning, match=rf"{first.name} is not used: it is damaged .*\.damaged"):
        report = prepare(toy, workers=1)
    assert 0 < report.decoded <= COUNT
    assert not first.exists()
    assert first.with_name(first.name + ".damaged").read_bytes() == half
    assert contents(toy) == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prepare(toy, workers=1).decoded == 0


def damage(root):
    write(root, 2, b"bad file")
    write(root, 5, b"late file")
    write(root, 7, b"mute file")
    write(root, 11, b"odd file")
    (root / "013.bin").unlink()
    (root / "013.bin").mkdir()
    return Toy(root, extra=("gone.bin", "000.bin/x.bin"))


def test_what_is_lost_is_told_by_name(root):
    toy = damage(root)
    report = prepare(toy, workers=2)
    assert counts(report) == {
        "ok": COUNT - 5, "absent": 1, "broken": 2, "missing": 2, "unreadable": 2,
    }  # fmt: skip
    assert not report.finished
    assert [str(one) for one in report.lost] == [
        "sound: 002.bin is broken: no header",
        "sound: 005.bin is broken: bad at its end",
        "sound: 011.bin could not be read: ZeroDivisionError: float division by zero "
        f"(preparing_toy.py:{_line('raise ZeroDivisionError')})",
        "sound: 013.bin could not be read: Is a directory",
        "sound: gone.bin is missing",
        "sound: 000.bin/x.bin is missing",
    ]
    rows = list(csv.DictReader(io.StringIO(report.path.read_text())))
    assert report.path == toy.prepared / "broken-toy.csv"
    assert [(row["name"], row["status"]) for row in rows][:3] == [
        ("002.bin", "broken"), ("005.bin", "broken"), ("011.bin", "unreadable"),
    ]  # fmt: skip
    # what may be otherwise next time was not written down
    again = prepare(toy, workers=1)
    assert again.decoded == 2
    assert counts(again) == counts(report)


def _line(text):
    lines = (HERE / "preparing_toy.py").read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if text in line)


def test_the_list_goes_when_all_is_mended(root):
    toy = damage(root)
    toy.extra = ()
    path = prepare(toy, workers=1).path
    (root / "013.bin").rmdir()
    for n in (2, 5, 7, 11, 13):
        write(root, n)
    report = prepare(toy, workers=1)
    assert report.decoded == 5
    assert report.finished
    assert report.path is None
    assert not path.exists()
    assert counts(report) == {"ok": COUNT}


def test_on_broken_raise_ends_at_the_first_and_keeps_what_is_finished(root):
    write(root, 20, b"bad file")
    toy = Toy(root)
    with pytest.raises(MmeqError, match=r"sound: 020.bin is broken: no header; what is finished"):
        prepare(toy, workers=1, on_broken="raise")
    kept = contents(toy)
    assert len(kept) >= 20
    with pytest.raises(MmeqError, match=r"020.bin is broken"):  # known by now
        prepare(toy, workers=1, on_broken="raise")
    assert contents(toy) == kept, "nothing is decoded after the first"
    assert prepare(toy, workers=1).finished
    write(root, 20)
    prepare(toy, workers=1, on_broken="raise")
    assert Counter(status for status, *_ in contents(toy).values()) == {"ok": COUNT, "broken": 1}
    with pytest.raises(MmeqError, match=r"sound: gone.bin is missing"):
        prepare(Toy(root, extra=("gone.bin",)), workers=1, on_broken="raise")


def test_a_file_that_changes_while_it_is_decoded_is_not_stored(root):
    path = write(root, 4, b"touch me")
    toy = Toy(root)
    report = prepare(toy, workers=1)
    assert [str(one) for one in report.lost] == [
        "sound: 004.bin could not be read: it changed while it was decoded"
    ]
    assert len(contents(toy)) == COUNT - 1
    assert prepare(toy, workers=1).finished, "by now it has the time that it is given"
    assert Clip(path, path.name).fingerprint() in contents(toy)


def test_a_worker_that_dies_costs_its_own_clip_alone(root, capfd):
    write(root, 6, b"crash")
    toy = Toy(root)
    report = prepare(toy, workers=1)
    assert len(report.deaths) == 1
    assert "a worker was ended by SIGKILL (was memory short?" in report.deaths[0]
    assert report.deaths[0].endswith("at 006.bin")
    assert counts(report) == {"ok": COUNT - 1, "unreadable": 1}
    assert not report.finished
    assert "006.bin could not be read: the process that decoded it was ended" in str(report.lost[0])
    write(root, 6)
    assert prepare(toy, workers=2).decoded == 1
    assert_whole(toy)


def test_workers_that_cannot_start_are_not_started_for_ever(root, tmp_path, monkeypatch):
    module = tmp_path / "vanishing_format.py"
    module.write_text("from preparing_toy import Bytes\nclass Gone(Bytes):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import vanishing_format

    toy = Toy(root, {"sound": vanishing_format.Gone()})
    module.write_text("")
    report = prepare(toy, workers=1)
    assert len(report.deaths) == 3
    assert all("ended by itself with status 1" in one for one in report.deaths)
    assert counts(report) == {"open": COUNT}
    assert not report.finished


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_what_is_decoded_written(root, number):
    process = start(root, workers=2, slow=0.3, start_new_session=True)
    folder = folder_of(Toy(root).prepared, Bytes())
    while not (root / "reading").exists():
        time.sleep(0.01)
    time.sleep(1.0)
    os.killpg(process.pid, number)  # as a terminal and a scheduler do: the workers get it too
    begun = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - begun < 20
    assert process.returncode == 0, err
    assert f"stopped {int(number)}" in out
    assert "what is decoded is being written" in err
    toy = Toy(root)
    decoded = int(out.split()[-1])
    assert len(contents(toy)) == decoded < COUNT
    assert not list(folder.glob(".*.tmp"))
    assert prepare(toy, workers=1).decoded == COUNT - decoded
    assert_whole(toy)


def test_the_second_signal_ends_at_once():
    before = signal.getsignal(signal.SIGINT)
    with stoppable() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_one_part_is_for_one_process(root, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.2)
    toy = Toy(root)
    name = folder_of(toy.prepared, Bytes()).name
    with locked(toy.prepared, [name], (2, 3)):
        with pytest.raises(MmeqError, match=rf"part 2/3 .*another process \(process {os.getpid()}"):
            prepare(toy, workers=1, part=(2, 3))
        assert prepare(toy, workers=1, part=(1, 3)).finished
        with pytest.raises(MmeqError, match=r"by another process in 3 part\(s\), not in 1"):
            prepare(toy, workers=1)
        with pytest.raises(MmeqError, match="not in 4"):
            prepare(toy, workers=1, part=(2, 4))
        other = Toy(root, {"sound": Bytes(plus=1)})
        assert prepare(other, workers=1).finished
    assert prepare(toy, workers=1).finished
    assert_whole(toy)


def test_the_lock_lasts_as_long_as_a_worker(root, monkeypatch):
    """A killed parent leaves workers for a moment: nobody else may begin before they are gone."""
    monkeypatch.setattr(locks, "PATIENCE", 0.0)
    process = start(root, workers=1, slow=1000.0)
    name = folder_of(Toy(root).prepared, Bytes()).name
    begun = time.monotonic()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("/proc tells no children")
    while not (root / "reading").exists() and time.monotonic() - begun < 60:
        time.sleep(0.05)
    worker = next(int(pid) for pid in children.read_text().split() if _mains(int(pid)))
    os.kill(worker, signal.SIGSTOP)
    process.kill()
    process.wait()
    try:
        with (
            pytest.raises(MmeqError, match="is being prepared"),
            locked(Toy(root).prepared, [name], (1, 1)),
        ):
            pass
    finally:
        os.kill(worker, signal.SIGCONT)
    process.communicate(timeout=30)  # until the worker has let go of the pipes too
    monkeypatch.setattr(locks, "PATIENCE", 5.0)
    with locked(Toy(root).prepared, [name], (1, 1)):
        assert not alive(worker)


def _mains(pid):
    """A worker, not the tracker of resources that multiprocessing starts too."""
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize("where", ["a file", "no permission"])
def test_a_folder_that_cannot_be_written(root, tmp_path, where):
    if where == "a file":
        (tmp_path / "place").write_text("")
        place, says = tmp_path / "place", "Not a directory|File exists"
    else:
        place, says = tmp_path / "closed" / "place", "Permission denied|Operation not permitted"
        place.parent.mkdir(mode=0o500)
        if os.access(place.parent, os.W_OK):  # root may write anywhere but here
            place = Path("/proc/mmeq-prepared")
            says = "No such file or directory|not permitted|denied"
    with pytest.raises(MmeqError, match=rf"prepared={place} cannot be used \(({says}).*prepared=<"):
        prepare(Toy(root, prepared_in=place), workers=1)


@pytest.mark.parametrize("how", ["a full disk", "a limit"])
def test_a_full_disk_keeps_what_is_finished(root, tmp_path, how):
    place = tmp_path / "small"
    place.mkdir()
    toy = Toy(root, prepared_in=place)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    if how == "a full disk":
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "mmeq-test", str(place)]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("no right to mount a small disk")
    try:
        prepare(toy, workers=1)
        before = contents(toy)
        for n in range(COUNT, COUNT + 20):
            write(root, n, np.random.default_rng(n).bytes(100_000))
        if how == "a limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, old[1]))
        said = "No space left on device" if how == "a full disk" else "File too large"
        with pytest.raises(MmeqError, match=rf"cannot be written \({said}\); what is finished"):
            prepare(toy, workers=1)
        assert contents(toy) == before
        assert not list(folder_of(place, Bytes()).glob(".*.tmp"))
        if how == "a full disk":
            subprocess.run(["mount", "-o", "remount,size=9m", str(place)], check=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        assert prepare(toy, workers=1).decoded == 20
        assert_whole(toy)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        if how == "a full disk":
            subprocess.run(["umount", str(place)], check=True)


def test_a_dataset_without_media(root):
    with pytest.raises(MmeqError, match=r"has no media files .*nothing to prepare"):
        prepare(Toy(root, {}), workers=1)


@pytest.mark.parametrize("workers", [0, -1, True])
def test_workers_are_one_or_more(root, workers):
    with pytest.raises(MmeqError, match=rf"prepare.workers={workers}: give 1 or more"):
        prepare(Toy(root), workers=workers)


@pytest.mark.parametrize(
    "text", ["0/16", "17/16", "x", "3", 3, "3/0", "-1/3", "1/2/3", "1.0/2", "", "²/3", "1/ 2"]
)
def test_parts_that_make_no_sense(text):
    with pytest.raises(MmeqError, match=r"prepare.part=.*: give <i>/<n> with i from 1 to n"):
        read_part(text)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_progress_tells_speed_and_the_time_that_is_left(monkeypatch, stream):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = stream()
    shown = Progress(101, "clips", stream)
    now[0] = 6.0
    shown.tick()
    for k in range(21):
        now[0] = 10.0 + k / 2
        shown.advance()
        shown.tick()
    now[0] = 20.0
    shown.tick()
    shown.close()
    text = stream.getvalue()
    assert text.startswith(("mmeq: 0 of 101 clips, workers are starting\n", "\rmmeq: 0 of 101"))
    if stream.isatty():
        assert "mmeq: 21 of 101 clips, 2/s, about 40 s to go" in text  # 20 in 10 s since the first
        assert "\n" not in text
        assert text.endswith("\r")
    else:
        assert text.splitlines()[2:] == ["mmeq: 13 of 101 clips, 2/s, about 44 s to go"]
        assert "\r" not in text
