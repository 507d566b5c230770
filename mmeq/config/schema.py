"""The typed part of a configuration: root, backbone, optim and trainer; who supplies what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from mmeq.inference.orders import Inference, Options

ALLOWED = ("mmeq.", "torch.", "torchvision.", "torchaudio.", "torchmetrics.", "lightning.")
"""First parts of the dotted names that a ``_target_`` may have."""

MONITORS = {
    "val/accuracy": "max",
    "val/macro_f1": "max",
    "val/nll": "min",
    "val/edm": "min",
}
"""What chooses the best checkpoint, and whether more of it is better. Never a test metric."""


@dataclass
class Root:
    """The keys of ``conf/train.yaml``; each is explained there."""

    seed: int
    batch_size: int
    workers: int
    inference: Inference
    value: Literal["accuracy", "nll", "macro_f1"] | dict[str, Any]
    estimator: Literal[
        "auto", "exact", "permutation", "antithetic", "kernel", "regression_adjusted"
    ]
    budget: int | None
    monitor: Literal["val/accuracy", "val/macro_f1", "val/nll", "val/edm"]
    name: str | None
    resume: str | None
    data_root: str | None
    dataset: dict[str, Any]
    backbone: dict[str, Any]
    fusion: dict[str, Any]
    method: dict[str, Any]
    optim: dict[str, Any]
    trainer: dict[str, Any]
    callbacks: dict[str, Any]
    logger: dict[str, Any] = field(default_factory=dict)
    strategy: dict[str, Any] = field(default_factory=dict)
    missing: float | dict[str, Any] | None = None
    modality_dropout: float | dict[str, Any] = 0.0
    prepared: str | None = None
    cache: str | bool | None = None
    jobs_per_gpu: int = 1
    compile: bool = False


@dataclass
class Backbone:
    """``conf/backbone``: an encoder for each kind of modality."""

    name: str
    dim: int
    encoders: dict[str, Any]


@dataclass
class Optim:
    """``conf/optim``: optimizer, schedule, clipping and accumulation."""

    optimizer: dict[str, Any]
    scheduler: dict[str, Any] | None
    clip_norm: float | None
    accumulate: int


@dataclass
class Trainer:
    """``conf/trainer``: what of ``lightning.Trainer`` may be set."""

    max_epochs: int
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    devices: int | str | list[int]
    num_nodes: int
    precision: Literal["auto", "32-true", "bf16-mixed"]
    limit_train_batches: int | float | None
    limit_val_batches: int | float | None
    limit_test_batches: int | float | None
    deterministic: bool | Literal["warn"]
    max_time: str | None
    profile: bool
    detect_anomaly: bool


SECTIONS: dict[str, type] = {
    "backbone": Backbone,
    "optim": Optim,
    "trainer": Trainer,
    "strategy": Options,
}

SUPPLIED: dict[str, frozenset[str]] = {
    "dataset": frozenset({"data_root", "prepared"}),
    "backbone.encoders": frozenset({"modality", "dim", "shared"}),
    "fusion": frozenset({"modalities", "dim", "classes", "prior"}),
    "method": frozenset({"modalities", "seed", "dim", "classes"}),
    "optim.optimizer": frozenset({"params"}),
    "optim.scheduler": frozenset({"optimizer"}),
    "callbacks": frozenset({"run_dir", "names", "mode"}),
    "logger": frozenset({"run_dir", "save_dir"}),
    "value": frozenset(),
}
"""Arguments that mmeq gives itself, by the place of the node: no option of that name exists."""

ELSEWHERE = {
    "trainer.max_steps": "set trainer.max_epochs: a batch makes several optimizer steps, and "
    "max_steps would count each",
    "trainer.min_steps": "set trainer.max_epochs: a batch makes several optimizer steps",
    "trainer.gradient_clip_val": "set optim.clip_norm",
    "trainer.gradient_clip_algorithm": "set optim.clip_norm: clipping is by norm",
    "trainer.accumulate_grad_batches": "set optim.accumulate",
    "trainer.strategy": "leave it out: several devices (trainer.devices=2) run under DDP, set up "
    "as the method needs it; FSDP and DeepSpeed do not work with manual optimisation: tune large "
    "backbones by LoRA, or freeze them",
    "trainer.num_sanity_val_steps": "leave it out: validation hooks measure the game, and a sanity "
    "check would set the first order by two batches",
    "trainer.check_val_every_n_epoch": "leave it out: every epoch is validated, since its Shapley "
    "values set the next order",
    "trainer.val_check_interval": "leave it out: validation closes each epoch",
    "trainer.logger": "choose logger=…",
    "trainer.callbacks": "choose callbacks=… or add +callbacks.<name>._target_=…",
    "trainer.profiler": "set trainer.profile=true (or debug=profile)",
    "trainer.overfit_batches": "choose debug=overfit",
    "trainer.fast_dev_run": "choose debug=fast_dev",
    "trainer.default_root_dir": "set hydra.run.dir",
    "trainer.use_distributed_sampler": "leave it out: mmeq's own samplers part the data",
}
"""Options that people know from Lightning: what to do here instead."""
