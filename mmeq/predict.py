"""Predict with a trained run: ``python -m mmeq.predict run=<folder> output=<file>``; ``--help``.

Shape suffixes: N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, OmegaConf

from mmeq.config import Run, cli, conf_dir
from mmeq.config.dataset import dataset_of
from mmeq.config.reopen import (
    SPLITS,
    check_checkpoint,
    check_choice,
    find_checkpoint,
    modalities_of,
    reopen,
    run_folder,
    trained_config,
)
from mmeq.errors import MmeqError

if TYPE_CHECKING:
    import numpy as np
    from torch.utils.data import DataLoader

    from mmeq.data.datamodule import DataModule
    from mmeq.data.manifest import Manifest

OPTIONS = ("run", "output", "split", "data", "checkpoint", "inference", "per_sample_shapley")
OPTIONS += ("accelerator", "batch_size", "workers", "data_root", "prepared", "model_root")

cli.prepare()


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="predict")
@cli.task
def predict(cfg: DictConfig) -> None:
    """Rebuild the run, predict a part of its data or own data, write one file."""
    folder, checkpoint, trained = check(cfg)
    from mmeq.game.predictions import check_format, write_predictions

    output = check_format(cfg.output)
    given = None if cfg.data is None else own(str(cfg.data), trained)
    other = given is not None or cfg.data_root is not None
    run = reopen(folder, checkpoint, trained, other_data=other)
    manifest = None if given is None else given(run.datamodule)
    for note in () if manifest is None else manifest.notes:
        print(f"note: {note}")
    arrays = predicted(run, cfg.split or "test", manifest)
    about = {
        "run": str(folder),
        "checkpoint": str(checkpoint),
        "source": str(cfg.data or cfg.split or "test"),
        "inference": run.module.inference,
    }
    import numpy as np

    arrays |= {key: np.asarray(text) for key, text in about.items()}
    if cfg.per_sample_shapley:
        arrays |= own_games(arrays)
    write_predictions(output, arrays)
    print(summary(arrays, output))


def check(cfg: DictConfig) -> tuple[Path, Path, DictConfig]:
    """Return run folder, checkpoint and configuration, or say what is wrong with the options."""
    if cfg.data is not None and cfg.split is not None:
        raise MmeqError(
            f"split={cfg.split} and data={cfg.data}: predict a part of the run's data or own data, "
            "not both"
        )
    if cfg.split is not None:
        check_choice("split", cfg.split, SPLITS)
    if not isinstance(cfg.per_sample_shapley, bool):
        raise MmeqError(f"per_sample_shapley={cfg.per_sample_shapley}: give true or false")
    check_checkpoint(cfg.checkpoint)
    folder = run_folder(cfg, OPTIONS)
    if OmegaConf.is_missing(cfg, "output"):
        raise MmeqError("output is missing: give output=<file.npz> or output=<file.parquet>")
    checkpoint = find_checkpoint(folder, cfg.checkpoint)
    trained = trained_config(folder, cfg)
    if cfg.per_sample_shapley:
        from mmeq.game.coalitions import MAX_MODALITIES

        if (count := len(modalities_of(trained))) > MAX_MODALITIES:
            raise MmeqError(
                f"per_sample_shapley=true needs the logits of all coalitions, which are predicted "
                f"up to {MAX_MODALITIES} modalities; this run has {count}"
            )
    return folder, checkpoint, trained


def own(path: str, trained: DictConfig) -> Callable[[DataModule], Manifest]:
    """Open own data, a table of files or an npz of arrays, before any data of the run are read.

    Returns:
        What makes a manifest of them, once the run's data are known.
    """
    from mmeq.data.arrays import own_manifest, read_arrays
    from mmeq.data.own.table import ENDINGS
    from mmeq.data.own.unlabelled import OwnTable

    if Path(path).suffix.lower() in ENDINGS:
        table = OwnTable(path, dataset_of(trained))
        return lambda data: table.manifest(data.spec, data.statistics)
    arrays = read_arrays(path)
    return lambda data: own_manifest(arrays, data.spec, data.statistics, source=f"data={path}")


def predicted(run: Run, split: str, manifest: Manifest | None) -> dict[str, np.ndarray]:
    """Predict a part of the run's data, or a manifest of own data if one is given."""
    from dataclasses import replace

    from mmeq.callbacks.predictions import Collect

    data, collect = run.datamodule, Collect()
    if manifest is None:
        loader = data.loader(split)
    else:
        loader = data.loader_of(manifest)
        run.module.spec = replace(run.module.spec, complete=manifest.spec.complete)
    run.trainer.callbacks.append(collect)
    run.trainer.predict(run.module, dataloaders=Untouched(loader), return_predictions=False)
    assert collect.arrays is not None
    return collect.arrays


class Untouched:
    """Batches that Lightning takes as they come.

    For predicting, Lightning 2.6 would replace a DataLoader's batch sampler by one over the whole
    dataset: the train part too, silently.

    Args:
        loader: whose batches.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader

    def __len__(self) -> int:
        """Batches."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        """One after the other."""
        return iter(self.loader)


def own_games(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Play each sample's own game for its label, or its fused prediction where it has none.

    Returns:
        ``phi`` float64 [N, M]; ``phi_class`` int64 [N], whose probability was the value;
        ``phi_of`` [N], ``label`` or ``prediction``.
    """
    import numpy as np
    import torch

    from mmeq.game.per_sample import sample_shapley
    from mmeq.game.predictions import binary_logits

    logits_NSC = binary_logits(arrays)
    known_N = arrays["labels"] >= 0
    class_N = np.where(known_N, arrays["labels"], logits_NSC[:, -1].argmax(-1).numpy())
    phi_NM = sample_shapley(
        logits_NSC, torch.from_numpy(class_N), torch.from_numpy(arrays["class_frequencies"])
    )
    told_N = np.where(known_N, "label", "prediction")
    return {"phi": phi_NM.numpy(), "phi_class": class_N.astype(np.int64), "phi_of": told_N}


def summary(arrays: dict[str, np.ndarray], output: Path) -> str:
    """Say in two lines what was written."""
    samples, coalitions, classes = arrays["logits"].shape
    known_N = arrays["labels"] >= 0
    lines = [f"{samples} samples × {coalitions} coalitions × {classes} classes in {output}"]
    lacking = int((~arrays["present"].all(1)).sum())
    if lacking:
        lines.append(f"{lacking} samples lack a modality")
    if known_N.any():
        hit_n = arrays["logits"][known_N, -1].argmax(-1) == arrays["labels"][known_N]
        lines.append(f"accuracy {100 * hit_n.mean():.1f} % on {len(hit_n)} labelled samples")
    else:
        lines.append("no labels: φ and EDM cannot be told")
    return "\n".join(lines)


def main() -> None:
    """Entry point of ``mmeq-predict``."""
    cli.call(predict, config_name="predict")


if __name__ == "__main__":
    main()
