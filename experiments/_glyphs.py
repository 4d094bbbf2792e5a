"""Text in pictures: by a font that has its characters, and as code points where no font does."""

import contextlib
import functools
from typing import Any, NamedTuple

from matplotlib import font_manager

from ._run import printable

SANS, MONOSPACE = "DejaVu Sans", "DejaVu Sans Mono"  # come with matplotlib
_LONGEST = 40  # characters of a word


class Label(NamedTuple):
    """A text as matplotlib can draw it, and what its `Text` must be told."""

    text: str
    options: dict[str, Any]


def label(text: str) -> Label:
    """For a title or an axis: on one line, and without mathematics where somebody wrote dollars."""
    text = printable(text)
    fonts, lacking = fonts_of(text, SANS)
    drawn = "".join(c.encode("unicode_escape").decode() if c in lacking else c for c in text)
    return Label(drawn, {"family": fonts, "parse_math": False})


def short(text: str) -> str:
    """As much of a word as a title has room for."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def fonts_of(text: str, base: str) -> tuple[list[str], set[str]]:
    """The font, with those of this machine that have what it lacks; and the characters that none of them has."""
    fonts, lacking = [base], {ord(character) for character in text} - _code_points(font_manager.findfont(base))
    for name, file in _others() if lacking else ():
        if found := lacking & _code_points(file):
            fonts.append(name)
            lacking -= found
    return fonts, {*map(chr, lacking)}


@functools.cache
def _others() -> list[tuple[str, str]]:
    """The upright fonts of this machine by name; of those that come with matplotlib for its formulae, none."""
    fonts = font_manager.fontManager.ttflist
    upright = {font.name: font.fname for font in fonts if font.style == "normal" and font.weight == 400}
    return sorted((name, file) for name, file in upright.items() if "mpl-data" not in file or name == SANS)


@functools.lru_cache(64)
def _code_points(file: str) -> frozenset[int]:
    """What a font has; nothing of a file that has gone since matplotlib listed it."""
    with contextlib.suppress(OSError, RuntimeError):
        return frozenset(font_manager.get_font(file).get_charmap())
    return frozenset()
