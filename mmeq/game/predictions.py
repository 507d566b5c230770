"""The predictions file: what a model answers for every sample and coalition, and games from it.

Legend: N samples, S coalitions, M modalities, C classes.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from mmeq.errors import MmeqError
from mmeq.files import write_bytes, write_npz
from mmeq.game.coalitions import all_coalitions, coalition_name
from mmeq.game.metric import CoalitionGame
from mmeq.game.report import GameReport
from mmeq.game.values import METRICS

Arrays = Mapping[str, np.ndarray]
FORMATS = (".npz", ".parquet")
NEEDED = ("logits", "coalitions", "labels", "ids", "modalities")
PER_SAMPLE = ("ids", "index", "labels", "present", "phi", "phi_class", "phi_of")


def check_format(path: str | Path, option: str = "output") -> Path:
    """Return the path of a predictions file that could be written here.

    Raises:
        MmeqError: for an ending other than .npz and .parquet, or a folder.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise MmeqError(f"{option}={path}: give a name that ends in .npz or .parquet")
    if path.is_dir():
        raise MmeqError(f"{option}={path} is a folder: give the name of a file")
    return path


def write_predictions(path: str | Path, arrays: Arrays) -> Path:
    """Write a predictions file atomically: npz (no pickle) or parquet, by its ending.

    Arrays: ``logits`` float32 [N, S, C], ``coalitions`` bool [S, M], ``labels`` int64 [N] (-1:
    unknown), ``ids`` [N], ``index`` int64 [N] (row of the dataset), ``present`` bool [N, M],
    ``modalities`` [M], ``classes`` [C], ``class_frequencies`` [C] of the training part, ``value``
    and ``seed`` of the run's game, and what else describes the file.

    Parquet has one row a sample and coalition: ``id``, ``index``, ``label`` (null: unknown),
    ``coalition`` (``fou+mor``), ``logits`` (list of C), ``prediction`` (class name), ``present``
    (list of M), and ``phi``, ``phi_class``, ``phi_of`` where they were asked for. What is not per
    sample stands as JSON under the schema's key ``mmeq``.

    Args:
        path: ends in .npz or .parquet.
        arrays: name → array.

    Raises:
        MmeqError: as `check_format`.
    """
    path = check_format(path)
    if path.suffix == ".npz":
        return write_npz(path, **arrays)
    import pyarrow as pa
    import pyarrow.parquet as pq

    logits_NSC = np.asarray(arrays["logits"], dtype=np.float32)
    samples, coalitions, classes = logits_NSC.shape
    names = [str(name) for name in arrays["modalities"]]
    members = [coalition_name(row.tolist(), names) for row in arrays["coalitions"]]
    class_names = np.asarray(arrays["classes"])
    labels = np.repeat(np.asarray(arrays["labels"]), coalitions)

    def lists(rows: np.ndarray) -> Any:  # noqa: ANN401 - pyarrow has no stubs
        flat = pa.array(np.ascontiguousarray(rows).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])

    columns = {
        "id": pa.array(np.repeat(arrays["ids"], coalitions).tolist(), pa.string()),
        "index": pa.array(np.repeat(arrays["index"], coalitions)),
        "label": pa.array(labels, mask=labels < 0),
        "coalition": pa.array(members * samples, pa.string()),
        "logits": lists(logits_NSC.reshape(samples * coalitions, classes)),
        "prediction": pa.array(class_names[logits_NSC.argmax(-1)].reshape(-1).tolist()),
        "present": lists(np.repeat(arrays["present"], coalitions, axis=0)),
    }
    if "phi" in arrays:
        columns["phi"] = lists(np.repeat(arrays["phi"], coalitions, axis=0))
        columns["phi_class"] = pa.array(np.repeat(arrays["phi_class"], coalitions))
        columns["phi_of"] = pa.array(np.repeat(arrays["phi_of"], coalitions).tolist(), pa.string())
    about = {
        key: np.asarray(array).tolist()
        for key, array in arrays.items()
        if key not in (*PER_SAMPLE, "logits")
    }
    table = pa.table(columns).replace_schema_metadata({"mmeq": json.dumps(about)})
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    return write_bytes(path, buffer.getvalue().to_pybytes())


