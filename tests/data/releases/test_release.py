"""What loaders of releases share: lines of label files, folders."""

from __future__ import annotations

import pytest

from mmeq.data.releases.release import entries, text_lines
from mmeq.errors import MmeqError


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_lines_end_in_one_of_three_ways(tmp_path, end, mark):
    path = tmp_path / "list.txt"
    path.write_bytes(mark + end.join([b"a,1", b"", "b,ü".encode()]))
    assert text_lines(path) == ["a,1", "", "b,ü"]


def test_a_carriage_return_within_a_line_is_kept(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"a\rb\nc\n")
    assert text_lines(path) == ["a\rb", "c", ""]


def test_folders_are_sorted_and_what_is_none_is_named(tmp_path):
    for name in ("b", "a10", "a2"):
        (tmp_path / name).touch()
    assert [path.name for path in entries(tmp_path)] == ["a10", "a2", "b"]
    with pytest.raises(MmeqError, match="a2 cannot be read: Not a directory"):
        entries(tmp_path / "a2")
    with pytest.raises(MmeqError, match="gone cannot be read: No such file"):
        entries(tmp_path / "gone")
