"""The picture of `compare`."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxrnn import gradients

from .curves import color_of, label_ends, plain_seconds, style_of


class Points(NamedTuple):
    """A training at updates that are evenly spread over the logarithm of their number."""

    updates: list[int]
    seconds: list[float]
    losses: list[float]  # means since the point before

    def in_time(self) -> tuple[list[float], list[float]]:
        """Seconds and losses: of the updates of one compiled call, which end together, the last."""
        last = dict(zip(self.seconds, self.losses, strict=True))
        return [*last], [*last.values()]


def draw(
    path: pathlib.Path, title: str, report: gradients.Comparison, curves: dict[str, Points], levels: list[float]
) -> None:
    """Quality at the left, learning against updates and seconds at the right, where each curve has its name."""
    figure = Figure(figsize=(18, 7), layout="constrained")
    figure.suptitle(title)
    quality, by_update, by_second = figure.subplots(1, 3)
    draw_quality(quality, report, {name: color_of(name) for name in report.algorithms}, "against the exact gradient")
    for name, curve in curves.items():
        by_update.plot(curve.updates, curve.losses, **style_of(name))
        by_second.plot(*curve.in_time(), **style_of(name))
    for axis, label in ((by_update, "updates"), (by_second, "seconds, compilation left out")):
        for level in levels:
            axis.axhline(level, color="0.5", linestyle=(0, (1, 3)), linewidth=1)
        axis.set(xlabel=label, xscale="log", yscale="log", title=f"learning against {label.split(',')[0]}")
        axis.grid(alpha=0.25)
    by_update.set_ylabel("loss; dotted: the shorter delay alone")
    by_second.set_ylim(by_second.get_ylim())
    plain_seconds(by_second)
    if curves:
        by_second.set_xlim(right=max(curve.seconds[-1] for curve in curves.values()))
    ends = {name: (curve.seconds[-1], curve.losses[-1]) for name, curve in curves.items()}
    label_ends(by_second, ends, {name: name for name in ends}, 0.045)
    figure.savefig(path, format="png", dpi=100)


def draw_quality(axis: Axes, report: gradients.Comparison | None, colors: Mapping[str, Any], title: str) -> None:
    """Cosine of a single draw with the exact gradient, and its relative error; an empty panel without a report."""
    algorithms = report.algorithms if report else {}
    names = list(algorithms)[::-1]
    for row, name in enumerate(names):
        total = algorithms[name].total
        if total.cosine is None:
            continue
        axis.barh(row, total.cosine, color=colors[name], alpha=0.8)
        axis.annotate(
            f"{total.cosine:.3f}   relative error {total.relative_error:.2g}",
            (max(total.cosine, 0), row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
        )
    axis.set_yticks(range(len(names)), names)
    axis.set(xlim=(min(0, axis.get_xlim()[0]), 1.75), xlabel="cosine", title=title)
    axis.grid(alpha=0.25, axis="x")
