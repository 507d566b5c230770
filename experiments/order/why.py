"""Why the order of the steps matters under some losses and hardly under others.

From the same start and batches two models are trained, from the weakest modality to the strongest
and the other way round, under each loss of a step. Told is how far apart that leaves the encoders,
and what an encoder's gradient has to do with the place of its step, on the same batch and weights.

    python experiments/order/why.py          # measures all of it, some minutes; writes why.json
    python experiments/order/why.py --page   # only writes README.md from why.json
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: other runs share the cores

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from engine.numbers import estimate  # noqa: E402
from engine.page import markdown, put  # noqa: E402
from engine.sweep import known_data  # noqa: E402

from mmeq.config import conf_dir, validate  # noqa: E402
from mmeq.config.build import build_data, build_module, quieten, trainer_options  # noqa: E402
from mmeq.config.validate import plain_tree  # noqa: E402
from mmeq.files import write_json  # noqa: E402
from mmeq.methods.base import trained  # noqa: E402
from mmeq.module import MultimodalModule  # noqa: E402

DATA, SEEDS, SPLITS = ("mfeat150", "noise"), range(5), range(2)
MEMORY = "fusion=memory"
LOSSES = ("final", "sequential", "unimodal", "prefixes")
EPOCHS = 5
AT = (1, EPOCHS)
"""Epochs after which is looked."""
PLACES = ("weakest", "middle", "strongest")
ENDS = PLACES[::2]
Weights = dict[str, Tensor]


class Snapshots(lightning.Callback):
    """The state after some epochs."""

    def __init__(self) -> None:
        self.states: dict[int, Weights] = {}

    def on_train_epoch_end(self, trainer: Any, pl_module: MultimodalModule) -> None:
        if (epoch := trainer.current_epoch + 1) in AT:
            self.states[epoch] = copied(pl_module)


def copied(module: MultimodalModule) -> Weights:
    """Weights and buffers."""
    state = module.state_dict().items()
    return {k: v.detach().clone() for k, v in state if isinstance(v, Tensor)}


def tree_of(options: Sequence[str]) -> dict[str, Any]:
    """The configuration of a run whose order stays as it is."""
    given = [MEMORY, *options, "method.order=fixed", f"trainer.max_epochs={EPOCHS}"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", [*given, "trainer.accelerator=cpu"])
    validate(cfg)
    return plain_tree(cfg)


class Fit:
    """A model that was trained in an order: the start, what came of it, and a batch.

    Args:
        tree: the configuration.
        order: of the steps; the modalities' own, and then validated.
        draws: other dropout, from the same start, of the same batches.
    """

    def __init__(
        self, tree: dict[str, Any], order: tuple[int, ...] | None = None, draws: int = 0
    ) -> None:
        lightning.seed_everything(tree["seed"], workers=True, verbose=False)
        data, kept = build_data(tree), Snapshots()
        self.module = build_module(tree, data)
        self.module.seed += draws
        self.method = self.module.method
        self.order = self.method.order if order is None else order
        self.method.order = self.order
        self.start = copied(self.module)
        with tempfile.TemporaryDirectory() as folder:
            # only what tells which modality is weak is validated
            given = {**trainer_options(tree, Path(folder), partial=True)}
            given["limit_val_batches"] = 0 if order else 1.0
            given["check_val_every_n_epoch"] = EPOCHS
            trainer = lightning.Trainer(
                **given, callbacks=[kept], logger=False, enable_checkpointing=False,
                enable_progress_bar=False,
            )  # fmt: skip
            trainer.fit(self.module, datamodule=data)
        self.states, self.batch = kept.states, next(iter(data.train_dataloader()))

    def encoder(self, state: Weights, m: int) -> Tensor:
        """The trained weights of an encoder, as one vector."""
        own = {id(parameter) for parameter in trained(self.module.encoder(m))}
        names = [name for name, p in self.module.named_parameters() if id(p) in own]
        return torch.cat([state[name].flatten() for name in names]).double()

    def gradient(self, state: Weights, m: int, place: int) -> Tensor:
        """What m's encoder receives when its step has this place, the others keep their order."""
        self.module.load_state_dict(state, strict=False)
        self.module.train()
        torch.manual_seed(0)  # the same dropout at every place
        others = [other for other in self.order if other != m]
        self.method.order = (*others[:place], m, *others[place:])
        features = self.module.encode(self.batch).only(m)
        coalitions_SM, weight_S = self.method.targets(place)
        logits_SBC = self.module.fuse(features, coalitions_SM, (self.method.order,))
        loss = self.module.loss(logits_SBC, self.batch["label"]) @ weight_S
        found = self.module.gradients(loss, [m])[m]
        return torch.cat([gradient.flatten() for gradient in found]).double()


