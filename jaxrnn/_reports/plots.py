"""Pictures of reports. The only module of jaxrnn that imports matplotlib; `drawing` alone imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

if TYPE_CHECKING:
    from .comparison import Agreement, Comparison, Measured
    from .fixed_points import FixedPoints
    from .flow import Flow

_COLORS = ("#1f6fb4", "#c8102e", "#2e8b57", "#e08e0b", "#7a5195", "#5aa9e6", "#4d4d4d", "#d45087")
_MARKERS = "osD^vPX*"
_PANELS = {  # field: title, whether the axis is logarithmic
    "cosine": ("cosine with the exact gradient", False),
    "norm_ratio": ("norm over the exact one's", True),
    "relative_error": ("relative error", True),
    "bias": ("bias; line: chance alone", True),
    "signal_to_noise": ("signal to noise", True),
}


def draw_comparison(report: Comparison) -> Figure:
    """A panel for each measure, a row for each tensor; time and memory at the right."""
    names = ["total", *report.norms]
    fields = [field for field in _PANELS if _is_measured(report, field)]
    width, height = 2.6 + 2.6 * (len(fields) + 1), 2.2 + max(0.5, 0.07 * len(report.algorithms)) * len(names)
    figure = Figure(figsize=(width, max(4.0, height)), layout="constrained")
    figure.suptitle(_title(report), fontsize=11)
    *panels, cost = figure.subplots(1, len(fields) + 1, squeeze=False)[0]
    for axis, field in zip(panels, fields, strict=True):
        _draw_measure(axis, report, field)
        axis.set(yticks=range(len(names)), yticklabels=names if axis is panels[0] else [""] * len(names))
        axis.set_ylim(len(names) - 0.5, -0.5)
    _draw_cost(cost, report)
    handles = [Line2D([], [], linestyle="", label=name, **_style(i)) for i, name in enumerate(report.algorithms)]
    handles += [Line2D([], [], linestyle="", label="exact BPTT", marker="|", color="black", markersize=11)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), frameon=False)
    return figure


def _title(report: Comparison) -> str:
    draws = any(measured.stochastic for measured in report.algorithms.values())
    return f"gradients against exact BPTT, T={report.steps}" + f", {report.repeats} draws" * draws


def _is_measured(report: Comparison, field: str) -> bool:
    return any(getattr(measured.total, field) is not None for measured in report.algorithms.values())


def _style(index: int) -> dict[str, Any]:
    return {"color": _COLORS[index % len(_COLORS)], "marker": _MARKERS[(index + index // len(_COLORS)) % len(_MARKERS)]}


def _draw_measure(axis: Axes, report: Comparison, field: str) -> None:
    """Algorithms side by side within each tensor's row."""
    title, logarithmic = _PANELS[field]
    count = len(report.algorithms)
    for i, measured in enumerate(report.algorithms.values()):
        offset = 0.6 * ((i + 0.5) / count - 0.5)
        for row, agreement in enumerate(_rows(measured)):
            value = getattr(agreement, field)
            if value is None or not np.isfinite(value) or (logarithmic and value <= 0):
                continue
            axis.plot(value, row + offset, markersize=5, linestyle="", zorder=3, **_style(i))
            if field == "bias" and agreement.bias_standard_error:
                axis.plot(agreement.bias_standard_error, row + offset, "|", color=_style(i)["color"], markersize=9)
    if field in ("cosine", "norm_ratio"):
        axis.axvline(1, color="#333333", linewidth=0.8, zorder=1)
    axis.set_title(title, fontsize=9)
    if logarithmic:
        axis.set_xscale("log")
        low, high = axis.get_xlim()
        if high < 1000 * low:
            _label_plainly(axis.xaxis)
    axis.tick_params(labelsize=8)
    axis.grid(axis="x", alpha=0.3)
    for boundary in range(len(report.norms)):
        axis.axhline(boundary + 0.5, color="#bbbbbb", linewidth=1.2 if boundary == 0 else 0.5)


def _rows(measured: Measured) -> list[Agreement]:
    return [measured.total, *measured.tensors.values()]


