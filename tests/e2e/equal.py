"""Ranks against one process on the same global batches: ``python -m e2e.equal <folder> <cases>``.

Not a test. The cases are a JSON file, name → configuration (see `composed`); each is trained in
turn, and every rank writes of it ``<name>-<rank>.pt`` into the folder: gradients of the first
steps, weights and buffers, and what each epoch has found. `compared` says how far they are apart.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback, Trainer

from mmeq.callbacks.scheduler import ShapleyScheduler
from mmeq.config import conf_dir, validate
from mmeq.config.build import build_data, build_module, quieten, trainer_options
from mmeq.config.validate import plain_tree
from mmeq.module import MultimodalModule

BATCH = 12
"""Samples of a global batch, whatever the number of ranks."""
BASE = (
    *("dataset=synthetic", "dataset.samples=96", "dataset.classes=5", "dataset.features=15"),
    "dataset.train_size=43",  # the last batch has 7: 4 and 3, or 3, 2 and 2
    *("dataset.snr=[4,3,2]", "dataset.shared=0.9", "dataset.unique=0.9"),
    *("trainer.accelerator=cpu", "trainer.max_epochs=3", "seed=1"),
    *("backbone.dim=8", "backbone.encoders.vector.hidden=8"),
    "backbone.encoders.vector.dropout=0.0",
    *("optim.optimizer._target_=torch.optim.SGD", "optim.optimizer.lr=0.1", "optim.clip_norm=null"),
)
STEP = ["method.pace=step", "method.weigh=equal", "method.weight=1"]
"""The paper's steps, which older records were made with; the default method has others."""
ALIGNED = ["fusion=memory", "fusion.align=feature", "fusion.gain=1"]
"""The same of the memory."""
MEMORY = [*ALIGNED, *STEP]
METHODS: dict[str, list[str]] = {
    "agm": [],
    "amco": ["method.sigma=0.3"],
    "aug": ["method.every=1", "method.heads=2", "method.threshold=0"],
    "cml": [],
    "d_and_r": ["method.every=1", "method.times=2"],
    "di_mml": ["method.contrast_from=1", "method.stage2_share=0.6"],
    "gblend": ["method.super_epoch=1"],
    "greedy": ["method.window=2"],
    "inforeg": ["method.smooth=2"],
    "joint": ["method.weight=0.5"],
    "lfm": [],
    "mla": [],
    "mmcosine": [],
    "mmpareto": [],
    "modality_dropout": ["method.rate=0.5"],
    "mses": ["method.patience=1"],
    "mslr": ["method.window=2"],
    "ogm_ge": [],
    "opm": ["method.warmup=1", "method.p_exe=1"],
    "pmr": [],
    "reconboost": ["method.alternation=1", "method.rectification=1", "trainer.max_epochs=6"],
    "shapley": ["fusion=concat", "method.weight=1"],
    "smv": ["method.warmup=1"],
    "umt": [],
    "unimodal": ["method.modality=m0"],
}
"""Method → options with which what it learns from an epoch feeds the next, within three."""
FUSIONS: dict[str, list[str]] = {
    "memory": MEMORY,
    "memory, feature and sample": [*MEMORY, "fusion.align=both", "fusion.inherit=true"],
    "memory, sample, joint": ["method=joint", *ALIGNED, "fusion.align=sample"],
    "late": [*STEP, "fusion=late"],
    "film": [*STEP, "fusion=film"],
    "gated": [*STEP, "fusion=gated", "fusion.absence=token"],
    "attention": [*STEP, "fusion=attention"],
    "sum": [*STEP, "fusion=sum", "fusion.absence=input"],
    "final": [*MEMORY, "method.supervise=final", "method.alternate=epoch"],
    "sequential, clipped": [*MEMORY, "method.supervise=sequential", "optim.clip_norm=0.5"],
    "prefixes, accumulated": [*MEMORY, "method.supervise=prefixes", "optim.accumulate=2"],
}
"""Beside the methods: fusions, steps of the default method, clipping and accumulation."""
CASES = {**{name: [f"method={name}", *given] for name, given in METHODS.items()}, **FUSIONS}
GAPS = {"m0": 0.75, "m1": 0.3, "m2": 0.3}
FIRST = 8
"""Steps whose gradients are kept: several a batch where a method makes so many."""
MEANS = {"method.seen_2M"}
"""Buffers that hold means over ranks of sums, of which only ratios are used."""


