"""The store: what was written is found again, mapped without a copy; damage is seen and told."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc

from mmeq.data.media import writing
from mmeq.data.media.clip import Blob, Clip
from mmeq.data.media.shards import folder_of, format_key, read_small, shards_of
from mmeq.data.media.store import Store
from mmeq.data.media.writing import Writer, describe, tidy
from mmeq.errors import MmeqError

sys.path.insert(0, str(Path(__file__).parent))
from preparing_toy import Bytes, Scenes

LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc tells the memory")


KEY = "0" * 32


def key_of(n):
    return hashlib.blake2b(str(n).encode(), digest_size=16).hexdigest()


def content(n, size=40):
    return np.random.default_rng(n).integers(0, 256, size, dtype=np.uint8)


def fill(root, numbers, format=None, size=40):
    """One shard of these numbers; every tenth is absent, every tenth and one broken."""
    format = format or Bytes()
    describe(folder_of(root, format), format)
    writer = Writer(folder_of(root, format), format)
    for n in numbers:
        clip = Clip(Path(f"{n}"), f"clips/{n}")
        if n % 10 == 3:
            writer.add(clip, key_of(n), "absent", f"no track in {n}")
        elif n % 10 == 4:
            writer.add(clip, key_of(n), "broken", f"bad {n}")
        else:
            writer.add(clip, key_of(n), "ok", "", n / 2, Blob(content(n, size), (size // 2, 2)))
    return writer.write()


def test_what_was_written_is_found_again(tmp_path):
    fill(tmp_path, range(15))
    fill(tmp_path, range(15, 40))
    store = Store(tmp_path, Bytes())
    assert len(store) == 40
    for n in (0, 14, 15, 39):
        if n % 10 in (3, 4):
            continue
        entry = store.find(key_of(n))
        assert (entry.status, entry.reason, entry.seconds) == ("ok", "", n / 2)
        blob = store.blob(entry)
        assert blob.shape == (20, 2)
        assert (blob.data == content(n)).all()
    absent, broken = store.find(key_of(13)), store.find(key_of(34))
    assert (absent.status, absent.reason) == ("absent", "no track in 13")
    assert (broken.status, broken.reason) == ("broken", "bad 34")
    assert np.isnan(absent.seconds)
    assert store.find(key_of(40)) is None
    assert store.find("x") is None
    assert store.find(key_of(1) + "x") is None


def test_equal_content_has_an_equal_digest_and_no_other(tmp_path):
    format = Bytes()
    describe(folder_of(tmp_path, format), format)
    writer = Writer(folder_of(tmp_path, format), format)
    data = np.arange(6, dtype=np.uint8)
    for n, shape in enumerate([(6,), (6,), (2, 3)]):
        writer.add(Clip(Path("a"), "a"), key_of(n), "ok", "", None, Blob(data, shape))
    writer.add(Clip(Path("a"), "a"), key_of(3), "ok", "", None, Blob(data[::-1], (6,)))
    writer.write()
    store = Store(tmp_path, format)
    digests = [store.find(key_of(n)).digest for n in range(4)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert all(len(digest) == 16 for digest in digests)
    assert store.blob(store.find(key_of(3))).data.tolist() == [5, 4, 3, 2, 1, 0]
    assert np.isnan(store.find(key_of(0)).seconds)


def test_a_digest_may_end_in_zeros(tmp_path, monkeypatch):
    class Zeros:
        update = staticmethod(lambda data: None)
        digest = staticmethod(lambda: b"\1" + bytes(15))

    writer = Writer(tmp_path, Bytes())
    with monkeypatch.context() as patch:
        patch.setattr(writing.hashlib, "blake2b", lambda *a, **k: Zeros)
        writer.add(Clip(Path("a"), "a"), KEY, "absent", "none")
    small = read_small(writer.write(), format_key(Bytes()))
    assert small.digest[0].tobytes() == b"\1" + bytes(15)


def test_nothing_is_there(tmp_path):
    store = Store(tmp_path / "none", Bytes())
    assert len(store) == 0
    assert store.find(key_of(0)) is None


def test_content_is_a_view_that_cannot_be_written(tmp_path):
    fill(tmp_path, range(3))
    store = Store(tmp_path, Bytes())
    first, again = (store.blob(store.find(key_of(1))).data for _ in range(2))
    assert np.shares_memory(first, again)
    assert not first.flags.writeable
    assert not first.flags.owndata
    del store, again
    assert (first == content(1)).all(), "the view must keep the mapping"


@LINUX
def test_no_file_stays_open(tmp_path):
    for k in range(20):
        fill(tmp_path, [10 * k])
    before = len(list(Path("/proc/self/fd").iterdir()))
    store = Store(tmp_path, Bytes())
    views = [store.blob(store.find(key_of(10 * k))) for k in range(20)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert len(views) == 20


@LINUX
def test_private_memory_stays_flat(tmp_path):
    def private():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

    size = 2**20
    for k in range(8):
        fill(tmp_path, [10 * n for n in range(20 * k, 20 * k + 20)], size=size)
    store = Store(tmp_path, Bytes())
    len(store)
    before, total = private(), 0
    for _ in range(2):
        for n in range(160):
            total += int(store.blob(store.find(key_of(10 * n))).data[::512].sum())
    assert total > 0
    assert private() - before < 8, "160 MB were read twice"


def test_a_pickled_store_finds_the_same(tmp_path):
    fill(tmp_path, range(5))
    store = Store(tmp_path, Bytes())
    store.blob(store.find(key_of(1)))
    data = pickle.dumps(store)
    other = pickle.loads(data)
    assert store._maps
    assert not other._maps
    assert (other.blob(other.find(key_of(1))).data == content(1)).all()


def test_a_forked_process_reads_what_its_parent_mapped_and_what_not(tmp_path):
    fill(tmp_path, [0])
    fill(tmp_path, [1])
    store = Store(tmp_path, Bytes())
    store.blob(store.find(key_of(0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads and forks, in newer Pythons
        child = os.fork()
    if child == 0:
        good = all((store.blob(store.find(key_of(n))).data == content(n)).all() for n in (0, 1))
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_first_of_equal_keys_counts(tmp_path):
    format = Bytes()
    folder = folder_of(tmp_path, format)
    describe(folder, format)
    for name, value in (("b", 2), ("a", 1), ("c", 3)):
        writer = Writer(folder, format)
        blob = Blob(np.full(4, value, np.uint8), (4,))
        writer.add(Clip(Path("x"), "x"), key_of(0), "ok", "", None, blob)
        writer.add(Clip(Path("x"), "x"), key_of(value), "absent", f"of {value}")
        writer.write().rename(folder / f"part-{name}.arrow")
    store = Store(tmp_path, format)
    assert len(store) == 4
    assert store.blob(store.find(key_of(0))).data.tolist() == [1, 1, 1, 1]
    assert store.find(key_of(3)).reason == "of 3"


def test_formats_have_folders_of_their_own(tmp_path):
    fill(tmp_path, [0], Bytes())
    assert len(Store(tmp_path, Bytes())) == 1
    assert len(Store(tmp_path, Bytes(plus=1))) == 0
    assert len(Store(tmp_path, Scenes())) == 0
    assert len(Store(tmp_path, Bytes(slow=3.0))) == 1, "what content does not depend on"
    name = folder_of(tmp_path, Bytes()).name
    assert name == f"audio-{format_key(Bytes())[:12]}"
    assert '"plus": 0' in (tmp_path / name / "format.json").read_text()


def refused(root, path, says):
    """The shard at `path` is not used, and a warning says why; the file is left as it is."""
    before = path.read_bytes()
    store = Store(root, Bytes())
    with pytest.warns(UserWarning, match=says) as caught:
        count = len(store)
    assert str(path) in str(caught[0].message)
    assert path.read_bytes() == before
    return count, store


@pytest.mark.parametrize("left", [0, 1, 7, 8, 0.1, 0.5, 0.9, -20, -8, -1])
def test_a_shard_that_was_cut_off_is_not_used(tmp_path, left):
    sound, cut = fill(tmp_path, range(10)), fill(tmp_path, range(10, 20), size=4000)
    data = cut.read_bytes()
    cut.write_bytes(data[: int(len(data) * left) if isinstance(left, float) else left])
    count, store = refused(tmp_path, cut, "is damaged")
    assert count == 10
    assert store.find(key_of(15)) is None
    assert (store.blob(store.find(key_of(5))).data == content(5)).all()
    assert sound.exists()


def test_a_shard_copied_with_holes_is_not_used(tmp_path):
    path = fill(tmp_path, range(10), size=4000)
    data = bytearray(path.read_bytes())
    data[2000:-2000] = bytes(len(data) - 4000)
    at = bytes(data).find(key_of(0).encode())
    data[at : at + 3000] = bytes(3000)
    path.write_bytes(bytes(data))
    assert refused(tmp_path, path, "is damaged")[0] == 0


def test_a_shard_of_another_format_or_version_is_not_used(tmp_path, monkeypatch):
    other = fill(tmp_path, [0], Bytes(plus=1))
    place = folder_of(tmp_path, Bytes())
    place.mkdir()
    moved = other.rename(place / other.name)
    assert refused(tmp_path, moved, "it holds another format")[0] == 0
    moved.unlink()
    monkeypatch.setattr("mmeq.data.media.shards.VERSION", 2)
    later = fill(tmp_path, [1])
    monkeypatch.undo()
    assert refused(tmp_path, later, "it is of version 2, not 1")[0] == 0


def test_an_arrow_file_of_other_columns_is_not_used(tmp_path):
    good = fill(tmp_path, [0])
    with ipc.open_file(str(good)) as reader:
        batch, schema = reader.get_batch(0), reader.schema
    fields = [pa.field("status", pa.int64()) if f.name == "status" else f for f in schema]
    other = pa.schema(fields, metadata=schema.metadata)
    arrays = [
        pa.array([1]) if field.name == "status" else column
        for field, column in zip(fields, batch.columns, strict=True)
    ]
    with ipc.new_file(str(good), other) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=other))
    assert refused(tmp_path, good, "has not the columns")[0] == 0


def test_a_shard_that_goes_while_in_use_is_named(tmp_path):
    path = fill(tmp_path, [0])
    store = Store(tmp_path, Bytes())
    entry = store.find(key_of(0))
    path.unlink()
    with pytest.raises(MmeqError, match=rf"{path.name} can no longer be read .* mmeq.prepare"):
        store.blob(entry)


def test_a_shard_is_full_by_bytes_entries_or_time(tmp_path, monkeypatch):
    writer = Writer(tmp_path, Bytes(), limit=100)
    assert not writer.full
    writer.add(Clip(Path("a"), "a"), key_of(0), "ok", "", None, Blob(content(0, 99), (99,)))
    assert not writer.full
    monkeypatch.setattr(writing, "SECONDS", -1.0)
    assert writer.full
    monkeypatch.setattr(writing, "SECONDS", 100.0)
    writer.add(Clip(Path("a"), "a"), key_of(1), "ok", "", None, Blob(content(0, 1), (1,)))
    assert writer.full
    writer.write()
    assert not writer.full
    assert len(writer) == 0
    assert writer.write() is None
    monkeypatch.setattr(writing, "ENTRIES", 2)
    for n in (2, 3):
        assert not writer.full
        writer.add(Clip(Path("a"), "a"), key_of(n), "absent", "none")
    assert writer.full


def test_a_failed_write_leaves_no_file(tmp_path):
    import resource

    writer = Writer(tmp_path, Bytes())
    writer.add(Clip(Path("a"), "a"), key_of(0), "ok", "", None, Blob(content(0, 10**6), (10**6,)))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, old[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            writer.write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_no_text(tmp_path):
    writer = Writer(tmp_path, Bytes())
    writer.add(Clip(Path("a"), os.fsdecode(b"caf\xe9.wav")), key_of(0), "broken", "\udce9")
    (small,) = [read_small(writer.write(), format_key(Bytes()))]
    assert small.reasons == {0: "\\udce9"}


def test_half_files_of_dead_writers_alone_are_removed(tmp_path):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    host = writing._host()

    def half(owner, process, age=0.0):
        path = tmp_path / f".part-{len(list(tmp_path.iterdir()))}.arrow.{owner}.{process}.tmp"
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age,) * 2)
        return path

    dead, mine = half(host, child), half(host, os.getpid())
    elsewhere, long_ago = half("other", child), half("other", child, age=2 * 86400)
    whole = tmp_path / "part-1.arrow"
    whole.write_bytes(b"x")
    assert sorted(tidy(tmp_path)) == sorted([dead, long_ago])
    assert sorted(tmp_path.iterdir()) == sorted([mine, elsewhere, whole])


@LINUX
def test_a_process_that_nobody_waited_for_is_dead(tmp_path):
    child = os.fork()
    if child == 0:
        os._exit(0)
    time.sleep(0.2)
    assert not writing.alive(child)
    assert writing.alive(os.getpid())
    os.waitpid(child, 0)


@pytest.mark.slow
def test_an_index_of_240000_entries_is_read_fast(tmp_path):
    for k in range(60):
        fill(tmp_path, range(4000 * k, 4000 * k + 4000), size=8)
    assert len(shards_of(folder_of(tmp_path, Bytes()))) == 60
    begin = time.perf_counter()
    store = Store(tmp_path, Bytes())
    assert len(store) == 240_000
    loaded = time.perf_counter() - begin
    begin = time.perf_counter()
    for n in range(0, 240_000, 24):
        assert store.find(key_of(n)) is not None
    found = (time.perf_counter() - begin) * 24
    print(f"index {loaded:.2f} s, 240,000 questions {found:.2f} s")
    assert loaded < 3.0
    assert found < 10.0
