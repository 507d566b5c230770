"""Trains, and keeps what each rank holds: ``python -m e2e.ranks <folder> [override …]``.

Not a test. Writes ``rank-<rank>.pt``: weights, order, report, and the gradients of the first steps.
With the environment variable ``BREAK_AFTER=<epochs>`` it is broken off, its checkpoint written.
"""

import os
import sys
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback

from mmeq.config import build, conf_dir, runs, validate
from mmeq.train import fit


class Keep(Callback):
    """Keeps what a rank holds at the end of the training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gradients: dict[str, torch.Tensor] = {}
        self.steps = 0

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        if trainer.current_epoch == 0 and self.steps < 8:
            for name, parameter in pl_module.named_parameters():
                if parameter.grad is not None:
                    self.gradients[f"{self.steps}/{name}"] = parameter.grad.detach().clone()
            self.steps += 1

    def on_train_end(self, trainer, pl_module) -> None:
        kept = {
            "weights": {k: v for k, v in pl_module.state_dict().items() if torch.is_tensor(v)},
            "order": list(pl_module.method.order),
            "gradients": self.gradients,
            "report": pl_module.report.as_dict(),
        }
        torch.save(kept, self.folder / f"rank-{trainer.global_rank}.pt")


class Break(Callback):
    """Breaks the run off after some epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        if trainer.current_epoch + 1 == self.epochs:
            raise SystemExit(0)


def main() -> None:
    folder, overrides = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides)
    validate(cfg)
    run = build(cfg, folder)
    runs.claim(folder, cfg, overrides, resume=False)
    run.trainer.callbacks.insert(0, Keep(folder))
    if "BREAK_AFTER" in os.environ:
        run.trainer.callbacks.append(Break(int(os.environ["BREAK_AFTER"])))
    fit(run, resume=False)


if __name__ == "__main__":
    main()
