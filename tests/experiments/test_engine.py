"""The engine of the questions: sweeps, kept lines, numbers, pages, and runs by forks."""

from __future__ import annotations

import json
from pathlib import Path

import made_up
import numpy as np
import pytest
import yaml
from made_up import README

from mmeq.errors import MmeqError

TINY = {
    "question": "Does it run?",
    "reference": "joint",
    "seeds": [0],
    "splits": [0, 1],
    "history": True,
    "always": ["callbacks=[probe,orders]"],
    "data": ["tiny"],
    "settings": {
        "tiny": {
            "options": [
                *("dataset=synthetic", "dataset.samples=120", "backbone.dim=8", "batch_size=32"),
                *("backbone.encoders.vector.hidden=8", "trainer.max_epochs=2"),
                "trainer.accelerator=cpu",
            ],
            "modalities": ["m0", "m1", "m2"],
        }
    },
    "rows": {
        "joint": ["method=joint", "fusion=memory"],
        "alone": ["method=unimodal", "method.modality=m1", "fusion=late"],
    },
}


@pytest.fixture
def question(tmp_path):
    """Writes a question's folder; returns the folder that it lies in."""

    def written(**changed: object) -> Path:
        told = {key: value for key, value in (TINY | changed).items() if value is not None}
        folder = tmp_path / "tiny"
        folder.mkdir(exist_ok=True)
        (folder / "sweep.yaml").write_text(yaml.safe_dump(told, sort_keys=False), "utf-8")
        return tmp_path

    return written


@pytest.fixture
def read(load, question):
    """Reads the tiny sweep, with changes."""
    return lambda **changed: load("engine.sweep").read("tiny", questions=question(**changed))


def test_rows_of_each_modality_and_every_cross(read):
    sweep = read(
        data=["tiny", "emoji"],
        rows={"joint": ["method=joint"], "{modality} alone": ["method.modality={modality}"]},
        cross=[{"a": ["x=1"], "b": ["x=2"]}, {"c": ["y=1"], "d": []}],
        **{"except": {"tiny": ["m1 alone", "b · c"]}},
    )
    tiny, emoji = sweep.data
    crossed = {"a · c": ["x=1", "y=1"], "a · d": ["x=1"], "b · d": ["x=2"]}
    alone = {f"{m} alone": [f"method.modality={m}"] for m in ("m0", "m2")}
    assert sweep.labels(tiny) == {"joint": ["method=joint"], **alone, **crossed}
    assert list(sweep.labels(emoji))[:3] == ["joint", "image alone", "text alone"]
    assert "b · c" in sweep.labels(emoji)
    jobs = sweep.jobs()
    assert len(jobs) == 2 * (6 + 7)
    job = jobs[1]
    assert (job.table, job.row, job.seed, job.split) == ("tiny", "m0 alone", 0, 0)
    given = job.options
    assert given[: len(tiny.options)] == tiny.options
    assert given[len(tiny.options) :][:2] == (*TINY["always"], "method.modality=m0")
    assert given[-2:] == ("seed=0", "dataset.split_seed=0")
    assert [(j.seed, j.split) for j in jobs[:7:6]] == [(0, 0), (0, 1)]


def test_seeds_and_splits_are_crossed_or_paired(read):
    both = {"seeds": [0, 1], "splits": [5, 6]}
    assert read(**both).replicates == [(0, 5), (0, 6), (1, 5), (1, 6)]
    assert read(**both, paired=True).replicates == [(0, 5), (1, 6)]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"data": ["emojis"]}, "data 'emojis' is unknown; did you mean 'emoji'"),
        ({"reference": "joints"}, "tiny has no row 'joints', the reference; did you mean 'joint'"),
        ({"rows": None, "row": {}}, "'row' is unknown; did you mean 'rows'"),
        ({"seeds": None}, "lacks seeds"),
        ({"except": {"tiny": ["aline"]}}, "row 'aline' is unknown; did you mean 'alone'"),
        ({"except": {"tin": ["alone"]}}, "data 'tin' is unknown; did you mean 'tiny'"),
        ({"except": {"tiny": ["joint"]}}, "tiny has no row 'joint', the reference"),
        ({"paired": True}, "as many seeds as splits, not 1 seeds and 2 splits"),
    ],
)
def test_what_is_wrong_in_a_sweep_is_said(read, changed, told):
    with pytest.raises(MmeqError) as error:
        read(**changed)
    assert told in str(error.value)


def test_an_unknown_question_and_data_that_one_does_not_take(load):
    question_of, here = load("run").question_of, load("engine.sweep").HERE
    with pytest.raises(MmeqError, match="no question 'oder'; did you mean 'order'"):
        question_of("oder", [], here)
    with pytest.raises(MmeqError, match=r"no data of your own; .* approximation/sweep\.yaml"):
        question_of("approximation", ["dataset=mfeat"], here)


