"""Every question of the engine: its runs are valid, and its page does not fail after hours."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import made_up
import pytest
import yaml
from hydra import compose, initialize_config_dir
from matplotlib.figure import Figure

from mmeq.config import conf_dir, validate
from mmeq.reporting.kept import run_of

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
QUESTIONS = [
    path.parent.name
    for path in sorted(EXPERIMENTS.glob("*/sweep.yaml"))
    if "question" in yaml.safe_load(path.read_text(encoding="utf-8"))
]
OWN = ["dataset=mfeat", "dataset.modalities=[fou,mor]"]


@pytest.fixture(scope="module")
def engine(load):
    """Gives what reads sweeps and what loads a question's page."""
    figure, page, runs = (load(f"engine.{name}") for name in ("figure", "page", "runs"))
    default = SimpleNamespace(
        text=lambda kept, sweep: page.tables(kept, sweep.reference),
        figure=lambda kept, sweep: figure.dots(kept, sweep.reference),
    )

    def own(question: str):
        return runs.module_of(EXPERIMENTS / question, "page") or default

    return load("engine.sweep").read, own


def lines(sweep, lacking=()) -> list[dict]:
    """A line of every job of a sweep, but of those for which `lacking` are the first rows."""
    names = {data.name: data.modalities for data in sweep.data}
    return [
        made_up.line(job, names[job.table], history=sweep.history)
        for job in sweep.jobs()
        if (job.table, job.row, job.seed, job.split) not in lacking
    ]


def test_there_are_the_questions():
    assert {"imbalance", "order", "missing", "memory", "balanced", "potential"} < {*QUESTIONS}


@pytest.fixture(scope="module")
def seen():
    """What has been composed of any question."""
    return set()


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_option_is_valid(engine, seen, question):
    """Rows until each of their options was there, on as few data sets: all would take minutes.

    Data sets that differ in the values of the same options count as one.
    """
    sweep, chosen = engine[0](question), {}
    for data in sweep.data:
        names = {o if o.startswith("dataset=") else o.partition("=")[0] for o in data.options}
        for row, options in sweep.labels(data).items():
            items = {frozenset(names), *sweep.always, *(options or [question])}
            if not items <= seen:
                chosen[data.name, row] = [*data.options, *sweep.always, *options]
            seen |= items
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for (data, row), options in chosen.items():
            cfg = compose("train", options)
            validate(cfg)
            fusion = cfg.fusion._target_.rpartition(".")[2].lower()
            # joint training takes concat unless it is told: a label must not say what is not so
            told = [name for name in ("concat", "memory") if name in row]
            assert not told or fusion in told, f"{data}: {row} has fusion {fusion}"
            if "joint" in row:
                assert cfg.method._target_.endswith(".Joint")


def test_joint_training_and_alternation_share_the_fusion_where_orders_are_compared(engine):
    sweep = engine[0]("order")
    rows = sweep.labels(sweep.data[0])
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        found = {
            row: compose("train", [*sweep.data[0].options, *sweep.always, *rows[row]]).fusion
            for row in ("joint", "joint + unimodal loss", sweep.reference)
        }
    assert found["joint"] == found["joint + unimodal loss"] == found[sweep.reference]


def test_lines_made_up_are_such_as_reports_read(engine):
    for line in lines(engine[0]("potential"))[:3] + lines(engine[0]("imbalance"))[:9]:
        assert run_of(line, Path("x")).row == line["row"]


@pytest.mark.parametrize("own", [[], OWN], ids=["bundled", "own data"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_pages_are_written_of_lines_made_up(engine, question, own):
    """Whole, and where some runs have failed: a page must not fail when hours of runs are done."""
    sweep, page = engine[0](question, own), engine[1](question)
    whole = lines(sweep)
    text = page.text(whole, sweep)
    for data in sweep.data:
        assert data.name in text
    for row in ("shapley memory", "joint concat"):
        assert row in text or row not in sweep.rows
    assert not re.search(r"\bnan\b", text)
    seed, split = sweep.replicates[0]
    rows = list(sweep.labels(sweep.data[0]))
    failed = [(sweep.data[0].name, row, seed, split) for row in (sweep.reference, rows[-1])]
    for made in ([], failed):
        drawn = {"figure": page.figure(lines(sweep, made), sweep)}
        if hasattr(page, "figures"):
            drawn |= page.figures(lines(sweep, made), sweep)
        assert all(isinstance(each, Figure) and each.axes for each in drawn.values())
        assert page.text(lines(sweep, made), sweep)
    once = [line for line in whole if (line["seed"], line["split_seed"]) == (seed, split)]
    assert page.text(once, sweep)
    assert page.figure(once, sweep).axes
