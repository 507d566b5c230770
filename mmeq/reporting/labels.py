"""Short labels: what tells the rows of a table apart, and tables of one dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmeq.reporting.options import OWN_HEADS, Options, text, within

if TYPE_CHECKING:
    from mmeq.reporting.runs import Run

ABSENT = "absent"
UNSETTLED = object()
DOT = " · "


def scope(path: str, run: Run) -> tuple[str, str]:
    """Say among whose rows an option is compared: its method's, its fusion's, or all of a table."""
    section = path.partition(".")[0]
    return section, {"method": run.method, "fusion": run.fusion}.get(section, "")


def usual(rows: Sequence[tuple[Run, Options]]) -> dict[tuple[tuple[str, str], str], Any]:
    """Return the value of each option that most rows have, where rows differ.

    Of values that equally many rows have the one that is off: absent, null, false or 0; where
    there is none, `UNSETTLED`, and each row names its own.

    Args:
        rows: one run of each row, and its options.

    Returns:
        (scope, option) → value; `ABSENT` where most do not have it.
    """
    paths = sorted({path for _, options in rows for path in options})
    found: dict[tuple[tuple[str, str], str], Any] = {}
    for path in paths:
        values: dict[tuple[str, str], list[Any]] = {}
        for run, options in rows:
            values.setdefault(scope(path, run), []).append(options.get(path, ABSENT))
        for where, here in values.items():
            counts = Counter(here)
            if len(counts) > 1:
                most = [value for value in counts if counts[value] == max(counts.values())]
                off = [
                    value for nothing in (ABSENT, None, False) for value in most if value == nothing
                ]
                found[where, path] = (most if len(most) == 1 else [*off, UNSETTLED])[0]
    return found


def labels(rows: Sequence[tuple[Run, Options]]) -> list[str]:
    """Name rows shortly: method, then the fusion where it tells something, then odd options.

    The fusion is told where rows of one method differ in it, or it is not the one that most rows
    have; an option where a row's value is not that of most rows (`usual`), those of the method
    section among rows of the method, those of the fusion among rows of the fusion.

    Args:
        rows: one run of each row, and its options.
    """
    fusions: dict[str, set[str]] = {}
    for run, _ in rows:
        fusions.setdefault(run.method, set()).add(run.fusion)
    fused = [run.fusion for run, _ in rows if run.alone is None and run.fusion != OWN_HEADS]
    counts = Counter(fused)
    common = min(counts, key=lambda name: (-counts[name], name)) if counts else None
    base = usual(rows)
    out = []
    for run, options in rows:
        parts = [run.method if run.alone is None else f"{run.method} {run.alone}"]
        odd_one = run.alone is None and run.fusion not in (common, OWN_HEADS)
        if len(fusions[run.method]) > 1 or odd_one:
            parts.append(run.fusion)
        odd = {
            path: options.get(path, ABSENT)
            for (where, path), value in base.items()
            if where == scope(path, run) and options.get(path, ABSENT) != value
        }
        out.append(DOT.join([*parts, *shown(odd, rows)]))
    return out


def shown(odd: Options, rows: Sequence[tuple[Run, Options]]) -> list[str]:
    """Write odd options; a section that only this row has is named by its target alone.

    Args:
        odd: path → value.
        rows: all rows, to see which leaves of such a section tell no more.
    """
    out = []
    for path, value in odd.items():
        if value == ABSENT and any(
            within(path, [p]) or within(p, [path]) for p in odd if p != path
        ):
            continue  # another choice stands at its place
        parent, _, leaf = path.rpartition(".")
        if value == ABSENT and leaf != "_target_" and f"{parent}._target_" in odd:
            continue
        if leaf == "_target_":
            out.append(f"{parent}=absent" if value == ABSENT else f"{parent}={_last(value)}")
            continue
        same = len({options[path] for _, options in rows if path in options}) == 1
        if f"{parent}._target_" in odd and same:
            continue
        out.append(f"{path}={text(value)}")
    return out


def _last(target: Any) -> str:  # noqa: ANN401 - a YAML value
    return str(target).rpartition(".")[2]


def usual_text(rows: Sequence[tuple[Run, Options]]) -> list[str]:
    """Say what holds of rows whose label does not name an option."""
    said = []
    for (where, path), value in usual(rows).items():
        if value == ABSENT or value is UNSETTLED:
            continue
        owner = f" ({where[1]})" if where[1] else ""
        shown = _last(value) if path.endswith("._target_") else text(value)
        said.append(f"{path.removesuffix('._target_')}={shown}{owner}")
    return said


def titles(groups: Sequence[tuple[str, str, Options]]) -> list[str]:
    """Name tables: the dataset, then the options in which tables of one dataset differ.

    Args:
        groups: dataset, protocol and group options of each.

    Examples:
        >>> small = {"dataset.train_size": 150}
        >>> titles([("mfeat", "p", {"dataset.train_size": None}), ("mfeat", "p", small)])
        ['mfeat', 'mfeat · train_size=150']
    """
    out = []
    for dataset, _, options in groups:
        siblings = [other for name, _, other in groups if name == dataset]
        parts = [dataset]
        for path in options:
            if len({other.get(path) for other in siblings}) > 1 and options[path] is not None:
                parts.append(f"{path.removeprefix('dataset.')}={text(options[path])}")
        out.append(DOT.join(parts))
    twice = Counter(out)
    return [
        DOT.join([title, protocol]) if twice[title] > 1 else title
        for title, (_, protocol, _) in zip(out, groups, strict=True)
    ]
