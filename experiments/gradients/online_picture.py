"""The picture of `online`."""

import pathlib
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .curves import label_ends, plain_seconds, style_of

_APART = 0.05  # strings, between lines that would lie on each other
_LINE = 0.05  # of an axis, between two labels


class Points(NamedTuple):
    """A training at times that are evenly spread over their logarithm."""

    steps: list[int]  # of each stream
    seconds: list[float]
    longest: list[int]  # string that is learnt
    bits: list[float]  # missing of a symbol that is held out
    failed: list[str]  # why it ended early, if it did


def draw(
    path: pathlib.Path, title: str, copies: dict[str, Points], texts: dict[str, Points], levels: dict[str, float]
) -> None:
    """Copying at the left, the text at the right, both against seconds, each curve with its name at its end."""
    figure = Figure(figsize=(15, 6.5), layout="constrained")
    figure.suptitle(title)
    copying, reading = figure.subplots(1, 2)
    _draw_copying(copying, {name: points for name, points in copies.items() if points.bits})
    _draw_reading(reading, {name: points for name, points in texts.items() if points.bits}, levels)
    figure.savefig(path, format="png", dpi=100)


def _draw_copying(axis: Axes, curves: dict[str, Points]) -> None:
    """The lines a little apart, as many strings are equally long."""
    ends = {}
    for row, (name, points) in enumerate(curves.items()):
        heights = [length + _APART * ((len(curves) - 1) / 2 - row) for length in points.longest]
        axis.step(points.seconds, heights, where="post", **style_of(name))
        ends[name] = points.seconds[-1], heights[-1]
    axis.set(ylabel="longest string learnt", title="copying strings")
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(axis, curves, room=1.3)
    label_ends(
        axis, ends, {name: _text(name, points, f"{points.longest[-1]}") for name, points in curves.items()}, _LINE
    )


def _draw_reading(axis: Axes, curves: dict[str, Points], levels: dict[str, float]) -> None:
    for name, points in curves.items():
        axis.plot(points.seconds, points.bits, **style_of(name))
    for name, level in levels.items():
        axis.axhline(level, color="0.5", linestyle=(0, (1, 3)), linewidth=1)
        axis.annotate(
            f"{name}: {level:.2f}",
            (0, level),
            xycoords=("axes fraction", "data"),
            xytext=(3, 3),
            textcoords="offset points",
            color="0.4",
        )
    axis.set(ylabel="bits missing of a character, held out", title="reading a text")
    _finish(axis, curves, room=4)
    ends = {name: (points.seconds[-1], points.bits[-1]) for name, points in curves.items()}
    label_ends(
        axis, ends, {name: _text(name, points, f"{points.bits[-1]:.2f}") for name, points in curves.items()}, _LINE
    )


def _text(name: str, points: Points, end: str) -> str:
    return f"{name}: {end}" + ", not finite" * bool(points.failed)


def _finish(axis: Axes, curves: dict[str, Points], room: float) -> None:
    """Limits that nothing changes any more: the last time, and the first one with some room before it."""
    axis.set_xlabel("seconds of training, compilation left out")
    plain_seconds(axis)
    if curves:
        times = [time for points in curves.values() for time in points.seconds]
        axis.set_xlim(min(times) / room, max(times))
    axis.set_ylim(axis.get_ylim())
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
