"""Which runs are a table and a row, how rows are named, and how they are compared."""

from __future__ import annotations

import math
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reporting.written import read, write_run

from mmeq.errors import MmeqError
from mmeq.reporting import compare
from mmeq.reporting.notes import notes

MEMORY = {"fusion": "memory"}
SHAPLEY = {"method": "shapley", "fusion": "memory"}


@pytest.fixture
def runs(tmp_path):
    """Write runs into one folder: call it with what each shall be."""
    number = count()

    def add(accuracy=0.8, **options):
        return write_run(tmp_path / f"r{next(number)}", accuracy, **options)

    add.home = tmp_path
    return add


def rows(runs, **options):
    (table,) = compare(read(runs.home), **options)
    return {row.label: row for row in table.rows}


def test_rows_are_named_by_what_tells_them_apart(runs):
    runs()
    runs(**MEMORY)
    runs(**SHAPLEY)
    runs(**SHAPLEY, options={"method.supervise": "sequential"})
    runs(method="unimodal", fusion="late", options={"method.modality": "a"})
    runs(method="unimodal", fusion="late", options={"method.modality": "b"})
    runs(method="mla", results={"fusion": "own heads"})
    assert list(rows(runs)) == [
        "joint · concat",
        "joint · memory",
        "mla",
        "shapley",
        "shapley · method.supervise=sequential",
        "unimodal a",
        "unimodal b",
    ]


def test_an_option_is_named_where_it_is_not_that_of_most_rows(runs):
    long = {"trainer.max_epochs": 60, "optim.scheduler.T_max": 60}  # T_max only follows
    runs(), runs(method="ogm_ge"), runs(method="pmr", options=long)
    runs(method="mla", options={"optim.scheduler": None})
    adam = {"_target_": "torch.optim.Adam", "lr": 0.001, "amsgrad": True}
    runs(method="agm", options={"optim.optimizer": adam})
    stop = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "patience": 10}
    runs(method="mmpareto", options={"callbacks.early_stopping": stop})
    (table,) = compare(read(runs.home))
    assert sorted(row.label for row in table.rows) == [
        "agm · optim.optimizer=Adam",
        "joint",
        "mla · optim.scheduler=null",
        "mmpareto · callbacks.early_stopping=EarlyStopping",
        "ogm_ge",
        "pmr · trainer.max_epochs=60",
    ]
    assert "trainer.max_epochs=20" in table.usual
    assert "optim.optimizer=AdamW" in table.usual


def test_where_no_value_is_that_of_most_rows_every_row_names_its_own(runs):
    runs(method="shapley", options={"method.supervise": "final"})
    runs(method="shapley", options={"method.supervise": "unimodal"})
    runs(), runs(options={"method.weight": 1.0})  # but 0 is off
    assert list(rows(runs)) == [
        "joint",
        "joint · method.weight=1.0",
        "shapley · method.supervise=final",
        "shapley · method.supervise=unimodal",
    ]


def test_what_changes_no_training_splits_no_row(runs):
    watching = {"_target_": "mmeq.callbacks.probe.LinearProbe"}
    runs(seed=0, options={"workers": 4, "name": "x", "trainer.devices": 2})
    runs(seed=1, options={"callbacks.figures": None, "callbacks.probe": watching})
    runs(seed=2, options={"logger.wandb": {"_target_": "a.B"}, "data_root": "/data"})
    (row,) = rows(runs).values()
    assert len(row.runs) == 3
    runs(seed=3, options={"callbacks.scheduler.subset": 0.2})
    assert list(rows(runs)) == ["joint", "joint · callbacks.scheduler.subset=0.2"]


def test_the_folds_of_a_protocol_are_splits_of_one_row(runs):
    for method, add in (("joint", 0.0), ("mla", 0.02)):
        for fold, accuracy in ((1, 0.7), (2, 0.8), (3, 0.9)):
            runs(
                accuracy=accuracy + add,
                method=method,
                options={"dataset.fold": fold},
                results={"fold": fold, "protocol": f"loso fold={fold}, split_seed=0"},
            )
    (table,) = compare(read(runs.home))
    assert table.protocol == "loso"
    joint, mla = table.rows
    assert list(joint.runs) == [(0, f"0, fold {fold}") for fold in (1, 2, 3)]
    assert joint.splits() == {f"0, fold {fold}" for fold in (1, 2, 3)}
    assert mla.estimates["difference"].mean == pytest.approx(0.02)


def test_a_tuned_option_can_be_ignored(runs):
    for seed, lr in enumerate((0.001, 0.01)):
        runs(seed=seed, options={"optim.optimizer.lr": lr})
    assert len(rows(runs)) == 2
    (row,) = rows(runs, ignored=["optim.optimizer.lr"]).values()
    assert row.label == "joint"
    assert len(rows(runs, ignored=["optim"])) == 1
    with pytest.raises(MmeqError, match=r"--ignore optim.optimizer.rl.*'optim.optimizer.lr'"):
        rows(runs, ignored=["optim.optimizer.rl"])


