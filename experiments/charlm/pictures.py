"""Pictures: the learning curve, and text coloured by what happens at each character."""

import pathlib
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure

from .. import _glyphs

_COLUMNS = 100
_SHOWN = str.maketrans({"\n": "⏎", "\t": "→", "\r": "␍"})


def draw_learning(
    path: pathlib.Path, title: str, history: list[dict[str, Any]], evaluations: list[dict[str, Any]]
) -> None:
    """Loss against steps."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axis = figure.add_subplot()
    axis.plot([row["step"] for row in history], [row["loss"] for row in history], linewidth=0.5, color="#9db7d5")
    window = max(1, len(history) // 100)
    smooth = np.convolve([row["loss"] for row in history], np.ones(window) / window, mode="valid")
    axis.plot([row["step"] for row in history[window - 1 :]], smooth, color="#1f6fb4", label="training")
    if evaluations:
        losses = [row["validation_loss"] for row in evaluations]
        axis.plot([row["step"] for row in evaluations], losses, "o-", color="#c8102e", label="validation")
        axis.axhline(min(losses), color="#c8102e", linewidth=0.6, linestyle=":")
    axis.set(title=title, xlabel="step", ylabel="loss, nats a character")
    axis.legend()
    figure.savefig(path, format="png", dpi=110)


def draw_heat_map(path: pathlib.Path, text: str, losses: np.ndarray, unit: int, activity: np.ndarray) -> None:
    """The text twice: coloured by the loss of each character, and by what a unit holds after it."""
    rows = -(-len(text) // _COLUMNS)
    figure = Figure(figsize=(14, 2.0 + 0.44 * rows), layout="constrained")
    above, below = figure.subplots(2, 1)
    surprising = Normalize(0, max(5.0, float(np.percentile(losses, 99))))
    _draw_text(above, text, losses, "magma_r", surprising, "loss, nats")
    above.set_title("loss of each character given those before it: dark is surprising")
    _draw_text(below, text, activity, "RdBu_r", TwoSlopeNorm(0, -1, 1), "what the unit holds")
    below.set_title(f"unit {unit} of the top layer after each character: red +1, blue -1")
    figure.savefig(path, format="png", dpi=110)


def most_persistent_unit(activity: np.ndarray) -> int:
    """The unit of activity (T, H) whose mean over ten characters varies most."""
    total = np.cumsum(activity, axis=0)
    return int(np.argmax(np.var(total[10:] - total[:-10], axis=0))) if len(activity) > 10 else 0


def _draw_text(axis: Axes, text: str, values: np.ndarray, colors: str, norm: Normalize, what: str) -> None:
    grid = np.full((-(-len(text) // _COLUMNS), _COLUMNS), np.nan)
    grid.flat[: len(text)] = values
    image = axis.imshow(grid, cmap=colors, norm=norm, aspect="auto")
    text = text.translate(_SHOWN)
    fonts, lacking = _glyphs.fonts_of(text, _glyphs.MONOSPACE)
    for position, character in enumerate(text):
        row, column = divmod(position, _COLUMNS)
        drawn, size = (character, 7) if character not in lacking and character.isprintable() else _code(character)
        color = _readable(image, grid[row, column])
        axis.text(column, row, drawn, ha="center", va="center", fontsize=size, family=fonts, color=color)
    axis.set_axis_off()
    axis.figure.colorbar(image, ax=axis, pad=0.01, label=what)


def _code(character: str) -> tuple[str, float]:
    """A character that no font has as its code point, in two rows of hexadecimal digits; and their size."""
    digits = f"{ord(character):04X}" if ord(character) < 0x10000 else f"{ord(character):06X}"
    half = len(digits) // 2
    return f"{digits[:half]}\n{digits[half:]}", 10 / half


def _readable(image: ScalarMappable, value: float) -> str:
    """Black on light colours, white on dark ones."""
    red, green, blue, _ = image.to_rgba(np.asarray(value))
    return "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
