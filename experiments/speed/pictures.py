"""The picture: each peer's time over ours, by shape."""

import pathlib
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .grid import MODES
from .summary import BEST, best, geometric_means, ratios

STYLES = {  # color and marker
    "torch": ("#c8102e", "s"),
    "linen": ("#1f6fb4", "o"),
    "nnx": ("#5aa9e6", "D"),
    "haiku": ("#2e8b57", "^"),
    "equinox": ("#e08e0b", "v"),
    "scan": ("#7a5195", "P"),
    "jaxrnn-xla": ("#9a9a9a", "x"),
    "cudnn": ("#4d4d4d", "X"),
    "flashrnn": ("#d45087", "*"),
}


def draw(path: pathlib.Path, title: str, records: list[dict[str, Any]]) -> None:
    """A panel for each cell and mode: ratios along a logarithmic axis, a row for each shape."""
    cells = list(dict.fromkeys(record["cell"] for record in records))
    labels = list(dict.fromkeys(record["label"] for record in records))
    figure = Figure(figsize=(max(8.0, 2.4 + 4.6 * len(cells)), 2.4 + 1.0 * len(labels)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    panels = figure.subplots(len(MODES), len(cells), squeeze=False, sharex=True, sharey=True)
    for row, mode in zip(panels, MODES, strict=True):
        for axis, cell in zip(row, cells, strict=True):
            _draw_panel(axis, cell, mode, [record for record in records if record["cell"] == cell], labels)
    _limit(panels, records)
    for axis in panels[-1]:
        axis.set_xlabel("time over jaxrnn's, logarithmic")
    handles: dict[str, Any] = {}
    for axis in panels.flat:
        found, labels = axis.get_legend_handles_labels()
        handles |= dict(zip(labels, found, strict=True))
    names = [name for name in (*STYLES, "roofline") if name in handles]
    figure.legend([handles[name] for name in names], names, loc="outside lower center", ncols=len(names), frameon=False)
    figure.savefig(path, format="png", dpi=110)


def _draw_panel(axis: Axes, cell: str, mode: str, records: list[dict[str, Any]], labels: list[str]) -> None:
    for name, (color, marker) in STYLES.items():
        found = [(ratios(r, mode)[name], labels.index(r["label"])) for r in records if name in r["milliseconds"][mode]]
        if found:
            axis.scatter(*zip(*found, strict=True), color=color, marker=marker, s=36, label=name, zorder=3)
    bound = [(_roofline(record, mode), labels.index(record["label"])) for record in records]
    axis.scatter(*zip(*bound, strict=True), color="black", marker="|", s=260, linewidths=2.2, label="roofline")
    for record in records:
        _annotate(axis, record, mode, labels.index(record["label"]))
    means = geometric_means(records, mode)
    mean = f"; best peer's geometric mean {means[BEST]:.2f}" if BEST in means else ""
    axis.set_title(f"{cell}, {mode}{mean}", fontsize=10)
    axis.axvline(1, color="#333333", linewidth=1, zorder=1)
    axis.set(xscale="log", yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.4, -0.6))
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.25)


def _annotate(axis: Axes, record: dict[str, Any], mode: str, row: int) -> None:
    """The best peer's ratio, under its marker; red where ours is slower."""
    if fastest := best(record, mode):
        ratio = fastest[1]
        color = "#c8102e" if ratio < 1 else "#333333"
        axis.annotate(
            f"{ratio:.2f}",
            (ratio, row),
            (0, -9),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=8,
            color=color,
            bbox={"boxstyle": "square,pad=0.1", "color": "white", "alpha": 0.7, "linewidth": 0},
        )


def _limit(panels: Any, records: list[dict[str, Any]]) -> None:
    """The axis that all panels share, and where ours is slower shaded."""
    values = [1.0]
    for record in records:
        for mode in MODES:
            values += [*ratios(record, mode).values(), _roofline(record, mode)]
    low, high = min(values) / 1.3, max(values) * 1.3
    for axis in panels.flat:
        axis.axvspan(low, 1, color="#c8102e", alpha=0.05, linewidth=0)
        axis.set_xlim(low, high)


def _roofline(record: dict[str, Any], mode: str) -> float:
    return 1 / record["over_roofline"][mode]["median"]
