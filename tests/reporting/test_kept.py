"""Runs kept as lines: they say what their folders said, and damage is named by its line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from reporting.written import write_run

from mmeq.errors import MmeqError
from mmeq.files import write_npz
from mmeq.reporting import compare, keep, kept_runs, markdown, read_folders
from mmeq.reporting.answers import calibration, ece, read_answers
from mmeq.reporting.excerpt import coalitions


def kept(folder, row, table="made", **options):
    return keep(folder, table, row, history=False, **options)


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path):
    """Three rows of three runs each; the reference comes second, by its method and fusion."""
    lines = []
    for seed in range(3):
        for row, accuracy, options in (
            ("zeta", 0.9 + seed / 100, {"method": "shapley", "fusion": "memory"}),
            ("plain joint", 0.8 + seed / 50, {}),
            ("alpha", 0.7, {"method": "mla"}),
        ):
            folder = write_run(
                tmp_path / f"{row}{seed}", accuracy, seed=seed, split=seed, **options
            )
            lines.append(kept(folder, row, options=[f"seed={seed}"]))
    return write(tmp_path / "results.jsonl", lines)


def test_tables_and_rows_are_those_that_the_lines_name(file):
    found = read_folders([str(file)])
    (table,) = compare(found.runs)
    assert table.title == "made"
    assert [row.label for row in table.rows] == ["plain joint", "zeta", "alpha"]
    assert table.reference is table.rows[0]
    assert table.rows[1].estimates["difference"].mean == pytest.approx(0.09)
    assert table.share == pytest.approx(1 / 3)
    (table,) = compare(found.runs, "alpha")
    assert [row.label for row in table.rows] == ["alpha", "zeta", "plain joint"]
    assert "| plain joint | 3 " in markdown([table], found)


def test_a_row_called_joint_concat_is_the_reference(file, tmp_path):
    other = write_run(tmp_path / "other", 0.6, seed=0, split=0, method="mla")
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    write(file, [*lines, kept(other, "joint concat")])
    (table,) = compare(kept_runs(file))
    assert table.reference.label == "joint concat"


def test_folders_and_files_stand_beside_each_other(file, tmp_path):
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    write(tmp_path / "more.jsonl", [{**lines[0], "table": "second"}])
    given = [str(tmp_path / "*.jsonl"), str(file), str(tmp_path / "zeta0")]
    tables = compare(read_folders(given).runs)
    assert [table.title for table in tables] == ["second", "made", "mfeat"]
    with pytest.raises(MmeqError, match=r"none\.jsonl is not there"):
        read_folders([str(tmp_path / "none.jsonl")])


def test_two_lines_of_one_row_with_the_same_seeds_are_an_error(file):
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    write(file, [*lines, lines[4]])
    with pytest.raises(MmeqError, match=r"results.jsonl:5 and .*results.jsonl:10 .*row 'plain joi"):
        compare(kept_runs(file))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"table": "made", "ro', "line 4 is damaged: Unterminated string"),
        ("[]", "line 4 is damaged: it is no JSON object"),
        ('{"table": "made"}', "line 4 is damaged: it is no kept run, it lacks 'row', 'test'"),
    ],
)
def test_a_damaged_line_is_named_and_costs_no_other(file, text, said):
    lines = file.read_text("utf-8").splitlines()
    file.write_text("\n".join([*lines[:3], text, "", *lines[3:]]), encoding="utf-8")
    found = read_folders([str(file)])
    assert len(found.runs) == 9
    assert list(found.damaged) == [Path(f"{file}:4")]
    assert said in found.damaged[Path(f"{file}:4")]
    with pytest.raises(MmeqError, match=said):
        kept_runs(file)


def test_a_file_of_other_lines_is_named_and_costs_no_other(file, tmp_path):
    write(tmp_path / "other.jsonl", [{"accuracy": 1}, {"accuracy": 2}])
    said = r"other.jsonl holds no run that .* line 1 is damaged: .* it lacks 'table', 'row', 'test'"
    with pytest.raises(MmeqError, match=said):
        read_folders([str(tmp_path / "other.jsonl")])
    found = read_folders([str(tmp_path / "*.jsonl")])
    assert len(found.runs) == 9
    assert list(found.damaged) == [tmp_path / "other.jsonl"]


def test_a_row_is_of_one_set_of_modalities(file):
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    lines[3]["alone"] = "a"
    write(file, lines)
    with pytest.raises(MmeqError, match=r"jsonl:1 and .*jsonl:4 are both in row 'zeta' of 'made'"):
        compare(kept_runs(file))


GOOD = {"order": [[0, 1]], "phi": {"a": [0.1], "b": [0.2]}, "edm": [1.0], "accuracy": [0.5]}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"history": {**GOOD, "edm": [1.0, 2.0]}}, "not equally long"),
        ({"history": {**GOOD, "order": [[1, 1]]}}, "does not name each modality once"),
        ({"history": {**GOOD, "phi": {"a": [0.1]}}}, "it lacks 'b'"),
        ({"confusion": [[1, 2]], "classes": ["x", "y"]}, "confusion matrix is not 2 × 2"),
        ({"calibration": [[1, 0.5]]}, "is not count, confidence, accuracy"),
        ({"calibration": [[1, 0.5, 0.5]]}, "has 1 bins, not 10"),
    ],
)
def test_what_figures_count_on_is_checked_when_read(file, entry, said):
    first, *others = (json.loads(line) for line in file.read_text("utf-8").splitlines())
    write(file, [{**first, "history": GOOD}, *others])
    assert len(kept_runs(file)) == 9
    write(file, [first | entry, *others])
    with pytest.raises(MmeqError, match=f"line 1 is damaged: .*{said}"):
        kept_runs(file)


def test_of_many_modalities_the_coalitions_that_say_most_are_kept():
    names = list("abcde")
    values = {
        "+".join(n for m, n in enumerate(names) if k >> m & 1) or "none": {"accuracy": k / 32}
        for k in range(32)
    }
    found = coalitions(values, names)
    assert set(found) == {
        "none", *names, "b+c+d+e", "a+c+d+e", "a+b+d+e", "a+b+c+e", "a+b+c+d", "a+b+c+d+e"
    }  # fmt: skip
    assert found["a+b+c+d+e"] == 31 / 32
    few = {key: values[key] for key in ("none", "a", "b", "a+b")}
    assert coalitions(few, ["a", "b"]) == {key: few[key]["accuracy"] for key in few}


def test_findings_are_kept_without_their_intervals(tmp_path):
    def number(value):
        return {"value": value, "low": 0.0, "high": 1.0}

    found = {
        "missing": {"rates": [{"rate": 0.1, "accuracy": number(0.7), "effective": 0.09}]},
        "probe": {"a": {"accuracy": 0.6, "low": 0.5, "high": 0.7}, "b": {"skipped": "gone"}},
        "strategies": {
            "strategies": {"cyclic": {"accuracy": number(0.8), "closed": number(0.25), "cells": 3}},
            **{name: number(0.123456789) for name in ("oracle", "control", "gap", "excess")},
            "orders": {"tried": 2, "mean": 0.5, "worst": 0.4, "best": 0.6},
        },
    }
    line = kept(write_run(tmp_path / "one", results=found), "r")
    assert line["missing"] == {"0.1": 0.7}
    assert line["probe"] == {"a": 0.6}
    assert line["strategies"]["accuracy"] == {"cyclic": 0.8}
    assert line["strategies"]["closed"] == {"cyclic": 0.25}
    assert line["strategies"]["gap"] == 0.12346
    note = {"strategies": {"note": "all strategies coincide"}, "missing": {"skipped": "no"}}
    line = kept(write_run(tmp_path / "two", results=note), "r")
    assert not {"strategies", "missing", "probe", "history", "ece"} & set(line)


def test_an_unfinished_or_torn_run_is_not_kept(tmp_path):
    folder = write_run(tmp_path / "open", finished=False)
    with pytest.raises(MmeqError, match="not finished"):
        keep(folder, "t", "r")
    folder = write_run(tmp_path / "odd")
    with pytest.raises(MmeqError, match=r"history.jsonl is damaged: it lacks 'order'"):
        keep(folder, "t", "r")


@pytest.fixture
def answering(tmp_path):
    """Four samples, two modalities, two classes; the third row is the coalition of both."""
    folder = write_run(tmp_path / "answering")
    odds = np.array([[0.95, 0.05], [0.65, 0.35], [0.45, 0.55], [0.08, 0.92]])
    logits = np.zeros((4, 3, 2), dtype=np.float32)
    logits[:, 2] = np.log(odds)
    write_npz(
        folder / "predictions/test.npz",
        logits=logits,
        labels=np.array([0, 1, 1, -1]),
        coalitions=np.array([[True, False], [False, True], [True, True]]),
        classes=np.array(["no", "yes"]),
    )
    return folder


def test_confusion_and_calibration_are_of_all_modalities(answering):
    """The last sample has no label; |1 − 0.95|, |0 − 0.65| and |1 − 0.55| in three bins."""
    line = kept(answering, "r")
    assert line["confusion"] == [[1, 0], [1, 1]]
    assert line["classes"] == ["no", "yes"]
    assert line["calibration"][5] == [1, 0.55, 1.0]
    assert line["calibration"][6] == [1, 0.65, 0.0]
    assert line["calibration"][9] == [1, 0.95, 1.0]
    assert sum(count for count, _, _ in line["calibration"]) == 3
    assert line["ece"] == pytest.approx((0.05 + 0.65 + 0.45) / 3, abs=1e-5)
    (run,) = read_folders([str(answering)]).runs
    assert run.numbers["ece"] == pytest.approx(line["ece"], abs=1e-5)


def test_logits_are_read_in_pieces_as_in_one(answering, monkeypatch):
    whole = read_answers(answering)
    monkeypatch.setattr("mmeq.reporting.answers.CHUNK", 1)
    pieces = read_answers(answering)
    np.testing.assert_array_equal(whole.logits_NC, pieces.logits_NC)
    assert len(pieces.logits_NC) == 3


def test_a_random_answer_is_as_uncalibrated_as_a_sum_over_samples_says(answering):
    """The ECE of many samples, by a loop over bins written out."""
    draw = np.random.default_rng(0)
    found = read_answers(answering)
    logits = draw.normal(size=(500, 4)) * 2
    labels = draw.integers(0, 4, 500)
    many = type(found)(labels, logits, tuple("abcd"))
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    sure, right = chance.max(1), chance.argmax(1) == labels
    expected = 0.0
    for k in range(10):
        here = (sure > k / 10) & (sure <= (k + 1) / 10)
        if here.any():
            expected += here.sum() / 500 * abs(right[here].mean() - sure[here].mean())
    assert ece(calibration(many)) == pytest.approx(expected)


def test_damaged_predictions_are_named(answering):
    (answering / "predictions/test.npz").write_bytes(b"no zip")
    with pytest.raises(MmeqError, match=r"test.npz is damaged"):
        kept(answering, "r")