def test_two_runs_of_one_row_with_the_same_seeds_are_an_error(runs):
    one, two = runs(), runs(options={"optim.optimizer.lr": 0.01, "workers": 3})
    rows(runs)
    with pytest.raises(MmeqError) as caught:
        rows(runs, ignored=["optim"])
    for word in (str(one), str(two), "seed 0", "optim.optimizer.lr"):
        assert word in str(caught.value)


def test_a_table_is_what_the_data_are(runs):
    runs(split=0), runs(seed=1, split=1)  # one table: only the split's seed differs
    small = {"protocol": "stratified 60/20/20 split_seed=0 train_size=150"}
    runs(options={"dataset.train_size": 150}, results=small)
    gaps = {"protocol": "stratified 60/20/20 split_seed=0; made gaps: train 30 %, seed 0"}
    runs(options={"missing": 0.3}, results=gaps)
    runs(results={"dataset": "brca"})
    told = {table.title: table for table in compare(read(runs.home))}
    assert sorted(told) == ["brca", "mfeat", "mfeat · missing=0.3", "mfeat · train_size=150"]
    assert len(told["mfeat"].rows[0].runs) == 2
    assert told["mfeat"].share == pytest.approx(1 / 3)


def test_differences_are_paired_by_seed_and_split(runs):
    """Differences 0.02, 0.04, 0.06: mean 0.04, s 0.02, by hand; one run has no partner."""
    for seed, (ours, theirs) in enumerate([(0.72, 0.70), (0.84, 0.80), (0.66, 0.60)]):
        runs(theirs, seed=seed, split=seed)
        runs(ours, seed=seed, split=seed, **SHAPLEY)
    runs(0.99, seed=9, split=9, **SHAPLEY)
    (table,) = compare(read(runs.home))
    row = table.rows[1]
    found = row.estimates["difference"]
    half = 4.3026527 * math.sqrt(1 / 3 + 0.2 / 0.6) * 0.02
    assert (found.mean, found.n) == (pytest.approx(0.04), 3)
    assert (found.low, found.high) == pytest.approx((0.04 - half, 0.04 + half), abs=1e-6)
    assert row.estimates["accuracy"].n == 4
    text = " ".join(notes(table))
    assert "shapley · memory 3 of 4" in text
    assert "1 comparison," in text
    assert "test/train = 0.33" in text


def test_one_split_shows_seed_noise_alone(runs):
    for seed, accuracy in enumerate((0.7, 0.8, 0.9)):
        runs(accuracy, seed=seed)
    (table,) = compare(read(runs.home))
    found = table.rows[0].estimates["accuracy"]
    assert found.mean - found.low == pytest.approx(4.3026527 * 0.1 / math.sqrt(3), abs=1e-6)
    assert "All runs share one split (split_seed=0)" in " ".join(notes(table))


def test_few_crossed_splits_are_said_to_be_few(runs):
    for seed in range(3):
        for split in range(2):
            runs(0.7 + 0.01 * seed + 0.02 * split, seed=seed, split=split)
    (table,) = compare(read(runs.home))
    text = " ".join(notes(table))
    assert "6 pairs of seed and split (3 seeds, 2 splits)" in text
    assert "seen by 2 splits only" in text


def test_only_what_survives_holm_is_marked(runs):
    """p values 0.011 and 0.037 of 2 comparisons: 0.022 and 0.037; of 5 the larger ones fall."""
    steady = [0.00, 0.01, 0.02, 0.03, 0.04]
    for seed, noise in enumerate(steady):
        runs(0.5, seed=seed, split=0)
        runs(0.55 + noise / 2, seed=seed, method="good")
        runs(0.52 + noise, seed=seed, method="fair")
        runs(0.5 + 0.1 * (-1) ** seed, seed=seed, method="noise")
        runs(0.5, seed=seed, method="same")
    (table,) = compare(read(runs.home))
    told = {row.label: row for row in table.rows}
    assert table.comparisons == 3  # differences that do not vary have no t
    assert told["good"].significant
    assert told["fair"].p_holm == pytest.approx(2 * told["fair"].p)
    assert not told["noise"].significant
    assert not told["same"].significant
    assert not told["joint"].significant


def test_the_reference_is_chosen_by_its_label(runs):
    runs(), runs(0.9, **MEMORY), runs(0.7, **SHAPLEY)
    for wanted in ("joint · memory", "joint, memory", "joint memory"):
        (table,) = compare(read(runs.home), wanted)
        assert table.rows[0] is table.reference
        assert table.reference.label == "joint · memory"
        assert table.rows[1].estimates["difference"].mean == pytest.approx(-0.1)
    with pytest.raises(MmeqError, match=r"'joint · memori'.*did you mean 'joint · memory'"):
        compare(read(runs.home), "joint · memori")


