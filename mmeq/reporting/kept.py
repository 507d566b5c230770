"""Runs kept as lines of a ``results.jsonl``: what a report needs, when folders are gone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmeq.errors import MmeqError
from mmeq.reporting.answers import BINS
from mmeq.reporting.excerpt import answered, epochs, facts
from mmeq.reporting.runs import RESULTS, Run, made, number, read_config, read_run

DIGITS = 5
"""Significant digits of what is kept."""


def keep(
    folder: Path, table: str, row: str, *, history: bool = True, options: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what a report needs of a finished run, as one JSON object of some 2 KB.

    Keys: ``table``, ``row``, ``options``; what the run was (``dataset`` … ``fold``, ``fractions``
    of its split, ``hardware``); ``epochs``, ``best_epoch`` (from 0), ``seconds`` an epoch,
    ``memory``; ``validation`` (of the best epoch) and ``test``, each with accuracy, macro_f1, nll,
    edm, proper_mean and phi by modality, the test with ``values`` too: accuracy by coalition, all
    up to 4 modalities, else all, none, singles and all but one; where the run has them ``missing``
    (rate → accuracy), ``probe`` (modality → accuracy) and ``strategies``; from the predictions
    ``classes``, ``confusion`` (up to 10 classes), ``calibration`` (10 bins) and ``ece``.
    ``history`` has lists over the epochs: ``order`` (places of the modalities), ``phi`` (by
    modality), ``edm`` and ``accuracy`` of the validation part.

    Args:
        folder: the run folder.
        table: title of the table that the run is part of.
        row: label of its row there.
        history: whether the epochs are kept.
        options: the overrides that made the run.

    Raises:
        MmeqError: for a run that is not finished or damaged.
    """
    if not (folder / RESULTS).is_file():
        raise MmeqError(f"{folder}: the run is not finished, there is no {RESULTS} to keep")
    config = read_config(folder)
    run = read_run(folder, config)
    results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    named = {"table": table, "row": row, "options": list(options)}
    past = epochs(folder, run.modalities) if history else None
    try:
        line = {**named, **facts(run, results), **answered(folder), "history": past}
    except MmeqError:  # of another file, which it names
        raise
    except KeyError as error:
        raise MmeqError(f"{folder / RESULTS} is damaged: it lacks {error.args[0]!r}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise MmeqError(f"{folder / RESULTS} is damaged: {error}") from error
    return {key: value for key, value in rounded(line).items() if value not in (None, {})}


def rounded(value: Any) -> Any:  # noqa: ANN401 - any tree of numbers
    """Return a tree whose numbers have 5 significant digits; what is not finite becomes None.

    Examples:
        >>> rounded({"a": [0.1234567, 3, float("nan")]})
        {'a': [0.12346, 3, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        known = number(value)
        return None if known is None else float(f"{known:.{DIGITS}g}")
    return value


def kept_runs(path: Path) -> list[Run]:
    """Read the runs of a file of kept lines.

    Raises:
        MmeqError: names every line that is damaged, by its number.
    """
    runs, damaged = read_kept(path)
    if damaged:
        raise MmeqError("\n".join(damaged.values()))
    return runs


def read_kept(path: Path) -> tuple[list[Run], dict[Path, str]]:
    """Read the runs of a file of kept lines; an empty line is none.

    Returns:
        The runs, and ``path:line`` → what is wrong with it.

    Raises:
        MmeqError: when the file cannot be read, or none of its lines.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise MmeqError(f"{path} cannot be read: {error}") from error
    runs: list[Run] = []
    damaged: dict[Path, str] = {}
    for count, text in enumerate(lines, start=1):
        place = Path(f"{path}:{count}")
        if not text.strip():
            continue
        try:
            runs.append(run_of(json.loads(text), place))
        except KeyError as error:
            damaged[place] = f"{path}, line {count} is damaged: it lacks {error.args[0]!r}"
        except (ValueError, TypeError, AttributeError) as error:
            damaged[place] = f"{path}, line {count} is damaged: {error}"
    if damaged and not runs:
        first = next(iter(damaged.values()))
        raise MmeqError(f"{path} holds no run that `mmeq.reporting.keep` has kept: {first}")
    return runs, damaged


def run_of(line: Mapping[str, Any], place: Path) -> Run:
    """Return the run that a line has kept.

    Args:
        line: of `keep`.
        place: file and line, in place of a folder.

    Raises:
        KeyError: for what is lacking.
        ValueError: for what is wrong.
        TypeError: for what is no number.
    """
    if not isinstance(line, dict):
        raise ValueError("it is no JSON object")
    if lacking := [repr(name) for name in ("table", "row", "test") if name not in line]:
        raise ValueError(f"it is no kept run, it lacks {', '.join(lacking)}")
    test, names = line["test"], tuple(map(str, line["modalities"]))
    check(line, names)
    hardware = line.get("hardware")
    options = dict(str(text).partition("=")[::2] for text in line.get("options", ()))
    return made(
        place,
        line,
        test,
        seconds=line.get("seconds"),
        ece=line.get("ece"),
        alone=line.get("alone"),
        options={**options, "dataset.fractions": line.get("fractions")},
        game=str(line["game"]),
        empty=line.get("empty"),
        hardware=None if hardware is None else tuple(hardware),
        table=str(line["table"]),
        row=str(line["row"]),
        kept=line,
    )


def check(line: Mapping[str, Any], names: Sequence[str]) -> None:
    """See that what only figures show has the lengths that they count on.

    Raises:
        KeyError: for what is lacking.
        ValueError: for a length that is wrong.
        TypeError: for what has none.
    """
    if history := line.get("history"):
        series = [history["order"], history["edm"], history["accuracy"]]
        series += [history["phi"][name] for name in names]
        if len({len(numbers) for numbers in series}) > 1:
            raise ValueError("the lists of its history are not equally long")
        if any(sorted(order) != list(range(len(names))) for order in history["order"]):
            raise ValueError("an order in its history does not name each modality once")
    if confusion := line.get("confusion"):
        count = len(line["classes"])
        if len(confusion) != count or any(len(row) != count for row in confusion):
            raise ValueError(f"its confusion matrix is not {count} × {count}")
    if (bins := line.get("calibration")) and any(len(each) != 3 for each in bins):
        raise ValueError("a bin of its calibration is not count, confidence, accuracy")
    if bins and len(bins) != BINS:
        raise ValueError(f"its calibration has {len(bins)} bins, not {BINS}")
