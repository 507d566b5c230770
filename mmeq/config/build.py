"""Builds a run from a valid configuration: data, model, callbacks, loggers, trainer."""

from __future__ import annotations

import logging
import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from mmeq.config.combinations import roots
from mmeq.config.compiling import compile_parts, lacking
from mmeq.config.formats import fit_formats
from mmeq.config.instantiate import instantiate, optimizer, prepared
from mmeq.config.schema import MONITORS
from mmeq.config.validate import Tree, plain_tree
from mmeq.errors import MmeqError, did_you_mean

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from lightning.pytorch.loggers import Logger

    from mmeq.data.datamodule import DataModule
    from mmeq.data.spec import DatasetSpec
    from mmeq.module import MultimodalModule

NOISE = (
    "does not have many workers",
    "smaller than the logging interval",
    "Checkpoint directory .* exists and is not empty",
    "You defined a `validation_step` but have no `val_dataloader`",
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",
    "find_unused_parameters=True was specified in DDP constructor",
    "`broadcast_buffers` is deprecated",
    "module\\(s\\) in eval mode at the start of training",  # bodies that are not trained
    "You have overridden `transfer_batch_to_device` in `LightningModule`",
    "recommended to use `self\\.log",  # the game is computed over all ranks, equal on each
)

LARGE = 192 * 192
"""Places of a picture or spectrogram from which convolutions are faster in channels-last layout;
below they are slower (`make bench`, section training)."""


@dataclass(frozen=True)
class Run:
    """What a main needs: everything built, nothing started.

    Attributes:
        cfg: the configuration as plain dicts and lists, references resolved.
        datamodule: set up; its spec is known.
        module: encoders, fusion and method.
        trainer: ready to fit.
        run_dir: where the run is recorded.
    """

    cfg: Tree
    datamodule: DataModule
    module: MultimodalModule
    trainer: Trainer
    run_dir: Path


def build(cfg: DictConfig | Tree, run_dir: Path, *, evaluation: bool = False) -> Run:
    """Build everything that a run needs, in the order data, model, callbacks, trainer.

    Args:
        cfg: a configuration that `validate` has accepted.
        run_dir: where the run is recorded.
        evaluation: build for looking at a trained model: one device, no callbacks, no logger.

    Raises:
        MmeqError: for data that are absent or damaged, or that the backbone cannot encode.
    """
    import lightning
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch import Trainer

    from mmeq.callbacks.terminal import is_terminal
    from mmeq.config.checkpoint import WholeCheckpoints

    quieten()
    tree = plain_tree(cfg)
    compiled = tree.get("compile", False) and not evaluation  # one pass is over before the compiler
    if compiled and (problem := lacking(tree["trainer"]["accelerator"])) is not None:
        raise MmeqError(problem)
    lightning.seed_everything(tree["seed"], workers=True, verbose=False)
    datamodule = build_data(tree)
    module = build_module(tree, datamodule)
    if compiled:
        compile_parts(module)
    # a batch with gaps may leave out any part of the network
    partial = module.method.partial_updates or not datamodule.spec.complete
    options = trainer_options(tree, run_dir, partial=partial)
    if evaluation:
        options |= {"devices": 1, "num_nodes": 1, "strategy": "auto"}
        options |= {"logger": False, "callbacks": [], "enable_checkpointing": False}
        options |= {"enable_progress_bar": is_terminal()}
    else:
        options |= {"callbacks": callbacks(tree, run_dir)}
        options |= {"plugins": [WholeCheckpoints()]}
        options |= {"logger": build_loggers(tree, run_dir, module)}
    try:
        trainer = Trainer(**options)
    except MisconfigurationException as error:
        raise MmeqError(f"trainer: {error}") from error
    return Run(tree, datamodule, module, trainer, run_dir)


def build_data(tree: Tree) -> DataModule:
    """Build and set up the data module, transforms of the encoders still unknown."""
    from mmeq.data.datamodule import DataModule

    dataset = instantiate(tree["dataset"], **roots(tree))
    fit_formats(dataset, tree["backbone"])
    datamodule = DataModule(
        dataset=dataset,
        batch_size=tree["batch_size"],
        workers=tree["workers"],
        seed=tree["seed"],
        transforms=None,
        missing=tree.get("missing"),
        modality_dropout=tree.get("modality_dropout", 0.0),
    )
    datamodule.setup()
    return datamodule


def build_module(tree: Tree, datamodule: DataModule) -> MultimodalModule:
    """Build encoders, fusion and method for the data; hand the encoders' transforms to them."""
    from mmeq.module import MultimodalModule

    spec, frequencies = datamodule.spec, datamodule.class_frequencies
    encoders = build_encoders(tree, spec)
    datamodule.transforms = {
        name: encoder.transform
        for name, encoder in encoders.items()
        if getattr(encoder, "transform", None) is not None
    }
    fusion = instantiate(
        tree["fusion"],
        modalities=len(spec.modalities),
        dim=tree["backbone"]["dim"],
        classes=len(spec.classes),
        prior=frequencies,
    )
    method = instantiate(
        tree["method"],
        modalities=spec.names,
        seed=tree["seed"],
        dim=tree["backbone"]["dim"],
        classes=len(spec.classes),
    )
    optim = tree["optim"]
    schedule = optim["scheduler"]
    return MultimodalModule(
        spec=spec,
        encoders=encoders,
        fusion=fusion,
        method=method,
        optimizer=optimizer(optim["optimizer"]),
        scheduler=None if schedule is None else prepared(schedule),
        clip_norm=optim["clip_norm"],
        accumulate=optim["accumulate"],
        class_frequencies=frequencies,
        inference=tree["inference"],
        strategy=tree.get("strategy"),
        value=tree["value"] if isinstance(tree["value"], str) else instantiate(tree["value"]),
        estimator=tree["estimator"],
        budget=tree["budget"],
        seed=tree["seed"],
        samples=datamodule.manifest.fingerprints(),
    )