def test_a_reference_that_could_be_several_is_none(runs):
    for dim in (32, 64):
        runs(options={"backbone.dim": dim})
    (table,) = compare(read(runs.home))
    assert table.reference is None
    assert "choose one by --reference" in table.remarks[0]
    with pytest.raises(MmeqError, match="could be several rows"):
        compare(read(runs.home), "joint concat")
    (table,) = compare(read(runs.home), "joint · backbone.dim=32")
    assert table.reference is not None


def test_undefined_edm_is_left_out_and_counted(runs):
    runs(seed=0, edm={"value": None}), runs(seed=1, edm={"value": 30.0})
    (table,) = compare(read(runs.home))
    found = table.rows[0].estimates["edm"]
    assert (found.mean, found.n, found.undefined) == (30.0, 1, 1)
    assert "EDM is undefined, and left out, in runs: joint 1 of 2." in notes(table)


def test_the_removal_that_costs_most_is_named(runs):
    runs()
    (row,) = rows(runs).values()
    assert row.lost == "a"  # b alone has 0.4
    assert row.estimates["without"].mean == pytest.approx(0.4)


def test_edm_against_capacity_where_runs_of_one_modality_are_there(runs):
    """φ shares 1/2 each; capacities 0.6 - 0.2 and 0.3 - 0.2, shares 0.8 and 0.2: 60 %."""
    runs(seed=0), runs(seed=1)
    for name, accuracy in (("a", 0.6), ("b", 0.3)):
        options = {"method.modality": name}
        runs(accuracy, method="unimodal", fusion="late", options=options)
    told = rows(runs)
    found = told["joint"].estimates["capacity"]
    assert found.mean == pytest.approx(60.0, abs=1e-4)
    assert (found.n, found.undefined) == (1, 1)  # seed 1 has none
    assert "edm" not in told["unimodal a"].estimates
    runs(0.6, method="unimodal", fusion="sum", options={"method.modality": "a"})
    (table,) = compare(read(runs.home))
    assert "several rows of a alone" in " ".join(table.remarks)


def test_time_and_memory_are_ratios_on_the_same_hardware(runs):
    machine = {"device": "cuda:0", "device_name": "A", "processor": "", "threads": 1}
    used = {"peak_mb": 100.0, "kind": "cuda"}
    import json

    for seed, (ours, name) in enumerate([(20.0, "A"), (40.0, "A"), (900.0, "B")]):
        folder = runs(seed=seed, results={"memory": used})
        (folder / "environment.json").write_text(json.dumps({**machine, "devices": 1}))
        more = {"peak_mb": 150.0, "kind": "cuda" if seed else "rss"}
        told = {"memory": more, "seconds": ours}
        folder = runs(seed=seed, results=told, **SHAPLEY)
        told = {**machine, "device_name": name, "devices": 1}
        (folder / "environment.json").write_text(json.dumps(told))
    row = rows(runs)["shapley · memory"]
    time, memory = row.estimates["time"], row.estimates["memory"]
    assert (time.mean, time.low, time.high, time.n) == (3.0, 2.0, 4.0, 2)
    assert (memory.mean, memory.n) == (1.5, 1)


def test_a_row_that_lacks_what_most_have_says_so(runs):
    stop = {"callbacks.early_stopping": {"_target_": "a.B", "patience": 1}}
    runs(seed=0), runs(seed=1, options=stop)
    runs(seed=2, options={**stop, "optim.scheduler": None})
    assert "joint · callbacks.early_stopping=absent" in rows(runs)


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "method.weight": st.sampled_from([0.0, 0.5, 1]),
        "method.supervise": st.sampled_from(["a", "b", None]),
        "fusion.cell": st.sampled_from(["x", "y"]),
        "optim.scheduler": st.sampled_from([None, {"_target_": "a.B", "gamma": 1}]),
        "callbacks.early_stopping": st.sampled_from(
            [None, {"_target_": "a.B", "patience": 1}, {"_target_": "a.B", "patience": 2}]
        ),
    },
)
RUN = st.tuples(st.sampled_from(["joint", "shapley"]), st.sampled_from(["sum", "memory"]), OPTIONS)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(RUN, min_size=1, max_size=7))
def test_no_two_rows_have_one_label(tmp_path_factory, chosen):
    home = tmp_path_factory.mktemp("runs")
    for seed, (method, fusion, options) in enumerate(chosen):
        write_run(home / f"r{seed}", method=method, fusion=fusion, seed=seed, options=options)
    (table,) = compare(read(home))
    labels = [row.label for row in table.rows]
    assert len(set(labels)) == len(labels)
