"""Trained runs taken up again for a look: their configuration, a checkpoint, one device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from mmeq.config import runs, whole
from mmeq.config.build import Run, build
from mmeq.config.combinations import roots
from mmeq.config.instantiate import instantiate
from mmeq.config.same_data import check_looked_at
from mmeq.config.signatures import resolve
from mmeq.config.validate import plain_tree, validate
from mmeq.errors import MmeqError, did_you_mean

if TYPE_CHECKING:
    from mmeq.module import MultimodalModule

CHECKPOINTS = ("best", "last")
SPLITS = ("test", "validation", "train")


def check_choice(option: str, value: Any, known: Iterable[str]) -> None:  # noqa: ANN401 - YAML
    """Refuse a value that is none of the known ones."""
    if value not in known:
        raise MmeqError(f"{option}={value!r} does not exist{did_you_mean(str(value), known)}")


def run_folder(cfg: DictConfig, takes: Iterable[str]) -> Path:
    """Return the run folder that the options name.

    Args:
        cfg: options of a main.
        takes: the options that it has.

    Raises:
        MmeqError: when there is none, it holds no run, or an option is not known.
    """
    if OmegaConf.is_missing(cfg, "run"):
        raise MmeqError("run is missing: give run=<run folder>")
    if odd := sorted(set(map(str, cfg)) - set(takes)):
        raise MmeqError(
            f"{odd[0]} is no option here: the configuration comes from the run folder; see --help"
        )
    folder = Path(cfg.run)
    runs.read_config(folder, option="run")
    return folder


def check_checkpoint(checkpoint: str, option: str = "checkpoint") -> None:
    """Refuse what is neither best nor last nor the path of a file."""
    path = Path(checkpoint)
    if checkpoint in CHECKPOINTS or path.is_file():
        return
    if path.suffix == ".ckpt" or len(path.parts) > 1:
        raise MmeqError(f"{option}={checkpoint}: there is no such file")
    near = did_you_mean(checkpoint, CHECKPOINTS)
    raise MmeqError(f"{option}={checkpoint!r} does not exist{near}, or give the path of a file")


def find_checkpoint(folder: Path, checkpoint: str, option: str = "checkpoint") -> Path:
    """Return the file of a checkpoint: best or last of the run, or any by its path.

    Args:
        folder: the run folder.
        checkpoint: best, last, or a path.
        option: that named it.

    Raises:
        MmeqError: when there is no such file.
    """
    check_checkpoint(checkpoint, option)
    if checkpoint not in CHECKPOINTS:
        return Path(checkpoint)
    path = folder / "checkpoints" / f"{checkpoint}.ckpt"
    if not path.is_file():
        raise MmeqError(f"{option}={checkpoint}: there is no {path}")
    return path


def trained_config(folder: Path, options: DictConfig, option: str = "run") -> DictConfig:
    """Return a run's configuration for one device, with what the options change, validated.

    Args:
        folder: the run folder.
        options: ``accelerator``, ``workers``, ``batch_size``, ``inference``, ``data_root``,
            ``prepared`` and ``model_root`` (null: the run's).
        option: that named the folder.

    Raises:
        MmeqError: for a folder without a run, and options that do not fit it.
    """
    trained = runs.read_config(folder, option=option)
    trained.trainer.accelerator, trained.workers = options.accelerator, options.workers
    trained.trainer.devices = trained.trainer.num_nodes = 1
    trained.trainer.limit_test_batches = None  # every sample of the part
    for key in ("batch_size", "inference", "data_root", "prepared"):
        if options.get(key) is not None:
            trained[key] = options[key]
    trained = runs.anchored(trained)
    validate(trained, begun=options.get("inference") is None)
    skip_first_weights(trained)
    if options.get("model_root") is not None:
        find_models(trained, Path(str(options.model_root)))
    return trained


def skip_first_weights(trained: DictConfig) -> None:
    """Set what only says which weights training begins with to null: a checkpoint has all of them.

    An encoder class names such options in ``first_weights``.
    """
    for node in trained.backbone.encoders.values():
        for option in getattr(resolve(node["_target_"]), "first_weights", ()):
            node[option] = None


def find_models(trained: DictConfig, root: Path) -> None:
    """Point the encoders to the files of their models in another folder, by their last names.

    An encoder class names the options that may be places of files in ``places``. Of a model in
    ``/old/text/bert`` the folder may have ``text/bert`` or ``bert``.

    Raises:
        MmeqError: the folder has none of them.
    """
    if not root.is_dir():
        raise MmeqError(f"model_root={root}: there is no such folder")
    found, named = False, list[str]()
    for kind, option, given in places(trained):
        path = Path(given)
        parts = [part for part in path.parts if part not in (path.anchor, "~", "..")]
        ends = (root.joinpath(*parts[k:]) for k in range(len(parts)))
        here = next((end for end in ends if end.exists()), None)
        named.append(path.name)
        if here is not None:
            trained.backbone.encoders[kind][option], found = str(here.absolute()), True
    if not found:
        names = ", ".join(dict.fromkeys(named)) or "it takes none"
        raise MmeqError(
            f"model_root={root}: has nothing by the name of a model of the run's backbone ({names})"
        )


def places(trained: DictConfig) -> Iterator[tuple[str, str, str]]:
    """Yield kind, option and value of what may name files of models."""
    for kind, node in trained.backbone.encoders.items():
        for option in getattr(resolve(node["_target_"]), "places", ()):
            given = node.get(option)
            if isinstance(given, str) and "://" not in given:
                yield str(kind), option, given


def gone(trained: DictConfig, error: MmeqError) -> str:
    """Say how to go on after an error about the files of a model that are not there; else ""."""
    about = (f"backbone.encoders.{k}.{o}={v}:" for k, o, v in places(trained) if _lost(v))
    moved = any(str(error).startswith(one) for one in about)
    return "; if it was moved, give model_root=<the folder that it lies in now>" if moved else ""


def _lost(place: str) -> bool:
    return "/" in place and not Path(place).expanduser().exists()


def modalities_of(trained: DictConfig) -> tuple[str, ...]:
    """Return the names of a run's modalities before its data are read."""
    tree = plain_tree(trained)
    return tuple(instantiate(tree["dataset"], **roots(tree)).modalities)


def reopen(folder: Path, checkpoint: Path, trained: DictConfig, *, other_data: bool = False) -> Run:
    """Build a run and give it the weights of a checkpoint.

    An inference strategy that learns from the validation part learns now if the checkpoint does
    not hold what was learnt; nothing is written.

    Args:
        folder: the run folder.
        checkpoint: the file.
        trained: as `trained_config` gives it.
        other_data: an option names other data than the run's.

    Raises:
        MmeqError: when the file is no checkpoint of mmeq, or of another model, when a model that
            the backbone takes is not there, and when the run's data have changed.
    """
    try:
        run = build(trained, folder, evaluation=True)
    except MmeqError as error:
        raise MmeqError(f"{error}{gone(trained, error)}") from error
    told = load_weights(run.module, checkpoint)
    check_looked_at(run.module, told, checkpoint, wanted=other_data)
    run.module.eval()
    from mmeq.config.caching import cache_features

    cache_features(run, fill=False)
    from mmeq.callbacks.router import learnt, needs_router

    if needs_router(run.module, run.module.strategy):
        run.module.to(run.trainer.strategy.root_device)
        run.module.strategy.load_state(learnt(run.module, run.datamodule, run.module.strategy))
    return run


def load_weights(module: MultimodalModule, path: Path) -> dict[str, Any]:
    """Load weights, orders and what inference has learnt into a module; return the checkpoint."""
    import zipfile

    import torch

    refused = f"checkpoint={path}: this is no checkpoint of mmeq"
    if not zipfile.is_zipfile(path):
        raise MmeqError(refused)
    whole.check_whole(path, "checkpoint")  # torch does not compare checksums
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise MmeqError(refused) from error
    if not isinstance(checkpoint, dict) or not {"state_dict", "mmeq_order"} <= set(checkpoint):
        raise MmeqError(refused)
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except MmeqError as error:
        raise MmeqError(f"checkpoint={path}: {error}") from error
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = lines[1] if len(lines) > 1 else f"its method is another ({lines[0]})"
        raise MmeqError(
            f"checkpoint={path} holds the weights of another model than the run's: {why}"
        ) from error
    module.on_load_checkpoint(checkpoint)
    return checkpoint