def apart(one: Fit, other: Fit, epoch: int, m: int) -> float:
    """‖θ_a − θ_b‖ / ‖θ_a − θ_0‖ of an encoder."""
    a, b = (fit.encoder(fit.states[epoch], m) for fit in (one, other))
    return float((a - b).norm() / (a - one.encoder(one.start, m)).norm())


def measured(options: Sequence[str], order: tuple[int, ...]) -> dict[str, Any]:
    """Epoch → place in the order → what is found of its encoder, of one run of one loss."""
    tree = tree_of(options)
    one, other, redrawn = Fit(tree, order), Fit(tree, order[::-1]), Fit(tree, order, draws=1000)
    out: dict[str, Any] = {}
    for epoch in AT:
        out[str(epoch)] = {}
        for m, name in zip(order, PLACES, strict=True):
            state = one.states[epoch]
            first, last = one.gradient(state, m, 0), one.gradient(state, m, len(order) - 1)
            out[str(epoch)][name] = {
                "apart": apart(one, other, epoch, m),
                "dropout": apart(one, redrawn, epoch, m),
                "cosine": float(F.cosine_similarity(first, last, dim=0)),
                "length": float(last.norm() / first.norm()),
            }
    return out


def ascending(options: Sequence[str]) -> tuple[int, ...]:
    """The modalities by φ on validation, the weakest first."""
    phi = Fit(tree_of(options)).module.report.phi
    return tuple(torch.argsort(phi, stable=True).tolist())


def measure() -> list[dict[str, Any]]:
    """A line a data set, seed, split and loss."""
    lines, known = [], known_data({})
    for data in DATA:
        for seed in SEEDS:
            for split in SPLITS:
                here = [*known[data].options, f"seed={seed}", f"dataset.split_seed={split}"]
                order = ascending(here)
                names = [known[data].modalities[m] for m in order]
                for loss in LOSSES:
                    found = measured([*here, f"method.supervise={loss}"], order)
                    run = {"data": data, "loss": loss, "seed": seed, "split": split}
                    lines.append({**run, "order": names, "found": found})
                print(f"{data}, seed {seed}, split {split}: {' < '.join(names)}", flush=True)
    return lines


def text(lines: Sequence[dict[str, Any]]) -> str:
    """The table."""
    body = []
    for data in dict.fromkeys(line["data"] for line in lines):
        for loss in LOSSES:
            here = [x["found"] for x in lines if (x["data"], x["loss"]) == (data, loss)]

            def cell(epoch: int, place: str, name: str, here: list[dict[str, Any]] = here) -> str:
                return estimate(found[str(epoch)][place][name] for found in here).text(2)

            cells = [cell(epoch, place, "apart") for epoch in AT for place in ENDS]
            for name in ("dropout", "cosine", "length"):
                cells += [cell(EPOCHS, place, name) for place in ENDS]
            body.append([data, loss, *cells])
    head = ["data", "loss of a step"]
    head += [f"apart, epoch {epoch}: {place}" for epoch in AT for place in ENDS]
    head += [f"{name}: {place}" for name in ("dropout", "cosine", "length") for place in ENDS]
    runs = len({(line["seed"], line["split"]) for line in lines})
    return (
        f"{markdown(head, body)}\n"
        "Apart: ‖θ_a − θ_b‖ / ‖θ_a − θ_0‖ of the encoder of the weakest and of the strongest "
        "modality, trained from the same start and batches from weak to strong (a) and from "
        "strong to weak (b); 0: order changes nothing, 1: as much as training does. Dropout: the "
        f"same where (b) keeps the order and draws other dropout, after {EPOCHS} epochs. Cosine: "
        "between the gradients that this encoder receives in its step at the first place and at "
        f"the last, on the same batch and weights, after {EPOCHS} epochs; length: of the last "
        f"over the first. Weak is what has the lower φ on validation after {EPOCHS} epochs of the "
        f"unimodal loss. All models: {MEMORY}. Means over {runs} runs, in brackets 95 % "
        "intervals (bootstrap over runs).\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page", action="store_true", help="only write the page")
    if not parser.parse_args().page:
        quieten()
        torch.set_num_threads(1)
        write_json(HERE / "why.json", measure())
    lines = json.loads((HERE / "why.json").read_text(encoding="utf-8"))
    put(HERE / "README.md", text(lines), "why")


if __name__ == "__main__":
    main()