def build_encoders(tree: Tree, spec: DatasetSpec) -> Any:  # noqa: ANN401 - nn.ModuleDict
    """Build an encoder a modality, chosen by its kind."""
    import torch
    from torch import nn

    backbone, encoders = tree["backbone"], nn.ModuleDict()
    shared: Tree = {}  # what encoders of one model have in common, such as its body
    for modality in spec.modalities:
        node = backbone["encoders"].get(modality.kind)
        if node is None:
            raise MmeqError(
                f"modality {modality.name!r} of dataset {spec.name!r} is of kind "
                f"{modality.kind!r}, which backbone {backbone['name']!r} does not encode"
                + did_you_mean(modality.kind, backbone["encoders"])
            )
        try:
            supplied = {"modality": modality, "dim": backbone["dim"], "shared": shared}
            encoder = instantiate(node, **supplied)
        except (ValueError, TypeError) as error:
            path = f"backbone.encoders.{modality.kind}"
            named = str(error).startswith(path)
            raise MmeqError(str(error) if named else f"{path}: {error}") from error
        if modality.kind in ("audio", "image", "video") and math.prod(modality.shape[-2:]) >= LARGE:
            encoder = encoder.to(memory_format=torch.channels_last)
        encoders[modality.name] = encoder
    return encoders


def callbacks(tree: Tree, run_dir: Path) -> list[Any]:
    """Build the callbacks of the configuration in their order, then clock and checkpoint."""
    from lightning.pytorch.callbacks import Timer

    from mmeq.config.checkpoint import RunCheckpoint

    mode = MONITORS[tree["monitor"]]
    names = {
        "name": tree["name"],
        "seed": tree["seed"],
        "backbone": tree["backbone"]["name"],
        **{k: v for k, v in tree["dataset"].items() if k in ("split_seed", "fold")},
    }
    built = [
        instantiate(node, **{"run_dir": run_dir, "names": names, "mode": mode})
        for node in tree["callbacks"].values()
        if node is not None
    ]
    if tree["trainer"]["max_time"] is not None:
        # Trainer(max_time=…) would stop in the middle of an epoch and count it as a whole one
        built.append(Timer(tree["trainer"]["max_time"], interval="epoch", verbose=False))
    return [*built, RunCheckpoint(run_dir, monitor=tree["monitor"], mode=mode)]


def build_loggers(tree: Tree, run_dir: Path, module: MultimodalModule) -> list[Logger]:
    """Build the loggers; there may be none, since the run folder has its own record.

    Of their options ``name``, ``group`` and ``tags`` those that are null tell what the run is.
    """
    from mmeq.config.labels import labels

    built, known = [], labels(tree, module, run_dir)
    for node in filter(None, tree["logger"].values()):
        told = {key: value for key, value in known.items() if node.get(key, "") is None}
        built.append(instantiate({**node, **told}, run_dir=run_dir, save_dir=run_dir))
    return built


def trainer_options(tree: Tree, run_dir: Path, *, partial: bool) -> dict[str, Any]:
    """Return the keyword arguments of ``lightning.Trainer``.

    Args:
        tree: the configuration.
        run_dir: where a profile is written.
        partial: a step leaves parameters without gradient, which DDP must look for.
    """
    import torch
    from lightning.pytorch.profilers import SimpleProfiler
    from lightning.pytorch.strategies import DDPStrategy

    options = {key: value for key, value in tree["trainer"].items() if key != "max_time"}
    cuda = options["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    if not torch.cuda.is_available():  # else torch looks for the driver's library in every step
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    if options["precision"] == "auto":
        options["precision"] = "bf16-mixed" if cuda else "32-true"
    if cuda and options["deterministic"]:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if processes(options) > 1:
        options["strategy"] = DDPStrategy(find_unused_parameters=partial, broadcast_buffers=False)
    if options.pop("profile"):
        options["profiler"] = SimpleProfiler(dirpath=run_dir, filename="profile")
    return {
        **options,
        "default_root_dir": run_dir,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
    }


def processes(trainer: Tree) -> int:
    """Return how many processes the trainer options ask for, all nodes together."""
    devices = trainer["devices"]
    if isinstance(devices, str) and devices.lstrip("-").isdigit():
        devices = int(devices)
    if isinstance(devices, list):
        count = len(devices)
    elif devices in ("auto", -1):
        import torch

        on_gpu = trainer["accelerator"] in ("auto", "gpu", "cuda")
        count = max(1, torch.cuda.device_count()) if on_gpu else 1
    else:
        count = int(devices)
    return count * int(trainer["num_nodes"])


def quieten() -> None:
    """Hide what Lightning says about choices that are made on purpose here."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in NOISE:
        warnings.filterwarnings("ignore", message=f".*{message}.*")
