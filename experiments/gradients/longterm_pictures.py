"""The picture of `longterm`."""

import pathlib
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = {"rnn": "#c8102e", "gru": "#2e8b57", "lstm": "#1f6fb4"}
TITLES = {"order": "temporal order", "adding": "adding"}


def draw(path: pathlib.Path, title: str, records: list[dict[str, Any]]) -> None:
    """A row of panels for each task, one for each T, and in it a bar for each network."""
    rows = {task: _by_length(records, task) for task in dict.fromkeys(record["task"] for record in records)}
    bars = max(len(panel) for row in rows.values() for panel in row)
    columns = max(map(len, rows.values()))
    figure = Figure(figsize=(1.8 + 4.4 * columns, 1.0 + (0.9 + 0.3 * bars) * len(rows)), layout="constrained")
    figure.suptitle(f"{title}\nseeds that solved the task, and the steps that half of those needed", fontsize=11)
    for axes, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows.values(), strict=True):
        for axis, panel in zip(axes, row, strict=False):
            _draw_panel(axis, panel)
        for axis in axes[len(row) :]:
            axis.set_axis_off()
    figure.savefig(path, format="png", dpi=100)


def _by_length(records: list[dict[str, Any]], task: str) -> list[list[dict[str, Any]]]:
    lengths = dict.fromkeys(record["length"] for record in records if record["task"] == task)
    return [[r for r in records if (r["task"], r["length"]) == (task, length)] for length in lengths]


def _draw_panel(axis: Axes, records: list[dict[str, Any]]) -> None:
    for place, record in enumerate(records):
        fraction = record["solved"] / record["seeds"]
        axis.barh(place, fraction, color=COLORS[record["cell"]])
        steps = "" if record["median_steps"] is None else f", {record['median_steps']:,g} steps"
        text, inside = f" {record['solved']}/{record['seeds']}{steps} ", fraction > 0.5
        color, side = ("white", "right") if inside else ("#333333", "left")
        axis.text(fraction, place, text, va="center", ha=side, color=color, fontsize=9)
    axis.set(xlim=(0, 1), ylim=(len(records) - 0.4, -0.6), xticks=[0, 0.5, 1], xticklabels=["0", "½", "all"])
    axis.set_yticks(range(len(records)), [_name(record) for record in records], fontsize=9)
    axis.set_title(f"{TITLES[records[0]['task']]}, T = {records[0]['length']}", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)


def _name(record: dict[str, Any]) -> str:
    extras = [name for name in ("clip", "orthogonal") if record[name]]
    return " + ".join([record["cell"], *extras])
