"""Tables as people write them: formats, delimiters, lines, and what is wrong in which line."""

from __future__ import annotations

import csv
import io
import json
import os

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from mmeq.data.own.table import DELIMITERS, read_table
from mmeq.errors import MmeqError

ROWS = [
    {"id": "a", "label": "1", "words": 'said "no", twice'},
    {"id": "b", "label": "0", "words": None},
    {"id": "c", "label": "1", "words": "two\nlines"},
    {"id": "d", "label": "0", "words": "ünï"},
]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_csv(rows, delimiter=",", end="\n"):
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def test_three_formats_say_the_same(tmp_path):
    one = read_table(write(tmp_path / "t.csv", as_csv(ROWS)))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    two = read_table(write(tmp_path / "t.jsonl", text))
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "t.parquet")
    three = read_table(tmp_path / "t.parquet")
    assert one.columns == two.columns == three.columns == COLUMNS
    assert [len(table) for table in (one, two, three)] == [4, 4, 4]
    # the third record of the CSV takes two lines
    assert one.place(3) == "t.csv, line 6"
    assert two.place(3) == "t.jsonl, line 4"
    assert three.place(3) == "t.parquet, row 4"


@pytest.mark.parametrize("delimiter", list(DELIMITERS))
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_delimiters_ends_of_line_and_byte_order_mark(tmp_path, delimiter, end, mark):
    path = write(tmp_path / "t.csv", mark + as_csv(ROWS, delimiter, end).encode())
    table = read_table(path, ["label"])
    assert table.delimiter == delimiter
    assert list(table.columns) == ["id", "label", "words"]
    assert table.columns["words"][3] == "ünï"


def test_the_expected_names_tell_the_delimiter(tmp_path):
    """More cells are not always the better reading."""
    path = write(tmp_path / "t.csv", "label;a, b, c, d\n1;x\n")
    assert list(read_table(path, ["label"]).columns) == ["label", "a, b, c, d"]
    assert read_table(write(tmp_path / "u.tsv", "a,b,c\n1,2,3\n")).columns == {"a,b,c": ["1,2,3"]}


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5), st.sampled_from(sorted(DELIMITERS)))
def test_any_text_survives_a_csv(tmp_path_factory, rows, delimiter):
    wanted = [{"label": f"x{a}", "words": b} for a, b in rows]
    path = write(tmp_path_factory.mktemp("t") / "t.csv", as_csv(wanted, delimiter, "\r\n"))
    table = read_table(path, ["label", "words"])
    assert table.columns["label"] == [row["label"].strip() for row in wanted]
    assert table.columns["words"] == [row["words"].strip() or None for row in wanted]


def test_typed_values_become_texts(tmp_path):
    nan = float("nan")
    rows = [
        {"n": 3, "x": 0.5, "b": True, "s": " in white space "},
        {"n": None, "x": nan, "b": False, "s": "  "},
    ]
    wanted = {
        "n": ["3", None],
        "x": ["0.5", None],
        "b": ["true", "false"],
        "s": ["in white space", None],
    }
    text = "\n\n".join(json.dumps(row) for row in rows)
    table = read_table(write(tmp_path / "t.ndjson", text))
    assert table.columns == wanted
    assert table.place(1) == "t.ndjson, line 3"
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.pq")
    assert read_table(tmp_path / "t.pq").columns == wanted


def test_a_name_that_only_some_objects_have(tmp_path):
    path = write(tmp_path / "t.jsonl", '{"a": 1}\n{"b": 2}\n{"a": 3, "b": 4}\n{}\n')
    assert read_table(path).columns == {"a": ["1", None, "3", None], "b": [None, "2", "4", None]}


def test_unicode_ends_of_line_belong_to_json_texts(tmp_path):
    path = write(tmp_path / "t.jsonl", '{"a": "one\u2028two"}\n{"a": "three"}\n')
    assert read_table(path).columns == {"a": ["one\u2028two", "three"]}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.csv", "label,a\n1,2\n3\n", "line 3 has 1 cells, the header has 2 .*divided by commas"),
        ("t.csv", 'label,a\n1,"x\ny"\n1,2,3\n', "line 4 has 3 cells"),
        ("t.csv", 'label,a\n1,"x\n2,y\n3,z\n', "line 2: .*is a quotation mark not closed"),
        ("t.csv", 'label,a\n1,x\n2,"y"z\n', "line 3: .*quotation mark"),
        ("t.csv", "label,a,a\n1,2,3\n", "t.csv has more than one column 'a'"),
        ("t.csv", "label,,\n1,2,3\n", "t.csv has more than one column without a name"),
        ("t.csv", "", "t.csv is empty"),
        ("t.csv", "label,a\n", "t.csv has no rows"),
        ("t.csv", b"label,a\n1,\xe9t\xe9\n", "line 2 is not UTF-8 .byte 0xe9."),
        ("t.csv", b"\xef\xbb\xbflabel\n\xe9\n", "line 2 is not UTF-8 .byte 0xe9."),
        ("t.csv", "label,a\n1,2\n".encode("utf-16"), "is no UTF-8 text .UTF-16"),
        ("t.csv", "label\nx" + "y" * 200_000 + "\n", "line 2 has a cell of more than 131072 char"),
        ("t.jsonl", '{"label": 1}\n{"label": 2,}\n', "t.jsonl, line 2 is no JSON"),
        ("t.jsonl", '{"label": 1}\n[1]\n', "t.jsonl, line 2 is no object"),
        ("t.jsonl", '{"label": 1}\n"x"\n', "t.jsonl, line 2 is no object"),
        ("t.jsonl", '{"label": 1, "label": 2}\n', "line 1 gives one name twice"),
        ("t.jsonl", '{"label": 1, "a": [1, 2]}\n', "line 1: 'a' holds a list"),
        ("t.jsonl", '{"label": 1, "a": {"b": 2}}\n', "line 1: 'a' holds an object"),
        ("t.jsonl", '{"label": "\\ud800x"}\n', "line 1: 'label' holds half a character"),
        ("t.jsonl", "\n", "t.jsonl has no rows"),
        ("t.parquet", "PAR1 and no more", "t.parquet is no sound Parquet file"),
        ("t.xlsx", "", "path=t.xlsx: a table is read from a file ending in one of .csv"),
        ("t.json", "", "did you mean '.jsonl'"),
    ],
)
def test_what_is_wrong_is_said_by_line(tmp_path, name, content, says):
    path = write(tmp_path / name, content)
    with pytest.raises(MmeqError, match=says):
        read_table(path, ["label"])


def test_characters_of_two_halves_are_whole(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"label": "\\ud83d\\ude00"}\n')
    assert read_table(path).columns["label"] == ["😀"]


def test_no_such_file(tmp_path):
    with pytest.raises(MmeqError, match=r"path=.*none\.csv: there is no such file"):
        read_table(tmp_path / "none.csv")


def test_nested_parquet_and_its_row(tmp_path):
    rows = [{"label": "1", "a": None}, {"label": "2", "a": [0.5]}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    with pytest.raises(MmeqError, match=r"row 2: 'a' holds a list"):
        read_table(tmp_path / "t.parquet")


def test_a_table_is_read_once_until_it_changes(tmp_path):
    path = write(tmp_path / "t.csv", "label\n1\n")
    first = read_table(path)
    assert read_table(path) is first
    write(path, "label\n2\n")
    os.utime(path, ns=(1, 1))
    assert read_table(path).columns == {"label": ["2"]}