def test_data_of_ones_own(load):
    read = load("engine.sweep").read
    given = ("dataset=mfeat", "dataset.modalities=[fou,kar]", "batch_size=8")
    sweep = read("imbalance", given)
    assert [data.name for data in sweep.data] == ["mfeat"]
    assert [*sweep.labels(sweep.data[0])][-2:] == ["fou alone", "kar alone"]
    assert sweep.jobs()[0].options[:3] == given
    assert len(read("missing", ["dataset=cremad"]).jobs()) == 7 * 10  # no row asks for names
    with pytest.raises(MmeqError, match="name the modalities of synthetic"):
        read("imbalance", ["dataset=synthetic"])
    with pytest.raises(MmeqError, match="nosuch"):
        read("imbalance", ["dataset=nosuch"])


def test_other_options_are_another_folder_and_a_stale_line(load, read, tmp_path):
    lines = load("engine.lines")
    (before, *_), (after, *_) = (read(always=given).jobs() for given in ([], ["batch_size=16"]))
    assert before.folder(tmp_path) == read(always=[]).jobs()[0].folder(tmp_path)
    assert before.folder(tmp_path) != after.folder(tmp_path)
    assert before.folder(tmp_path).name == after.folder(tmp_path).name == "seed-0_split-0"
    jobs = read().jobs()
    assert len({job.folder(tmp_path) for job in jobs}) == len(jobs)
    line = bare(before)
    assert lines.run_key(line) == before.key != after.key


def bare(job) -> dict:
    """The part of a line that says which run it is of."""
    named = {"table": job.table, "row": job.row, "seed": job.seed, "split_seed": job.split}
    return {**named, "options": list(job.options)}


def test_lines_are_written_in_order_and_dropped_where_no_job_asks(load, read, tmp_path):
    lines, path = load("engine.lines"), tmp_path / "results.jsonl"
    jobs, others = read().jobs(), read(always=[]).jobs()
    assert lines.read(path) == []
    lines.write(path, [bare(job) for job in [jobs[2], others[1], jobs[0]]], jobs)
    assert lines.read(path) == [bare(jobs[0]), bare(jobs[2])]


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ('{"table": ', "line 2 is damaged"),
        ('{"dataset": "mfeat", "seed": 0}', "line 2 is none of this question, it lacks table, row"),
        ("[1]", "line 2 is none of this question"),
    ],
)
def test_a_line_of_something_else_is_named(load, read, tmp_path, second, told):
    path = tmp_path / "results.jsonl"
    path.write_text(f"{json.dumps(bare(read().jobs()[0]))}\n{second}\n", encoding="utf-8")
    with pytest.raises(MmeqError) as error:
        load("engine.lines").read(path)
    assert str(path) in str(error.value)
    assert told in str(error.value)


def test_intervals_of_known_cases(load):
    numbers = load("engine.numbers")
    assert numbers.estimate([]).n == numbers.estimate([None]).n == 0
    assert numbers.estimate([None]).text() == "–"
    same = numbers.estimate([2.0, None, 2.0])
    assert same == (2, 2, 2, 2)
    assert same.apart
    assert not numbers.estimate([2.0]).apart  # one run says nothing of its noise
    # of two runs the mean of a draw is 0, 1/2 or 1, by 1/4, 1/2, 1/4
    assert numbers.estimate([0.0, 1.0]) == (0.5, 0, 1, 2)
    wide = numbers.estimate([i % 2 for i in range(400)])  # ± 1.96 · 0.5 / √400
    assert (wide.low, wide.high) == pytest.approx((0.451, 0.549), abs=0.004)
    assert numbers.Estimate(-0.04, -1.25, 0.31, 3).text() == "0.0 (−1.2 to 0.3)"


def test_intervals_over_ten_runs_hold_the_mean_as_often_as_they_say(load):
    """Those of plain percentiles do in 90 % of cases only."""
    numbers = load("engine.numbers")
    cases = np.random.default_rng(0).normal(size=(2000, 10))
    ends = [numbers.estimate(case) for case in cases]
    held = np.mean([end.low <= 0 <= end.high for end in ends])
    assert held == pytest.approx(0.95, abs=0.015)


def test_pairs_are_of_equal_seed_and_split(load):
    numbers = load("engine.numbers")

    def run(seed: int, split: int, value: float | None) -> dict:
        return {"seed": seed, "split_seed": split, "x": value}

    ours = [run(0, 0, 5.0), run(0, 1, 7.0), run(1, 0, 1.0), run(1, 1, None)]
    theirs = [run(1, 1, 9.0), run(0, 1, 4.0), run(0, 0, 4.0), run(2, 2, 100.0)]
    found = numbers.difference(ours, theirs, lambda line: line["x"])
    assert (found.mean, found.n) == (2.0, 2)


