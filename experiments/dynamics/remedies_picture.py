"""The pictures of `remedies`: who solved what at what cost, and losses over training."""

import pathlib
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .remedies_training import PLAIN

SOLVED, COST = "#2e8b57", "#7a5195"
LINES = ("-", "--", ":")

Row = tuple[str, str]  # remedy and cell


def draw(path: pathlib.Path, title: str, records: list[dict[str, Any]]) -> None:
    """A line for each remedy and cell: a bar of the seeds that solved each task, and one of the cost of a step."""
    rows = list(dict.fromkeys(_row(record) for record in records))
    tasks = list(dict.fromkeys(record["task"] for record in records))
    figure = Figure(figsize=(3.2 + 2.6 * (len(tasks) + 1), 1.6 + 0.27 * len(rows)), layout="constrained")
    figure.suptitle(f"{title}\nseeds that solved the task, and the steps that half of those needed", fontsize=10)
    axes = figure.subplots(1, len(tasks) + 1, sharey=True, squeeze=False)[0]
    for axis, task in zip(axes, tasks, strict=False):
        _draw_solved(axis, rows, [record for record in records if record["task"] == task])
    _draw_costs(axes[-1], rows, records)
    axes[0].set_yticks(range(len(rows)), [_name(row) for row in rows], fontsize=8)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    figure.savefig(path, format="png", dpi=100)


def draw_losses(path: pathlib.Path, title: str, records: list[dict[str, Any]]) -> None:
    """A panel for each task and kind of cell, a line for each remedy and cell."""
    kinds = list(dict.fromkeys(PLAIN[record["cell"]] for record in records))
    tasks = list(dict.fromkeys(record["task"] for record in records))
    colors = _colors(list(dict.fromkeys(_row(record) for record in records)))
    figure = Figure(figsize=(2.2 + 4.2 * len(tasks), 0.8 + 3.6 * len(kinds)), layout="constrained")
    figure.suptitle(f"{title}\nheld-out loss, mean ± standard error over seeds", fontsize=10)
    for kind, axes in zip(kinds, figure.subplots(len(kinds), len(tasks), squeeze=False), strict=True):
        for task, axis in zip(tasks, axes, strict=True):
            panel = [r for r in records if r["task"] == task and PLAIN[r["cell"]] == kind]
            for record in panel:
                _draw_course(axis, record, colors[_row(record)])
            axis.set_title(f"{_title(panel)}, {kind} and its kin" if panel else "", fontsize=10)
            axis.set(xlabel="steps of training", ylabel="nats")
            axis.grid(alpha=0.3)
        axes[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.savefig(path, format="png", dpi=100)


def _row(record: dict[str, Any]) -> Row:
    return record["remedy"], record["cell"]


def _name(row: Row) -> str:
    remedy, cell = row
    return cell if remedy == "none" else f"{cell} + {remedy.replace('_', ' ')}"


def _title(records: list[dict[str, Any]]) -> str:
    return f"{records[0]['task']}, {records[0]['delay']} steps"


def _draw_solved(axis: Axes, rows: list[Row], records: list[dict[str, Any]]) -> None:
    for record in records:
        place, fraction = rows.index(_row(record)), record["solved"] / record["seeds"]
        axis.barh(place, fraction, color=SOLVED)
        steps = "" if record["median_steps"] is None else f", {record['median_steps']:,g}"
        diverged = f", {record['diverged']} diverged" if record["diverged"] else ""
        text, inside = f" {record['solved']}/{record['seeds']}{steps}{diverged} ", fraction > 0.6
        color, side = ("white", "right") if inside else ("#333333", "left")
        axis.text(fraction, place, text, va="center", ha=side, color=color, fontsize=8)
    axis.set(xlim=(0, 1), xticks=[0, 0.5, 1], xticklabels=["0", "½", "all"])
    axis.set_title(_title(records), fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_costs(axis: Axes, rows: list[Row], records: list[dict[str, Any]]) -> None:
    """A point for each task."""
    for record in records:
        axis.plot(record["cost"], rows.index(_row(record)), "o", color=COST, markersize=4, alpha=0.7)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xscale("log")
    axis.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    costs = [record["cost"] for record in records]
    axis.set_xlim(0.8 * min(*costs, 0.8), 1.3 * max(*costs, 2))
    axis.minorticks_off()
    axis.grid(axis="x", alpha=0.3)
    axis.set_title("cost of a step, in the plain cell's", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)


def _colors(rows: list[Row]) -> dict[Row, tuple[str, str]]:
    """A colour and a style of line for each."""
    return {row: (f"C{place % 10}", LINES[place // 10 % len(LINES)]) for place, row in enumerate(rows)}


def _draw_course(axis: Axes, record: dict[str, Any], look: tuple[str, str]) -> None:
    steps, means, errors = (np.array(record[name], float) for name in ("steps", "losses", "standard_errors"))
    axis.plot(steps, means, look[1], marker=".", markersize=3, color=look[0], linewidth=1.4, label=_name(_row(record)))
    axis.fill_between(steps, means - errors, means + errors, color=look[0], alpha=0.15, linewidth=0)