def _draw_cost(axis: Axes, report: Comparison) -> None:
    """Memory over time, one point each."""
    costs = [measured.cost for measured in report.algorithms.values()]
    for i, cost in enumerate(costs):
        axis.plot(1e3 * cost.seconds, (cost.memory or 0) / 1e3, linestyle="", markersize=6, **_style(i))
    axis.plot(1e3 * report.exact.seconds, (report.exact.memory or 0) / 1e3, "|", color="black", markersize=14)
    axis.set_xscale("log")
    _label_plainly(axis.xaxis)
    if all(cost.memory for cost in (*costs, report.exact)):
        axis.set_yscale("log")
        _label_plainly(axis.yaxis)
    axis.set_title("kB of temporaries over milliseconds", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.margins(0.15)
    axis.grid(alpha=0.3)


def _label_plainly(axis: Axis) -> None:
    """A logarithmic axis with 1, 2, 5, 10, …; by itself it writes out powers, one over the other."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def draw_flow(flow: Flow) -> Figure:
    """The norms over time, and the map, both logarithmic."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    figure.suptitle(f"{flow.sentence()}\n{flow.bound_sentence()}", fontsize=10)
    left, right = figure.subplots(1, 2)
    _draw_norms(left, flow)
    _draw_map(right, flow)
    return figure


def _draw_norms(axis: Axes, flow: Flow) -> None:
    times = np.arange(1, flow.steps + 1)
    marker = "o" if flow.steps < 30 else None
    axis.plot(times, _positive(flow.total), color="black", linewidth=1.6, marker=marker, label="total")
    if len(flow.norms) > 1:
        for i, (name, norms) in enumerate(flow.norms.items()):
            color = _COLORS[i % len(_COLORS)]
            axis.plot(times, _positive(norms), color=color, linewidth=1, marker=marker, label=name)
        axis.legend(frameon=False)
    axis.set_xlabel("t")
    axis.set_title("|dL/ds_t|, the gradient of the whole loss at each state", fontsize=10)
    drawn = _positive(flow.total)
    if not np.isnan(drawn).all():
        axis.set_yscale("log")
        if np.nanmax(drawn) < 1000 * np.nanmin(drawn):
            _label_plainly(axis.yaxis)
    axis.grid(alpha=0.3)


def _draw_map(axis: Axes, flow: Flow) -> None:
    """What is 0 is grey, what is not finite red, the future of k > t empty."""
    colors = matplotlib.colormaps["viridis"].with_extremes(bad="none")
    future = np.triu(np.ones(flow.map.shape, bool), 1)
    values = np.ma.masked_array(_positive(flow.map), future | ~(_positive(flow.map) > 0))
    half = (flow.times[1] - flow.times[0]) / 2 if len(flow.times) > 1 else 0.5
    extent = (flow.times[0] - half, flow.times[-1] + half, flow.times[-1] + half, flow.times[0] - half)
    present = values.compressed()
    scale = LogNorm(present.min(), present.max()) if present.size else None
    image = axis.imshow(values, cmap=colors, norm=scale, extent=extent, aspect="auto", interpolation="nearest")
    overlay = np.zeros((*flow.map.shape, 4))
    overlay[~future & (flow.map == 0)] = (0.85, 0.85, 0.85, 1)
    overlay[~future & ~np.isfinite(flow.map)] = (0.8, 0, 0, 1)
    axis.imshow(overlay, extent=extent, aspect="auto", interpolation="nearest")
    if present.size:
        axis.figure.colorbar(image, ax=axis, label="|dL_t/ds_k|")
    axis.set(xlabel="k, time of the state", ylabel="t, time of the loss")
    axis.set_title(f"|dL_t/ds_k|, {flow.sampling()}{_legend(flow.map, future)}", fontsize=10)


def _legend(values: np.ndarray, future: np.ndarray) -> str:
    """Of the colours that are there beside the scale's."""
    grey = "; grey: 0" * bool(np.any(values[~future] == 0))
    return grey + "; red: not finite" * bool(np.any(~np.isfinite(values[~future])))


def _positive(values: np.ndarray) -> np.ndarray:
    """NaN, which is not drawn, for what has no logarithm."""
    return np.where((values > 0) & np.isfinite(values), values, np.nan)


def draw_fixed_points(found: FixedPoints, paths: np.ndarray) -> Figure:
    """On up to three principal axes of the paths (N, T, n), or of the points themselves if there are none."""
    cloud = paths.reshape(-1, paths.shape[-1]) if paths.size else found.vectors
    centre, axes, explained = _principal_axes(cloud)
    figure = Figure(figsize=(8, 7), layout="constrained")
    figure.suptitle(f"{found.sentence()}\nthese axes have {explained:.0%} of the variance", fontsize=10)
    panel: Any = figure.add_subplot(projection="3d" if len(axes) == 3 else None)
    for path in paths:
        panel.plot(*_padded((path - centre) @ axes.T), color="#9db8d2", linewidth=0.6, alpha=0.6, zorder=1)
    places, extent = (found.vectors - centre) @ axes.T, float(np.ptp(cloud @ axes.T, axis=0).max())
    for place, values, modes in zip(places, found.eigenvalues, found.modes, strict=True):
        for mode in modes.T[np.abs(values) > 1]:
            reach = 0.06 * extent * np.real(mode) @ axes.T
            panel.plot(*_padded(np.stack([place - reach, place + reach])), color="#c8102e", linewidth=1.4, zorder=2)
    for label, which, style in _kinds(found):
        if which.any():
            panel.scatter(*_padded(places[which]), label=f"{label} ({which.sum()})", zorder=3, **style)
    for name, number in zip("xyz", range(1, max(2, len(axes)) + 1), strict=False):
        getattr(panel, f"set_{name}label")(f"principal axis {number}" if number <= len(axes) else "")
    if len(found.speeds):
        panel.legend(frameon=False, loc="upper left")
    return figure


def _principal_axes(cloud: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The mean (n,), at most three axes (A, n) along which the cloud (N, n) varies most, and their part of that."""
    centre = cloud.mean(axis=0)
    _, sizes, axes = np.linalg.svd(cloud - centre, full_matrices=False)
    total = float(np.sum(sizes**2))
    return centre, axes[:3], float(np.sum(sizes[:3] ** 2)) / total if total else 1.0


def _padded(places: np.ndarray) -> np.ndarray:
    """(A, N) coordinates, with zeros for a second one if there is one alone."""
    return np.pad(places, ((0, 0), (0, max(0, 2 - places.shape[1])))).T


def _kinds(found: FixedPoints) -> list[tuple[str, np.ndarray, dict[str, Any]]]:
    """Label, which of the points, and how they are drawn."""
    return [
        ("stable", found.stable, {"color": "black", "s": 45}),
        (
            "fixed, unstable along the lines",
            found.is_fixed & ~found.stable,
            {"color": "#c8102e", "marker": "X", "s": 45},
        ),
        ("slow", ~found.is_fixed, {"color": "#e08e0b", "marker": "D", "s": 25}),
    ]