def read_predictions(path: str | Path) -> dict[str, np.ndarray]:
    """Read the arrays of a predictions file (see `write_predictions`), without pickle.

    Raises:
        MmeqError: when there is no such file, or it is not one of mmeq's.
    """
    path = Path(path)
    if not path.is_file():
        raise MmeqError(f"there is no predictions file {path}")
    if check_format(path, "predictions").suffix == ".npz":
        if not zipfile.is_zipfile(path):
            raise MmeqError(f"{path} is no npz")
        with np.load(path, allow_pickle=False) as stored:
            return _complete(path, {name: stored[name] for name in stored.files})
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    described = (table.schema.metadata or {}).get(b"mmeq")
    if described is None:
        raise MmeqError(f"{path} was not written by mmeq.predict: its schema has no key 'mmeq'")
    arrays = {key: np.asarray(item) for key, item in json.loads(described).items()}
    coalitions, classes = len(arrays["coalitions"]), len(arrays["classes"])

    def column(name: str, width: int = 0) -> np.ndarray:
        chunk = table[name].combine_chunks()
        if not width:
            return np.asarray(chunk.to_numpy(zero_copy_only=False))[::coalitions]
        flat = np.asarray(chunk.flatten().to_numpy(zero_copy_only=False))
        return flat.reshape(-1, coalitions, width)[:, 0]

    count = len(arrays["modalities"])
    logits = table["logits"].combine_chunks().flatten().to_numpy()
    arrays["logits"] = logits.reshape(-1, coalitions, classes)
    arrays["ids"] = column("id").astype(np.str_)
    arrays["index"] = column("index")
    arrays["labels"] = table["label"].fill_null(-1).combine_chunks().to_numpy()[::coalitions]
    arrays["present"] = column("present", count)
    if "phi" in table.column_names:
        arrays["phi"], arrays["phi_class"] = column("phi", count), column("phi_class")
        arrays["phi_of"] = column("phi_of").astype(np.str_)
    # pyarrow lends its memory, which nobody may write to
    return _complete(path, {name: np.array(array) for name, array in arrays.items()})


def _complete(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    lacking = [name for name in NEEDED if name not in arrays]
    if lacking:
        raise MmeqError(f"{path} is no predictions file of mmeq: it lacks {', '.join(lacking)}")
    return arrays


def measure_predictions(
    source: str | Path | Arrays,
    *,
    class_frequencies: Tensor | np.ndarray | None = None,
    value: str | Metric | None = None,
    draws: int = 1000,
    level: float = 0.95,
    seed: int | None = None,
) -> GameReport:
    """Play the game again from a predictions file alone: no model and no data are needed.

    With the file's own value and seed it equals the run's report to the last bit. Samples without
    a label are left out.

    Args:
        source: a predictions file, or its arrays.
        class_frequencies: of the training labels, [C], for v(empty); the file's own when None.
        value: metric that the game is played for; the file's own when None.
        draws: bootstrap resamples.
        level: coverage of the intervals.
        seed: of the resampling; the file's own when None, or 0.

    Raises:
        MmeqError: when no sample has a label, a coalition is not in the file, or it does not say
            what was not given.
    """
    arrays = source if isinstance(source, Mapping) else read_predictions(source)
    if class_frequencies is None:
        class_frequencies = _given(arrays, "class_frequencies")
    if value is None:
        value = str(arrays["value"]) if "value" in arrays else "accuracy"
        if value not in METRICS:
            raise MmeqError(
                f"the file's game is played for {value}: give value=<that torchmetrics metric>, or "
                f"one of {', '.join(METRICS)}"
            )
    if seed is None:
        seed = int(arrays["seed"]) if "seed" in arrays else 0
    labels_N = torch.from_numpy(np.asarray(arrays["labels"], dtype=np.int64))
    known_N = labels_N >= 0
    if not known_N.any():
        raise MmeqError("no sample of these predictions has a label: there is nothing to measure")
    names = [str(name) for name in arrays["modalities"]]
    game = CoalitionGame(
        names, torch.as_tensor(class_frequencies), value=value, draws=draws, level=level, seed=seed
    )
    logits_SNC = binary_logits(arrays).transpose(0, 1)
    game.update(logits_SNC[:, known_N], labels_N[known_N], torch.arange(len(labels_N))[known_N])
    return game.compute()


def binary_logits(arrays: Arrays) -> Tensor:
    """Return the logits of all 2^M - 1 coalitions in binary order: float32 [N, S, C].

    Raises:
        MmeqError: when one of them is not among the arrays.
    """
    names = [str(name) for name in arrays["modalities"]]
    wanted = all_coalitions(len(names))[1:].tolist()
    have = {tuple(row): s for s, row in enumerate(np.asarray(arrays["coalitions"]).tolist())}
    lost = [row for row in wanted if tuple(row) not in have]
    if lost:
        raise MmeqError(
            f"these predictions lack {len(lost)} of {len(wanted)} coalitions, such as "
            f"{coalition_name(lost[0], names)}: the exact game needs all of them"
        )
    rows = [have[tuple(row)] for row in wanted]
    return torch.from_numpy(np.asarray(arrays["logits"], dtype=np.float32)[:, rows])


def _given(arrays: Arrays, name: str) -> Tensor:
    if name not in arrays:
        raise MmeqError(f"these predictions do not hold {name}: give {name}=…")
    return torch.from_numpy(np.asarray(arrays[name], dtype=np.float64))
