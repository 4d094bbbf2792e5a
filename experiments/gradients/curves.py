"""How the pictures draw an algorithm's curve: its colour, which is the same in all of them, and its name at the end."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.optimize import isotonic_regression

COLORS = {
    **{"bptt": "#333333", "tbptt": "#c8102e", "artbp": "#8c564b", "dni": "#8a8a8a", "rtrl": "#7b4fa3"},
    **{"snap": "#e08214", "eprop": "#00755e", "rflo": "#8fb01c", "uoro": "#d45087", "kf_rtrl": "#1aa6b7"},
    **{"ok": "#1f4fb4"},
}
LINES = {"bptt sqrt": "--", "bptt revolve": ":", "tbptt 5, 20": "--", "tbptt 1, 10": "--", "uoro 64": "--"}


def color_of(name: str) -> str:
    """Of an algorithm with its options, such as "tbptt 5, 20"."""
    return COLORS[name.split()[0]]


def style_of(name: str) -> dict[str, Any]:
    """What `Axes.plot` gets: one algorithm's variants differ by their dashes."""
    return {"color": color_of(name), "linestyle": LINES.get(name, "-"), "linewidth": 1.7}


def plain_seconds(axis: Axes) -> None:
    """A logarithmic axis of seconds, with 1, 2, 5, 10, … on it."""
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def label_ends(axis: Axes, ends: Mapping[str, tuple[float, float]], texts: Mapping[str, str], gap: float) -> None:
    """The texts right of the axis, each at the height of its curve's end, moved apart where they would collide.

    Limits and scales must be those that are drawn; `gap` is from one text to the next, in heights of the axis.
    """
    names = sorted(ends, key=lambda name: ends[name][1])
    heights = [axis.transAxes.inverted().transform(axis.transData.transform(ends[name]))[1] for name in names]
    for name, place in zip(names, spread(np.array(heights), gap), strict=True):
        axis.annotate(
            texts[name],
            ends[name],
            xytext=(1.06, place),
            textcoords="axes fraction",
            color=color_of(name),
            va="center",
            annotation_clip=False,
            arrowprops={
                **{"arrowstyle": "-", "color": color_of(name), "linewidth": 0.7, "linestyle": LINES.get(name, "-")},
                **{"relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 0},
            },
        )


def spread(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Places for what is wanted at these, ascending: at least `gap` apart, from 0 to 1 if that is room enough.

    Of such places they are those with the least squares of displacement.
    """
    if not len(wanted):
        return wanted
    offsets = gap * np.arange(len(wanted))
    return np.clip(isotonic_regression(wanted - offsets).x, 0, max(0, 1 - offsets[-1])) + offsets
