"""Pictures of a run."""

import pathlib
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .data import Series, wave_times
from .evaluate import SeriesResult, WaveResult

TRUTH, MODEL, OTHER = "#222222", "#c8102e", "#1f6fb4"


def draw_waves(path: pathlib.Path, title: str, result: WaveResult, losses: np.ndarray) -> None:
    """Truth and predictions of each wave over time, the loss curve, and the error over time."""
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplot_mosaic([["k0", "k1", "k2"], ["loss", "loss", "error"]])
    for k, truth in enumerate(result.truth):
        axis, times = axes[f"k{k}"], wave_times(k)[1:]
        axis.scatter(times, truth, s=14, color=TRUTH, label="truth", zorder=2)
        _draw_band(axis, times, result.teacher_forced[:, k], OTHER, "teacher-forced", linestyle="--")
        _draw_band(axis, times, result.free_running[:, k], MODEL, "free-running from the first point")
        mse = np.median(result.mse(result.free_running)[:, k])
        axis.set(title=f"k = {k}: free-running MSE {mse:.3g}", xlabel="time", ylim=(-1.6, 1.6))
    axes["k0"].set_ylabel("sin(time)")
    figure.legend(*axes["k0"].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    _draw_losses(axes["loss"], losses)
    steps = np.arange(1, result.truth.shape[1] + 1)
    for label, prediction, color in (
        ("teacher-forced", result.teacher_forced, OTHER),
        ("free-running", result.free_running, MODEL),
    ):
        _draw_band(axes["error"], steps, np.abs(prediction - result.truth).mean(axis=1), color, label)
    axes["error"].set(title="error over time, mean over k", xlabel="steps from the first point", ylabel="|error|")
    axes["error"].set_yscale("log")
    axes["error"].legend(fontsize="small")
    figure.savefig(path, format="png", dpi=110)


def draw_series(path: pathlib.Path, title: str, series: Series, result: SeriesResult, losses: np.ndarray) -> None:
    """For each column the held-out tail with forecasts, and the error by horizon; the loss curve below."""
    count = len(series.names)
    figure = Figure(figsize=(13, 3.4 * count + 2.6), layout="constrained")
    figure.suptitle(title)
    grid = figure.add_gridspec(count + 1, 3)
    for f, name in enumerate(series.names):
        _draw_tail(figure.add_subplot(grid[f, :2]), name, f, series, result)
        _draw_horizons(figure.add_subplot(grid[f, 2]), f, result)
    _draw_losses(figure.add_subplot(grid[count, :]), losses)
    figure.savefig(path, format="png", dpi=110)


def _draw_tail(axis: Axes, name: str, f: int, series: Series, result: SeriesResult) -> None:
    """The tail, and forecasts from origins a horizon apart, each dot an origin."""
    tail, horizon = result.targets.shape[:2]
    shown = np.arange(series.train - min(tail, series.train) // 4, len(series.values))
    axis.plot(shown, series.values[shown, f], color=TRUTH, linewidth=1.2, label="truth")
    axis.axvline(series.train - 0.5, color="#999999", linestyle=":", label="held out from here")
    for index, origin in enumerate(range(0, tail, horizon)):
        length = min(horizon, tail - origin)
        rows = series.train - 1 + origin + np.arange(length + 1)
        value = series.values[rows[0], f]
        paths = np.insert(result.forecasts[:, origin, :length, f], 0, value, axis=1)
        _draw_band(axis, rows, paths, MODEL, "forecast" if index == 0 else None, linewidth=1.0)
        axis.plot(rows[0], value, ".", color=MODEL, markersize=4)
    axis.set(title=f"{name}: forecasts of {horizon} steps", xlabel="row", ylabel=name)
    axis.legend(fontsize="small")


def _draw_horizons(axis: Axes, f: int, result: SeriesResult) -> None:
    ours, naive = result.rmse(result.forecasts)[..., f], result.rmse(result.naive)[..., f]
    steps = np.arange(1, ours.shape[1] + 1)
    _draw_band(axis, steps, ours, MODEL, "network", marker="o", markersize=3)
    axis.plot(steps, naive, color=OTHER, marker="s", markersize=3, label="naive: last value")
    wins = int((np.median(ours, axis=0) < naive).sum())
    axis.set(title=f"network better at {wins} of {len(steps)} horizons", xlabel="steps ahead", ylabel="RMSE")
    axis.set_ylim(bottom=0)
    axis.legend(fontsize="small")


def _draw_losses(axis: Axes, losses: np.ndarray) -> None:
    _draw_band(axis, np.arange(1, len(losses) + 1), losses.T, MODEL, None, linewidth=0.6)
    axis.set(title="training loss (MSE)", xlabel="step", yscale="log")


def _draw_band(axis: Axes, x: np.ndarray, values: np.ndarray, color: str, label: str | None, **line: Any) -> None:
    """The median of values (seeds, len(x)), and the band that holds the middle 80% of the seeds."""
    band = label and len(values) > 1
    axis.plot(x, np.median(values, axis=0), color=color, label=f"{label} (median, 10-90%)" if band else label, **line)
    if len(values) > 1:
        low, high = np.percentile(values, [10, 90], axis=0)
        axis.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