class Keep(Callback):
    """What is compared, and what makes the comparison one: uneven batches, absent classes."""

    def __init__(self) -> None:
        self.gradients: dict[str, torch.Tensor] = {}
        self.epochs: list[dict] = []
        self.steps, self.sizes, self.lacking = 0, [], {"class": 0, "modality": 0}

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        if self.steps < FIRST:
            for name, parameter in pl_module.named_parameters():
                if parameter.grad is not None:
                    self.gradients[f"{self.steps}/{name}"] = parameter.grad.detach().clone()
        self.steps += 1

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.sizes.append(len(batch["label"]))
        self.lacking["class"] += len(batch["label"].unique()) < len(pl_module.spec.classes)
        self.lacking["modality"] += not bool(batch["present"].any(0).all())

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        report = pl_module.report
        self.epochs.append(
            {
                "order": list(pl_module.method.order),
                "phi": report.phi.tolist(),
                "edm": float(report.edm),
                "accuracy": report.values["accuracy"].tolist(),
                "metrics": {name: v.tolist() for name, v in report.values.items()},
                "losses": dict(pl_module.train_losses),
                "told": pl_module.method.describe(),
            }
        )


def composed(cases: dict[str, list[str]], base: tuple[str, ...] = BASE) -> dict[str, dict]:
    """Name → configuration; composed once, since that takes longer than the training."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        configurations = {name: compose("train", [*base, *given]) for name, given in cases.items()}
    for cfg in configurations.values():
        validate(cfg)
    return {name: plain_tree(cfg) for name, cfg in configurations.items()}


def run(warm, folder: Path, trees: dict[str, dict], ranks: int, *, gaps: bool) -> None:
    """Train all cases, each with the same global batches."""
    folder.mkdir()
    changed = {"batch_size": BATCH // ranks, "missing": GAPS if gaps else None}
    for_ranks = {
        name: {**tree, **changed, "trainer": {**tree["trainer"], "devices": ranks}}
        for name, tree in trees.items()
    }
    cases = folder / "cases.json"
    cases.write_text(json.dumps(for_ranks), encoding="utf-8")
    done = warm("e2e.equal", folder, cases, cwd=folder, ranks=ranks)
    assert done.status == 0, done.stderr


def fitted(
    tree: dict, folder: Path, change: Callable[[MultimodalModule], None] | None = None
) -> tuple[Trainer, MultimodalModule, Keep]:
    """Train as `mmeq.train` does, without what only writes; `change` sees the module before."""
    lightning.seed_everything(tree["seed"], workers=True, verbose=False)
    data = build_data(tree)
    module = build_module(tree, data)
    if change is not None:
        change(module)
    partial = module.method.partial_updates or not data.spec.complete
    keep = Keep()
    trainer = Trainer(
        **trainer_options(tree, folder, partial=partial),
        callbacks=[ShapleyScheduler(), keep],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(module, datamodule=data)
    return trainer, module, keep


def train(name: str, tree: dict, folder: Path) -> None:
    """Train a case and write what is compared."""
    trainer, module, keep = fitted(tree, folder)
    weights = {k: v for k, v in module.state_dict().items() if torch.is_tensor(v)}
    kept = {"gradients": keep.gradients, "weights": weights, "epochs": keep.epochs}
    kept |= {"steps": keep.steps, "sizes": keep.sizes, "lacking": keep.lacking}
    torch.save(kept, folder / f"{name}-{trainer.global_rank}.pt")


def held(folder: Path, name: str, ranks: int) -> list[dict]:
    """What each rank holds of a case."""
    return [torch.load(folder / f"{name}-{r}.pt", weights_only=True) for r in range(ranks)]


def compared(many: dict, one: dict, ranks: int) -> dict[str, float]:
    """Largest differences of a rank from one process, by what is compared.

    Of gradients and weights: relative to the largest entry of their tensor.
    """
    scaled = {k: v * ranks if k in MEANS else v for k, v in many["weights"].items()}
    found = {
        "gradients": max(apart(many["gradients"], one["gradients"])),
        "weights": max(apart(scaled, one["weights"])),
    }
    for part in ("order", "phi", "edm", "accuracy", "metrics", "losses", "told"):
        pairs = zip(
            *(numbers([epoch[part] for epoch in x["epochs"]]) for x in (many, one)), strict=True
        )
        found[part] = max((abs(a - b) for a, b in pairs if repr(a) != repr(b)), default=0.0)
    return found


def apart(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> Iterator[float]:
    """Relative difference of each tensor."""
    assert ours.keys() == theirs.keys()
    for name, wanted in theirs.items():
        if wanted.numel():
            size = wanted.double().abs().max().clamp_min(1e-6)
            yield float((ours[name].double() - wanted.double()).abs().max() / size)


def numbers(tree: object) -> Iterator[float]:
    """The numbers of a tree, in order; of a word, one that stands for it."""
    if isinstance(tree, dict):
        yield from numbers([[key, tree[key]] for key in sorted(tree)])
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from numbers(item)
    else:
        yield float(sum(map(ord, tree))) if isinstance(tree, str) else float(tree)


def largest(found: dict[str, float]) -> float:
    """The largest of all; NaN counts as infinite."""
    return max(math.inf if math.isnan(value) else value for value in found.values())


def main() -> None:
    folder = Path(sys.argv[1])
    quieten()
    for name, tree in json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")).items():
        train(name, tree, folder)


if __name__ == "__main__":
    main()
