"""The picture of `explode`."""

from __future__ import annotations

import pathlib
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

from . import networks, powers, recall


class Found(NamedTuple):
    """What was measured so far."""

    powers: dict[float, dict[str, np.ndarray]]  # by w: "one unit" and "orthogonal", (T + 1,)
    networks: dict[str, networks.Curve]
    recall: dict[str, dict[int, np.ndarray]]  # by network and distance: (seeds,) accuracies


COLORS = ("#c8102e", "#1f6fb4", "#2e8b57", "#e08214", "#7b4fa3")


def draw(path: pathlib.Path, found: Found) -> None:
    """Gradients along the sequence for each cell, above; powers and recall, below."""
    figure = Figure(figsize=(14, 8.5), layout="constrained")
    grid = figure.add_gridspec(2, 6)
    for column, cell in enumerate(networks.CELLS):
        _draw_cell(figure.add_subplot(grid[0, 2 * column : 2 * column + 2]), cell, found.networks)
    _draw_powers(figure.add_subplot(grid[1, :3]), found.powers)
    _draw_recall(figure.add_subplot(grid[1, 3:]), found.recall)
    figure.savefig(path, format="png", dpi=100)


def _draw_cell(axis: Axes, cell: str, curves: dict[str, networks.Curve]) -> None:
    """Each initialisation's norms, and from the same last one theory's, dashed."""
    mine = {name: curve for name, curve in curves.items() if networks.INITIALISATIONS[name].cell == cell}
    for color, (name, curve) in zip(COLORS, mine.items(), strict=False):
        initialisation = networks.INITIALISATIONS[name]
        steps = np.arange(1, len(curve.norms) + 1)
        _line(axis, steps, curve.norms, "-", color, f"{initialisation.label}: {initialisation.theory}")
        theory = curve.norms[-1] * curve.factor ** (len(steps) - steps)
        _line(axis, steps, theory, "--", color, None)
    norm = "‖dL/d(h$_t$, c$_t$)‖" if cell == "lstm" else "‖dL/dh$_t$‖"
    axis.set(title=f"{cell}, untrained", xlabel="step t", ylabel=norm, yscale="log")
    _finish(axis, "lower right", title="dashed: theory, k = T - t")


def _line(axis: Axes, steps: np.ndarray, values: np.ndarray, style: str, color: str, label: str | None) -> None:
    shown = values > 0  # float64 ends at 1e-308
    axis.plot(steps[shown], values[shown], style, color=color, label=label, linewidth=1 if style == "--" else 1.8)


def _draw_powers(axis: Axes, found: dict[float, dict[str, np.ndarray]]) -> None:
    for color, (factor, curves) in zip(COLORS, found.items(), strict=False):
        steps = np.arange(powers.STEPS + 1)
        label = f"one unit, w = {factor}: dh$_T$/dh$_0$ = {curves['one unit'][0]:.4g}"
        axis.plot(steps, curves["one unit"], "-", color=color, label=label)
        axis.plot(
            steps[::25],
            curves["orthogonal"][::25],
            "o",
            color=color,
            label=f"{powers.UNITS} units, {factor} times orthogonal",
        )
        axis.plot(steps, factor ** (powers.STEPS - steps), "--k", linewidth=1)
    axis.set(title="linear recurrence h$_t$ = w h$_{t-1}$ (dashed: w$^{T-t}$)", xlabel="step t", yscale="log")
    axis.set_ylabel("‖dL/dh$_t$‖")
    _finish(axis, "upper right")


def _draw_recall(axis: Axes, found: dict[str, dict[int, np.ndarray]]) -> None:
    """The mean over the networks, and each of them."""
    distances = sorted({distance for by_distance in found.values() for distance in by_distance})
    for color, (name, by_distance) in zip(COLORS, found.items(), strict=False):
        means = [accuracies.mean() for accuracies in by_distance.values()]
        axis.plot(list(by_distance), means, "o-", color=color, label=recall.NETWORKS[name].label)
        for distance, accuracies in by_distance.items():
            axis.plot([distance] * len(accuracies), accuracies, "_", color=color)
    axis.axhline(1 / recall.LABELS, color="gray", linestyle=":", label="chance")
    axis.set(title="recall of the first token, after training", xlabel="distance", ylabel="accuracy", ylim=(0, 1.04))
    if distances:
        axis.set_xscale("log")
        axis.set_xticks(distances, list(map(str, distances)))
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    _finish(axis, "upper right", (1, 0.95))


def _finish(
    axis: Axes,
    place: Literal["lower right", "upper right"],
    corner: tuple[float, float] | None = None,
    title: str | None = None,
) -> None:
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize="small", loc=place, bbox_to_anchor=corner, title=title, title_fontsize="small")
