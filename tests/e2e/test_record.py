"""What a run leaves says the same everywhere: results, history, predictions, a later evaluation."""

import numpy as np
import pytest
import torch
from e2e.running import SMALL, checkpoint, history, results, timeless

from mmeq.game import edm, shapley_values
from mmeq.game.coalitions import all_coalitions, coalition_name

RUNS = {
    "shapley by accuracy": [],
    "joint by nll": ["method=joint", "value=nll", "monitor=val/nll", "fusion=concat"],
    "gaps, balance monitored": ["missing=0.3", "monitor=val/edm", "value=macro_f1"],
}


@pytest.fixture(scope="module", params=RUNS, ids=list(RUNS))
def run(request, warm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("record") / "run"
    options = [*SMALL, *RUNS[request.param], "trainer.max_epochs=4", "optim.optimizer.lr=5e-3"]
    return warm.train(folder, *options)


def values_by_hand(arrays, metric):
    """v(S) of every coalition in binary order from the file alone, by numpy."""
    logits, labels = arrays["logits"].astype(np.float64), arrays["labels"]
    count, classes = len(labels), len(arrays["classes"])
    names = list(arrays["modalities"])
    frequencies = arrays["class_frequencies"]
    rows = {tuple(row): s for s, row in enumerate(arrays["coalitions"].tolist())}
    constant = np.tile(np.log(frequencies), (count, 1))
    values = {}
    for row in all_coalitions(len(names)).tolist():
        answer = logits[:, rows[tuple(row)]] if any(row) else constant
        predicted = answer.argmax(1)
        shifted = answer - answer.max(1, keepdims=True)
        log_probability = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        scores = []
        for label in range(classes):
            hit = ((predicted == label) & (labels == label)).sum()
            both = (predicted == label).sum() + (labels == label).sum()
            if both:
                scores.append(2 * hit / both)
        values[coalition_name(row, names)] = {
            "accuracy": (predicted == labels).mean(),
            "nll": -log_probability[np.arange(count), labels].mean(),
            "macro_f1": np.sum(scores) / classes,
        }
    return {name: value[metric] for name, value in values.items()}


def test_predictions_alone_give_the_results_again(run):
    told = results(run)["test"]
    with np.load(run / "predictions" / "test.npz", allow_pickle=False) as stored:
        arrays = dict(stored)
    names = [str(name) for name in arrays["modalities"]]
    game = told["game"]
    for metric in ("accuracy", "nll", "macro_f1"):
        by_hand = values_by_hand(arrays, metric)
        for coalition, value in by_hand.items():
            assert told["values"][coalition][metric] == pytest.approx(value, abs=1e-6)
    played = torch.tensor(list(values_by_hand(arrays, game).values()), dtype=torch.float64)
    phi = shapley_values(-played if game == "nll" else played)
    for m, name in enumerate(names):
        assert told["phi"][name]["value"] == pytest.approx(phi[m].item(), abs=1e-6)
    assert told["edm"]["value"] == pytest.approx(edm(phi).item(), abs=1e-3)


def test_the_best_epoch_is_chosen_by_validation(run):
    told, lines = results(run), history(run)
    monitor = told["monitor"]["name"]
    assert monitor.startswith("val/")
    lower = monitor in ("val/nll", "val/edm")
    scores = [line["monitor"]["value"] for line in lines]
    known = [score for score in scores if score is not None]
    best = min(known) if lower else max(known)
    assert told["best_epoch"] == scores.index(best)
    assert checkpoint(run, "best")["epoch"] == told["best_epoch"]
    assert told["order"] == lines[told["best_epoch"]]["order"]
    assert told["validation"] == {k: lines[told["best_epoch"]][k] for k in told["validation"]}
    watched = checkpoint(run)["callbacks"]
    assert not any("test/" in str(state) for state in watched.values())


@pytest.mark.parametrize("batch", [None, 7])
def test_an_evaluation_agrees(run, warm, batch):
    options = [f"run={run}", "accelerator=cpu"]
    exact = batch is None
    if batch is not None:
        options.append(f"batch_size={batch}")
    done = warm("mmeq.eval", *options, cwd=run.parent)
    assert done.status == 0, done.stderr
    assert ("agrees with results.json exactly" if exact else "agrees") in done.stdout


def test_an_evaluation_of_the_validation_part_is_the_history_of_the_best_epoch(run, tmp_path):
    """In this process, by the interface that the command uses."""
    from mmeq.callbacks.entries import report_entry
    from mmeq.config import build, runs

    trained = runs.read_config(run, option="run")
    trained.trainer.accelerator = "cpu"
    made = build(trained, tmp_path, evaluation=True)
    made.trainer.test(
        made.module,
        dataloaders=made.datamodule.loader("validation"),
        ckpt_path=run / "checkpoints" / "best.ckpt",
        verbose=False,
        weights_only=True,
    )
    line = history(run)[results(run)["best_epoch"]]
    entry = report_entry(made.module.test_report)
    assert timeless(entry) == {key: line[key] for key in entry}
