"""Foreign text in figures: one font, a box for what it lacks, lines that fit."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import ParamSpec

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font

P = ParamSpec("P")
FONT = "DejaVu Sans"
"""Comes with matplotlib, so that figures look alike everywhere."""
BOX = "\N{WHITE SQUARE}"


def own_font(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw foreign text as it is: one font, no mathematics between dollar signs."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context({"font.family": FONT, "text.parse_math": False}):
            return draw(*args, **kwargs)

    return drawn


@functools.cache
def _font() -> tuple[FT2Font, frozenset[int]]:
    font = FT2Font(findfont(FontProperties(family=FONT)))
    return font, frozenset(font.get_charmap())


def drawable(text: str) -> str:
    """Return the text in one line, with a box for each character that the font lacks."""
    _, known = _font()
    return "".join(c if ord(c) in known else BOX for c in " ".join(text.split()))


@functools.cache
def _advance(character: str) -> float:
    """Width of a character in units of the font size."""
    font, _ = _font()
    font.set_size(12, 72)
    return float(font.load_char(ord(character)).linearHoriAdvance) / 65536 / 12


def fitted(text: str, inches: float, size: float, most: int) -> str:
    """Return the text in lines that fit; what is too much ends in an ellipsis.

    Args:
        text: any.
        inches: width of a line.
        size: of the font, in points.
        most: lines.
    """
    room, lines, width = inches * 72 / size, [""], 0.0
    for word in re.findall(r"\S+ ?", drawable(text)):
        wide = sum(map(_advance, word.rstrip()))
        if width + wide > room and lines[-1]:
            lines, width = [*lines, ""], 0.0
        for character in word:
            if width + _advance(character) > room and character != " ":
                lines, width = [*lines, ""], 0.0
            lines[-1] += character
            width += _advance(character)
    if len(lines) > most:
        lines = lines[:most]
        while lines[-1] and sum(map(_advance, lines[-1])) + _advance("…") > room:
            lines[-1] = lines[-1][:-1]
        lines[-1] += "…"
    return "\n".join(line.rstrip() for line in lines)
