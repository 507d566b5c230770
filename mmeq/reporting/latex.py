r"""Tables as LaTeX for ``\input``, with booktabs and no other package."""

from __future__ import annotations

from collections.abc import Sequence

from mmeq.reporting.columns import Cell, cells, heads
from mmeq.reporting.folders import Found
from mmeq.reporting.labels import DOT
from mmeq.reporting.notes import notes
from mmeq.reporting.tables import Table

LONG = 10
"""Letters from which the title of a column takes two lines."""
ENDS = "Small figures are the ends of the intervals."
LETTERS = "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ"
NAMES = (
    "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
)
MARKS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    '"': "''",
    "−": r"$-$",
    "–": "--",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≠": r"$\neq$",
    "→": r"$\to$",
    "∞": r"$\infty$",
    "√": r"$\surd$",
    "²": r"$^2$",
    "³": r"$^3$",
    "µ": r"$\mu$",
    **{letter: rf"$\{name}$" for letter, name in zip(LETTERS, NAMES.split(), strict=True)},
}


def latex(tables: Sequence[Table], found: Found) -> str:
    """Return a table environment for each table; what is unfinished or damaged as comments.

    Args:
        tables: as compared.
        found: for what is unfinished or damaged.
    """
    parts = [r"% needs \usepackage{booktabs}", *map(environment, tables)]
    for name, listed in (("unfinished", found.unfinished), ("damaged", found.damaged)):
        for where, what in listed.items():
            parts += [f"% {name}: {line}" for line in f"{where}: {what}".splitlines()]
    return "\n".join(parts) + "\n"


def environment(table: Table) -> str:
    """Return one table with its caption and notes."""
    titles = heads(table, "ref.")
    lines = [
        r"\begin{table}",
        r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{escape(f'{table.title}: {table.protocol}')}}}",
        rf"\begin{{tabular}}{{lr{'l' * (len(titles) - 2)}}}",
        r"\toprule",
        " & ".join(map(head, titles)) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        shown = [written(cell) for cell in cells(table, row)]
        lines.append(" & ".join([named(row.label), str(len(row.runs)), *shown]) + r" \\")
    said = [ENDS, *notes(table)]
    if table.reference is not None:
        said.insert(1, f"Reference (ref.): {table.reference.label}.")
    beneath = rf"\parbox{{\linewidth}}{{{escape(' '.join(said))}}}"
    lines += [r"\bottomrule", r"\end{tabular}", "", r"\medskip", beneath, r"\end{table}", ""]
    return "\n".join(lines)


def head(title: str) -> str:
    """Write the title of a column, a long one on two lines."""
    first, _, rest = title.partition(" ")
    return stack([first, rest], "b") if rest and len(title) >= LONG else escape(title)


def stack(lines: Sequence[str], line_up: str = "t") -> str:
    """Write lines above each other in one cell.

    Args:
        lines: one or more.
        line_up: whether the top (``t``) or the bottom (``b``) one is level with other cells.
    """
    if len(lines) < 2:
        return escape("".join(lines))
    inner = r" \\ ".join(map(escape, lines))
    return rf"\begin{{tabular}}[{line_up}]{{@{{}}l@{{}}}}{inner}\end{{tabular}}"


def named(label: str) -> str:
    """Write a label, its options on lines of their own."""
    parts = label.split(DOT)
    name = DOT.join(part for part in parts if "=" not in part)
    return stack([name, *(part for part in parts if "=" in part)])


def written(cell: Cell) -> str:
    """Put a cell together."""
    number = rf"\textbf{{{escape(cell.number)}}}" if cell.best else escape(cell.number)
    number += "*" if cell.mark else ""
    if " to " in cell.interval:
        low, high = escape(cell.interval).replace("$", "").split(" to ")
        number += f"$_{{{low}}}^{{{high}}}$"
    return number + (f" {escape(cell.note)}" if cell.note else "")


def escape(text: str) -> str:
    r"""Return text as LaTeX prints it.

    Examples:
        >>> print(escape("ogm_ge · 5 % & −1"))
        ogm\_ge $\cdot$ 5 \% \& $-$1
    """
    return "".join(MARKS.get(character, character) for character in text)
