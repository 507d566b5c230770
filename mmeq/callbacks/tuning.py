"""How tuning goes step by step: gradient norms, what a step costs other modalities, drift."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from mmeq.callbacks.drawing import draw_figures
from mmeq.callbacks.dynamics import body, drift, final, first_weights, norms_entry, quiet
from mmeq.errors import MmeqError
from mmeq.files import read_jsonl, write_npz
from mmeq.methods.base import Batch, Features, coalition_rows, own_loss

# Shape suffixes: B batch, M modalities, K losses watched (M, and all modalities together).


class TuningDynamics(Callback):
    """Measure what open question 2 of the paper asks of alternating and joint tuning [ours].

    - Gradient norms: the norm of each parameter group's gradient at every step, before clipping;
      a spike is one above `spike` times the median of the `window` steps of that group before it.
    - Interference: by how much a step changes the loss of each modality alone, and that of all
      together, on a fixed draw of validation samples (nats, evaluation mode; positive: it
      forgets). Measured at the steps of each `every`-th batch of an epoch, the first included.
    - Drift: ‖θ − θ₀‖ / ‖θ₀‖ of each encoder's body from its first weights, with θ what an adapter
      makes of them (θ₀ + (alpha / rank) B A); 0 when the body is frozen.
    - Forgetting over epochs (Chaudhry et al. 2018, arXiv 1801.10112): the best value of a modality
      alone in any epoch, less that of the last one.

    An epoch's figures stand in ``history.jsonl`` under ``tuning``, those of the run in
    ``results.json`` under ``tuning``; ``tuning/epoch-0000.npz`` has every step's norms,
    ``figures/tuning.png`` draws all of it. Nothing here draws from the run's randomness or changes
    what is trained.

    Args:
        run_dir: the run folder.
        every: batches between two whose steps are measured for interference.
        samples: of the validation part, at most, that the losses are watched on.
        spike: times the running median that make a spike.
        window: steps of the running median.

    Raises:
        MmeqError: for numbers out of range.
    """

    def __init__(
        self,
        run_dir: str | Path,
        every: int = 10,
        samples: int = 128,
        spike: float = 3.0,
        window: int = 50,
    ) -> None:
        for option, value, least in (
            ("every", every, 1),
            ("samples", samples, 1),
            ("spike", spike, 1),
            ("window", window, 1),
        ):
            if not value >= least:  # NaN neither
                raise MmeqError(f"callbacks.tuning.{option}={value}: give {least} or more")
        self.run_dir = Path(run_dir)
        self.every, self.samples = every, samples
        self.spike, self.window = spike, window
        self.first: dict[str, tuple[dict[str, Tensor], float]] = {}
        self.norms: list[tuple[str, Tensor]] = []
        self.changes: dict[str, list[Tensor]] = {}
        self.probe: list[Batch] = []
        self.seen: list[Features] = []
        self.before_K: Tensor | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep the first weights of what is tuned, before a checkpoint is loaded."""
        module: Any = pl_module
        if stage == "fit":
            self.first = {
                name: first_weights(body(module.encoders[name])) for name in module.spec.names
            }

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the samples to watch, and see every step from now on."""
        module: Any = pl_module
        count = int((trainer.datamodule.manifest.rows("validation")).numel())
        loader = trainer.datamodule.loader(
            "validation", whole=True, share=min(1.0, self.samples / count), draw=(module.seed,)
        )
        self.probe = [module.transfer_batch_to_device(batch, module.device, 0) for batch in loader]
        module.watchers.append(lambda groups: self._watch(module, groups))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin an epoch's record."""
        self.norms, self.changes, self.before_K = [], {}, None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """What was measured before the last batch no longer holds."""
        self.before_K, self.seen = None, []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sum the epoch up, before its line of the history is written."""
        module: Any = pl_module
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        names = list(dict.fromkeys(name for name, _ in self.norms))
        values = torch.stack([norm for _, norm in self.norms]).cpu().numpy() if names else []
        step = np.asarray([names.index(name) for name, _ in self.norms])
        series = {name: np.asarray(values)[step == k] for k, name in enumerate(names)}
        folder, epoch = self.run_dir / "tuning", trainer.current_epoch
        earlier = load_norms(folder / f"epoch-{epoch - 1:04d}.npz")
        if trainer.is_global_zero:
            arrays = {f"series_{k}": series[name] for k, name in enumerate(names)}
            write_npz(folder / f"epoch-{epoch:04d}.npz", names=np.asarray(names), **arrays)
        watched = [*module.spec.names, "+".join(module.spec.names)]
        module.epoch_findings["tuning"] = {
            "norms": {
                name: norms_entry(one, earlier.get(name), self.spike, self.window)
                for name, one in series.items()
            },
            "interference": {
                stepped: {
                    **dict(zip(watched, torch.stack(each).mean(0).tolist(), strict=True)),
                    "steps": len(each),
                }
                for stepped, each in self.changes.items()
            },
            "drift": {
                name: drift(body(module.encoders[name]), *self.first[name])
                for name in module.spec.names
            },
        }

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sum the run up, and draw it."""
        module: Any = pl_module
        history = read_jsonl(self.run_dir / "history.jsonl")
        if not trainer.is_global_zero or not any("tuning" in line for line in history):
            return
        module.findings["tuning"] = final(history)
        from mmeq.callbacks.plot_tuning import plot_tuning

        folder = self.run_dir / "tuning"
        epochs = [load_norms(folder / f"epoch-{line['epoch']:04d}.npz") for line in history]
        drawn = {"tuning": lambda: plot_tuning(history, epochs, self.spike, self.window)}
        draw_figures(trainer, self.run_dir, drawn)

    @contextmanager
    def _watch(self, module: Any, groups: list[dict[str, Any]]) -> Iterator[None]:  # noqa: ANN401
        stepped = steps_of(groups, module.spec.names)
        for group in groups:
            gradients = [p.grad for p in group["params"] if p.grad is not None]
            if gradients:
                series = f"{group['name']} by {stepped}" if "+" in group["name"] else group["name"]
                self.norms.append((series, nn.utils.get_total_norm(gradients).detach()))
        if module.batch % self.every:
            yield
            return
        moved = {id(p) for group in groups for p in group["params"]}
        if self.before_K is None:
            self.seen = self._encoded(module, range(len(module.spec.names)))
            self.before_K = self._losses(module)
        yield
        changed = [
            m
            for m, name in enumerate(module.spec.names)
            if any(id(p) in moved for p in module.encoders[name].parameters())
        ]
        self.seen = self._encoded(module, changed)
        after_K = self._losses(module)
        self.changes.setdefault(stepped, []).append(after_K - self.before_K)
        self.before_K = after_K

    def _encoded(self, module: Any, modalities: Iterable[int]) -> list[Features]:  # noqa: ANN401
        """Encode the watched samples: these modalities anew, the others as they were."""
        chosen, out = set(modalities), []
        for k, batch in enumerate(self.probe):
            rows = list(self.seen[k].rows) if self.seen else [None] * len(module.spec.names)
            with quiet(module):
                for m in chosen:
                    name = module.spec.names[m]
                    rows[m] = module.encoders[name](batch["inputs"][name])
            present_BM = None if module.spec.complete else batch["present"]
            out.append(Features(tuple(rows), present_BM, batch.get("id")))
        return out

    def _losses(self, module: Any) -> Tensor:  # noqa: ANN401
        """Loss of each modality alone and of all, means over the watched samples: [K]."""
        count = len(module.spec.names)
        sets = [*([m] for m in range(count)), range(count)]
        coalitions_KM = coalition_rows(sets, count)
        total_K, weight_K = torch.zeros(2, count + 1, device=module.device)
        for batch, features in zip(self.probe, self.seen, strict=True):
            with quiet(module):
                logits_KBC = module.method.logits(module, features, coalitions_KM).float()
                size = len(batch["label"])
                there_BM = features.present_BM
                seen_K = torch.full_like(total_K, size)
                if there_BM is not None:
                    seen_K[:count] = there_BM.sum(0)
                own_M = own_loss(logits_KBC[:count], batch["label"], features)
                all_1 = module.loss(logits_KBC[count:], batch["label"])
            total_K += torch.cat([own_M, all_1]) * seen_K
            weight_K += seen_K
        return total_K / weight_K


def steps_of(groups: list[dict[str, Any]], names: Sequence[str]) -> str:
    """Name the modalities that a step is for: those with weights of their own in it.

    A group that several encoders share is stepped for each of them, and is nobody's own; where
    there is nothing else, the step is for all who share it.
    """
    owners = [g["name"].partition("/")[2].split("+") for g in groups if "/" in g["name"]]
    own = {names[0] for names in owners if len(names) == 1} or {n for o in owners for n in o}
    return "+".join(name for name in names if name in own) or "fusion"


def load_norms(path: Path) -> dict[str, np.ndarray]:
    """The gradient norms of an epoch's steps by series; nothing where there is no file."""
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[f"series_{k}"] for k, name in enumerate(arrays["names"].tolist())}
