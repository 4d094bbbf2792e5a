"""The picture of `sparse`."""

import pathlib

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxrnn import gradients

from .compare_picture import Points, draw_quality
from .curves import color_of

COLORS = {**{name: color_of(name) for name in ("bptt", "snap 1", "rtrl")}, "snap 2": "#1f6fb4", "snap 3": "#2e8b57"}


def draw(
    path: pathlib.Path,
    title: str,
    kept: dict[str, np.ndarray],
    report: gradients.Comparison | None,
    curves: dict[str, Points],
) -> None:
    """What is kept above; quality and learning below."""
    figure = Figure(figsize=(16, 9), layout="constrained")
    figure.suptitle(title)
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=(1, 1.1)))
    axes = above.subplots(1, len(kept), width_ratios=[1, *[2.2] * (len(kept) - 1)])
    for axis, (name, mask) in zip(axes, kept.items(), strict=True):
        _draw_mask(axis, name, mask)
    quality, by_update, by_second = below.subplots(1, 3)
    draw_quality(quality, report, COLORS, "gradient of one sequence against the exact one")
    for name, curve in curves.items():
        style = {"color": COLORS[name], "label": name, "linewidth": 1.6}
        by_update.plot(curve.updates, curve.losses, **style)
        by_second.plot(*curve.in_time(), **style)
    for axis, label in ((by_update, "updates"), (by_second, "seconds, compilation left out")):
        axis.set(xlabel=label, ylabel="bits missing", xscale="log", ylim=(0, 1.1))
        axis.set_title(f"learning against {label.split(',')[0]}")
        axis.grid(alpha=0.25)
    if curves:
        by_update.legend()
    figure.savefig(path, format="png", dpi=100)


def _draw_mask(axis: Axes, name: str, mask: np.ndarray) -> None:
    """Each number that is other than zero, or kept, as a dark spot."""
    axis.imshow(mask, aspect="auto", cmap=colormaps["Blues"], interpolation="nearest", vmin=0, vmax=1)
    what = name if name.startswith("∂") else f"{name}: kept of ∂h/∂θ"
    axis.set_title(f"{what}, {mask.sum():,} numbers ({mask.mean():.1%})", fontsize="medium")
    axis.set(xlabel="unit" if name.startswith("∂") else "parameter", ylabel="unit")
