"""A question's README: the part between marks is written from results.jsonl."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from engine.numbers import MEASURES, Line, difference, estimate, table_of
from mmeq.errors import MmeqError
from mmeq.files import write_text

DIGITS = {"NLL": 3}
COLUMNS = ("accuracy", "EDM %", "missing", "NLL")


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def table(
    rows: Mapping[str, Sequence[Line]], reference: str, columns: Sequence[str] = COLUMNS
) -> str:
    """Rows with means, and their paired differences to the reference in accuracy.

    Bold: the interval of the difference leaves 0 out.
    """
    head = [*("row", "runs", columns[0], f"− {reference}"), *columns[1:]]
    out = []
    for label, lines in rows.items():
        cells = []
        for name in columns:
            cells.append(estimate(map(MEASURES[name], lines)).text(DIGITS.get(name, 1)))
        gap = difference(lines, rows.get(reference, ()), MEASURES[columns[0]])
        told = "" if label == reference else gap.text()
        told = f"**{told}**" if told and gap.apart else told
        out.append([label, str(len(lines)), cells[0], told, *cells[1:]])
    return markdown(head, out)


def tables(lines: Iterable[Line], reference: str, columns: Sequence[str] = COLUMNS) -> str:
    """One table a data set."""
    found = table_of(lines)
    parts = [f"### {data}\n\n{table(rows, reference, columns)}" for data, rows in found.items()]
    compared = sum(len(rows) - 1 for rows in found.values())
    parts.append(
        f"Test part, epoch chosen by validation; means over runs, in brackets 95 % intervals "
        f"(bootstrap over runs, and over pairs of equal seed and split). {compared} comparisons; "
        "bold: an interval that leaves 0 out, which one in twenty does by chance. EDM in "
        "percent, 0 is balance; missing: mean accuracy over all proper subsets of modalities.\n"
    )
    return "\n".join(parts)


def put(readme: Path, text: str, mark: str = "results") -> None:
    """Put text between the marks.

    Raises:
        MmeqError: when the page has none.
    """
    first, last = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    page = readme.read_text(encoding="utf-8")
    head, start, rest = page.partition(first)
    _, end, tail = rest.partition(last)
    if not start or not end:
        raise MmeqError(f"{readme} lacks the marks {first} and {last}")
    write_text(readme, f"{head}{first}\n\n{text}\n{last}{tail}")
