"""Pickles: what they may hold, what they must not run, what a torn one says."""

import collections
import datetime
import os
import pickle
import pickletools

import numpy as np
import pytest

from mmeq.data.releases.pickles import load_pickle
from mmeq.errors import MmeqError

HELD = {
    "train": {
        "vision": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "labels": np.array([[[1.5]], [[-2.0]]]),
        "id": np.array([["a", "0.1"], ["b", "2"]]),
        "names": np.array(["x$_$1", "y$_$2"], dtype=object),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "bytes": np.array([b"ab", b"c"]),
        "mask": np.array([True, False]),
    },
    "texts": ["ä", "b", None],
    "set": {1, 2},
    "frozen": frozenset({3}),
    "raw": b"\x00\xff",
    "numbers": (1, 2.5, True, 3 + 4j, 10**30, np.float32(0.25), np.int64(-7), np.bool_(True)),
    "ordered": collections.OrderedDict(a=1),
}


def write(path, value, protocol=pickle.HIGHEST_PROTOCOL):
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def same(one, other):
    if isinstance(other, dict):
        assert list(one) == list(other)
        for key in other:
            same(one[key], other[key])
    elif isinstance(other, np.ndarray):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
    else:
        assert one == other
        assert type(one) is type(other)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_round_trips(tmp_path, protocol):
    same(load_pickle(write(tmp_path / "a.pkl", HELD, protocol)), HELD)


def test_module_names_of_both_numpys(tmp_path):
    data = pickle.dumps(np.arange(5), 2)
    mine = b"numpy._core" if b"numpy._core" in data else b"numpy.core"
    for core in (b"numpy._core", b"numpy.core"):
        (tmp_path / "a.pkl").write_bytes(data.replace(mine, core))
        assert load_pickle(tmp_path / "a.pkl").tolist() == [0, 1, 2, 3, 4]


def test_text_of_python_2_is_latin_1(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"(dp0\nU\x03a\xe4bp1\nI3\ns.")
    assert load_pickle(tmp_path / "a.pkl") == {"aäb": 3}


class Evil:
    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_runs(tmp_path, protocol):
    mark = tmp_path / "ran"
    path = write(tmp_path / "a.pkl", {"train": Evil(os.system, f"touch {mark}")}, protocol)
    with pytest.raises(MmeqError, match=r"a\.pkl: the pickle asks for (posix|nt)\.system"):
        load_pickle(path)
    assert not mark.exists()
    # the same stream does run with Python's own reader, so that the test means something
    pickle.loads(path.read_bytes())
    assert mark.exists()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Evil(eval, "1+1"), "builtins.eval"),
        (Evil(getattr, 1, "real"), "builtins.getattr"),
        (datetime.date(2020, 1, 1), "datetime.date"),
        (Evil(np.load, "x"), "numpy.load"),
        (Evil(collections.defaultdict, list), "collections.defaultdict"),
    ],
)
def test_other_globals_are_refused_by_name(tmp_path, value, name):
    with pytest.raises(MmeqError, match=f"asks for {name}"):
        load_pickle(write(tmp_path / "a.pkl", value))


def test_the_array_class_cannot_be_called(tmp_path):
    # ndarray(shape, dtype, buffer, offset, strides) reads memory where it is told to
    with pytest.raises(MmeqError, match="no whole pickle"):
        load_pickle(write(tmp_path / "a.pkl", Evil(np.ndarray, (2,), "f4", b"12345678")))


def test_codecs_other_than_latin_1_are_refused(tmp_path):
    import _codecs

    with pytest.raises(MmeqError, match="encoding 'rot13'"):
        load_pickle(write(tmp_path / "a.pkl", Evil(_codecs.encode, "abc", "rot13")))


def test_objects_from_raw_bytes_are_refused(tmp_path):
    from_buffer = np.arange(3).__reduce_ex__(5)[0]
    evil = Evil(from_buffer, b"12345678", np.dtype("O"), (1,), "C")
    with pytest.raises(MmeqError, match="objects from raw bytes"):
        load_pickle(write(tmp_path / "a.pkl", evil))


def test_outside_objects_are_refused(tmp_path):
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return "elsewhere" if value == 5 else None

    with (tmp_path / "a.pkl").open("wb") as stream:
        Pickler(stream).dump([1, 5])
    with pytest.raises(MmeqError, match="outside object 'elsewhere'"):
        load_pickle(tmp_path / "a.pkl")


def test_a_torn_file_at_any_place(tmp_path):
    whole = pickle.dumps(HELD, 4)
    ends = sorted({pos + 1 for _, _, pos in pickletools.genops(whole)} - {len(whole)})
    for end in [0, *ends[:: max(1, len(ends) // 60)], len(whole) - 1]:
        (tmp_path / "a.pkl").write_bytes(whole[:end])
        with pytest.raises(MmeqError, match=r"a\.pkl is no whole pickle"):
            load_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize("data", [b"not a pickle", b"PK\x03\x04zip", b"\x89HDF\r\n", b"<html>404"])
def test_another_kind_of_file(tmp_path, data):
    (tmp_path / "a.pkl").write_bytes(data)
    with pytest.raises(MmeqError, match=r"a\.pkl is no whole pickle"):
        load_pickle(tmp_path / "a.pkl")


def test_no_file(tmp_path):
    with pytest.raises(MmeqError, match="No such file"):
        load_pickle(tmp_path / "a.pkl")
    with pytest.raises(MmeqError, match="cannot be read"):
        load_pickle(tmp_path)