def test_only_what_is_between_the_marks_is_written(load, tmp_path):
    page, readme = load("engine.page"), tmp_path / "README.md"
    readme.write_text(README, encoding="utf-8")
    for text in ("new\n", "newer\n"):
        page.put(readme, text)
        told = readme.read_text(encoding="utf-8")
        head, tail = README.split("yesterday\n")
        assert told == f"{head}\n{text}\n{tail}"
    readme.write_text(README.replace("<!-- /results -->", ""), encoding="utf-8")
    with pytest.raises(MmeqError, match="lacks the marks"):
        page.put(readme, "new")
    assert "new" not in readme.read_text(encoding="utf-8")


def test_a_question_is_run_once_and_what_fails_is_told(question, command, load, tmp_path):
    """Runs in earnest: two rows, two splits; then nothing; then a row that cannot run."""
    folder, given = tmp_path / "tiny", ("tiny", "--questions", tmp_path)
    question()
    (folder / "README.md").write_text(README, encoding="utf-8")
    first = command(*given, cwd=tmp_path)
    assert first.status == 0, first.stderr
    assert "4 runs, 4 are missing" in first.stdout
    results, readme = folder / "results.jsonl", folder / "README.md"
    kept = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert [(x["row"], x["split_seed"]) for x in kept] == [
        *(("joint", 0), ("alone", 0), ("joint", 1), ("alone", 1))
    ]
    told = readme.read_text(encoding="utf-8")
    assert told.startswith("# Tiny\n\nby hand\n")
    assert told.endswith("<!-- /results -->\n\nafter\n")
    assert "| joint | 2 |" in told
    assert "yesterday" not in told
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert not [*tmp_path.rglob("seed-*.txt")]
    for line in kept:  # so that the lines that the pages are tested on are like real ones
        job = next(j for j in load("engine.sweep").read("tiny", questions=tmp_path).jobs()
                   if j.key == load("engine.lines").run_key(line))  # fmt: skip
        made = made_up.line(job, line["modalities"], history=True)
        assert shape(made) == shape(line)

    before = results.stat().st_mtime_ns
    again = command(*given, cwd=tmp_path)
    assert again.status == 0, again.stderr
    assert "4 runs, 0 are missing" in again.stdout
    assert results.stat().st_mtime_ns == before
    assert readme.read_text(encoding="utf-8") == told

    question(rows={**TINY["rows"], "joint": ["method=joint", "batch_size=0"]})
    broken = command(*given, cwd=tmp_path)
    assert broken.status != 0
    assert "4 runs, 2 are missing" in broken.stdout
    assert "tiny is not on the page: no run of joint" in broken.stdout
    assert "tiny, joint, seed 0, split 1: FAILED" in broken.stdout
    assert "2 runs failed" in broken.stderr
    said = next(x for x in broken.stderr.splitlines() if "split 0" in x).partition(": see ")[2]
    assert "batch_size" in Path(said).read_text(encoding="utf-8")
    left = results.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["row"] for line in left] == ["alone", "alone"]
    assert readme.read_text(encoding="utf-8") == told


def shape(tree: object) -> object:
    """A tree's keys; lists by their length."""
    if isinstance(tree, dict):
        return {key: shape(value) for key, value in tree.items()}
    return len(tree) if isinstance(tree, list) else None


KILLED = """
import os, sys
import mmeq.train
whole = mmeq.train.main
def main():
    if "seed=0" in sys.argv and "dataset.split_seed=1" in sys.argv:
        os.kill(os.getpid(), 9)
    whole()
mmeq.train.main = main
"""


def test_a_killed_run_is_told_and_made_anew(question, command, load, tmp_path):
    folder, given = tmp_path / "tiny", ("tiny", "--questions", tmp_path)
    question(rows={"joint": ["method=joint"]}, always=[])
    (folder / "README.md").write_text(README, encoding="utf-8")
    cut = command(*given, cwd=tmp_path, before=KILLED)
    assert cut.status != 0
    assert "tiny, joint, seed 0, split 1: see" in cut.stderr
    assert "| joint | 1 |" in (folder / "README.md").read_text(encoding="utf-8")
    job = load("engine.sweep").read("tiny", questions=tmp_path).jobs()[1]
    run = job.folder(tmp_path / "runs" / "tiny")
    run.mkdir()
    (run / "left").touch()  # what a kill later on leaves
    after = command(*given, cwd=tmp_path)
    assert after.status == 0, after.stderr
    assert "2 runs, 1 are missing" in after.stdout
    assert "| joint | 2 |" in (folder / "README.md").read_text(encoding="utf-8")
    assert [*run.parent.glob("seed-0_split-1.unfinished-*/left")]
    assert (run / "results.json").is_file()


def test_a_question_that_is_wrong_is_said_without_a_traceback(command, tmp_path):
    done = command("oder", cwd=tmp_path)
    assert done.status != 0
    assert done.stderr.strip().startswith("oder: there is no question 'oder'; did you mean 'order'")
    assert "Traceback" not in done.stderr
    assert not [*tmp_path.iterdir()]
