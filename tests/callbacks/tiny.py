"""A small real run to hang callbacks on: three noisy views of one label, linear models of each.

Shape suffixes: B batch, S coalitions, C classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmeq.data.spec import DatasetSpec, Modality
from mmeq.game.coalitions import all_coalitions
from mmeq.game.metric import CoalitionGame

NAMES = ("fou", "zer", "mor")
CLASSES = 4


def spec(names: tuple[str, ...] = NAMES) -> DatasetSpec:
    """The spec of the views."""
    views = tuple(Modality(name, "vector", (6,)) for name in names)
    return DatasetSpec("tiny", "random split, seed 0", tuple("abcd"), views)


def batches(samples: int, seed: int, views: int = len(NAMES)) -> DataLoader:
    """Views of rising signal-to-noise; a batch is the contract's dict."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (samples,), generator=generator)
    codes = torch.randn(CLASSES, 6, generator=torch.Generator().manual_seed(99))
    inputs = [
        codes[labels] * (0.3 + 0.5 * view) + torch.randn(samples, 6, generator=generator)
        for view in range(views)
    ]
    rows = list(range(samples))

    def collate(indices: list[int]) -> dict[str, Any]:
        return {
            "inputs": {name: x[indices] for name, x in zip(spec().names, inputs, strict=False)},
            "label": labels[indices],
            "index": torch.tensor(indices),
            "id": [f"sample-{i}" for i in indices],
        }

    return DataLoader(rows, batch_size=16, collate_fn=collate)  # type: ignore[arg-type]


class Ascending(nn.Module):
    """A method's part that callbacks see: order by φ, ascending."""

    uses_fusion = True

    @staticmethod
    def title() -> str:
        """Its name in the record."""
        return "ascending"

    def __init__(self, count: int) -> None:
        super().__init__()
        self.order = tuple(range(count))
        self.seen: list[int] = []

    def on_report(self, report: Any, epoch: int) -> None:
        """Weakest first."""
        self.seen.append(epoch)
        self.order = tuple(sorted(range(len(report.phi)), key=lambda m: float(report.phi[m])))

    def describe(self) -> dict[str, Any]:
        """Nothing to tell."""
        return {}

    def get_extra_state(self) -> Tensor:
        """Keep the order in the checkpoint."""
        return torch.tensor(self.order)

    def set_extra_state(self, state: Tensor) -> None:
        """Take it back."""
        self.order = tuple(state.tolist())


class Tiny(LightningModule):
    """Additive linear evidence of each view, with every attribute that the callbacks read."""

    def __init__(
        self, names=NAMES, nan_at: tuple[int, int] | None = None, value: str = "accuracy"
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        torch.manual_seed(0)
        self.spec, self.nan_at = spec(names), nan_at
        self.encoders = nn.ModuleDict({name: nn.Linear(6, CLASSES) for name in names})
        self.fusion, self.method = nn.Identity(), Ascending(len(names))
        self.inference, self.order = "hybrid", self.method.order
        self.coalitions_SM = torch.as_tensor(all_coalitions(len(names)))[1:]
        frequencies = torch.full((CLASSES,), 1 / CLASSES)
        self.games = nn.ModuleList(
            CoalitionGame(names, frequencies, value=value, draws=50) for _ in range(2)
        )
        self.report = self.test_report = self.first_bad = None
        self.train_losses: dict[str, float] = {}
        self.findings: dict[str, Any] = {}
        self.epoch_findings: dict[str, Any] = {}
        self.seed = 0
        self._losses: dict[str, list[float]] = {}

    @property
    def val_game(self) -> Any:
        """The game on the validation part."""
        return self.games[0]

    @property
    def test_game(self) -> Any:
        """The game on the test part."""
        return self.games[1]

    def logits(self, batch: dict[str, Any]) -> Tensor:
        """Logits of every non-empty coalition, [S, B, C]."""
        each = torch.stack([self.encoders[n](batch["inputs"][n]) for n in self.spec.names])
        return torch.einsum("sm,mbc->sbc", self.coalitions_SM.to(each), each)

    def on_train_epoch_start(self) -> None:
        """Take the order that the method chose."""
        self.order, self._losses, self.first_bad = self.method.order, {}, None
        self.epoch_findings = {}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """One step on the full coalition and, for the record, one loss a view."""
        logits = self.logits(batch)
        loss = nn.functional.cross_entropy(logits[-1], batch["label"])
        if self.nan_at == (self.current_epoch, batch_idx):
            loss, self.first_bad = loss * float("nan"), ("step/zer", batch_idx)
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        for name in ("step/zer", "final"):
            self._losses.setdefault(name, []).append(loss.item())

    def on_validation_start(self) -> None:
        """Sum up the losses."""
        self.train_losses = {k: sum(v) / len(v) for k, v in self._losses.items()}

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Feed the validation game."""
        return self._evaluate(batch, self.games[0])

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Feed the test game."""
        return self._evaluate(batch, self.games[1])

    def _evaluate(self, batch: dict[str, Any], game: Any) -> dict[str, Any]:
        logits = self.logits(batch)
        game.update(logits, batch["label"], batch["index"])
        return {"logits_SBC": logits, **{key: batch[key] for key in ("label", "index", "id")}}

    def on_validation_epoch_end(self) -> None:
        """Compute the report."""
        self.report = self.games[0].compute()
        self.games[0].reset()
        self.log("val/accuracy", float(self.report.values["accuracy"][-1]), logger=False)

    def on_test_epoch_end(self) -> None:
        """Compute the test report."""
        self.test_report = self.games[1].compute()
        self.games[1].reset()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One group with a name for each encoder."""
        return torch.optim.Adam(
            [{"params": e.parameters(), "name": f"encoder/{n}"} for n, e in self.encoders.items()],
            lr=0.02,
        )


class Stop(Callback):
    """Breaks a run off at the end of an epoch, after its line of history."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise."""
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("pulled the plug")


class Kept(ModelCheckpoint):
    """Best and last; Lightning's own writes ``last`` only in epochs that are the best."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``last`` in every epoch."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._last_global_step_saved != trainer.global_step:
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))


def trainer(
    run_dir: Path, callbacks: list[Callback], epochs: int = 2, **options: Any
) -> lightning.Trainer:
    """A CPU trainer as the mains build it, with best and last checkpoints."""
    kept = Kept(
        run_dir / "checkpoints", "best", monitor="val/accuracy", mode="max", save_last=True,
        enable_version_counter=False,
    )  # fmt: skip
    has_bar = any(isinstance(c, lightning.pytorch.callbacks.ProgressBar) for c in callbacks)
    return Trainer(
        max_epochs=epochs, accelerator="cpu", callbacks=[*callbacks, kept],
        enable_progress_bar=has_bar, enable_model_summary=False, num_sanity_val_steps=0,
        default_root_dir=run_dir, **{"logger": False, "devices": 1, **options},
    )  # fmt: skip


def run(
    run_dir: Path, callbacks: list[Callback], module: Tiny | None = None, **options: Any
) -> lightning.Trainer:
    """Fit and test."""
    module = module or Tiny()
    made = trainer(run_dir, callbacks, **options)
    views = len(module.spec.names)
    made.fit(module, batches(64, 1, views), batches(80, 2, views))
    made.test(module, batches(96, 3, views), ckpt_path="best", verbose=False)
    return made
