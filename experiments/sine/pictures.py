"""Pictures of a run."""

import pathlib
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .data import FORECAST, READ, WAVES, Series, wave_times
from .evaluate import SeriesResult, WaveResult
from .train import CHUNK, RECIPES

TRUTH, NAIVE = "#222222", "#888888"
COLORS = {"notes": "#1f6fb4", "cosine": "#c8102e"}


def draw_waves(path: pathlib.Path, title: str, results: dict[str, WaveResult], losses: dict[str, np.ndarray]) -> None:
    """Each recipe's forecast of the first wave, of all waves from their first point, its losses, its errors in time."""
    figure = Figure(figsize=(12, 9.2), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplot_mosaic([["forecast"] * 3, ["k0", "k1", "k2"], ["loss", "loss", "error"]])
    _draw_forecast(axes["forecast"], results)
    for k in range(WAVES):
        _draw_wave(axes[f"k{k}"], k, results)
    axes["k0"].set_ylabel("from the first point alone")
    _draw_losses(axes["loss"], losses)
    _draw_errors(axes["error"], results)
    figure.legend(*axes["forecast"].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, format="png", dpi=110)


def draw_series(
    path: pathlib.Path,
    title: str,
    series: Series,
    results: dict[str, SeriesResult],
    losses: dict[str, np.ndarray],
) -> None:
    """For each column the held-out tail with forecasts, and the error by horizon; the loss curve below."""
    count = len(series.names)
    figure = Figure(figsize=(13, 3.4 * count + 2.6), layout="constrained")
    figure.suptitle(title)
    grid = figure.add_gridspec(count + 1, 3)
    for f, name in enumerate(series.names):
        _draw_tail(figure.add_subplot(grid[f, :2]), name, f, series, results)
        _draw_horizons(figure.add_subplot(grid[f, 2]), f, results)
    _draw_losses(figure.add_subplot(grid[count, :]), losses)
    figure.savefig(path, format="png", dpi=110)


def _draw_forecast(axis: Axes, results: dict[str, WaveResult]) -> None:
    """The wave of k = 0: the points that were read, and what each recipe makes of the rest."""
    times = wave_times(0, READ + FORECAST)
    axis.axvspan(times[0], wave_times(WAVES - 1)[-1], color="#f1f1ec", zorder=0, label="times seen in training")
    _draw_truth(axis, times, READ)
    for name, result in results.items():
        _draw_band(axis, times[READ:], result.forecast[:, 0], COLORS[name], RECIPES[name], linewidth=1.6)
    axis.axvline(times[READ - 1], color=NAIVE, linestyle=":")
    axis.annotate("forecast: each prediction is the next input", (times[READ - 1] + 0.25, 1.28), color="#555555")
    errors = _medians({name: result.mse()["forecast"][:, 0] for name, result in results.items()})
    axis.set(title=f"{FORECAST} steps of forecast after reading {READ} points: MSE {errors}", ylabel="sin(time)")
    axis.set(xlabel="time", xlim=(times[0] - 0.3, times[-1]), ylim=(-1.6, 1.6))


def _draw_wave(axis: Axes, k: int, results: dict[str, WaveResult]) -> None:
    """The wave of k, run freely from its first point."""
    times = wave_times(k)
    _draw_truth(axis, times, 1)
    for name, result in results.items():
        _draw_band(axis, times[1:], result.free_running[:, k], COLORS[name], None)
    errors = _medians({name: result.mse()["free_running"][:, k] for name, result in results.items()})
    axis.set(title=f"k = {k}: MSE {errors}", xlabel="time", ylim=(-1.6, 1.6))


def _draw_truth(axis: Axes, times: np.ndarray, read: int) -> None:
    """The wave, and its points that a network reads before it forecasts."""
    axis.plot(times, np.sin(times), color=TRUTH, linewidth=4, alpha=0.22, label="sin(time)")
    axis.plot(times[:read], np.sin(times[:read]), ".", color=TRUTH, markersize=7, label="points read")


def _medians(errors: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{recipe} {np.median(values):.2g}" for recipe, values in errors.items())


def _draw_errors(axis: Axes, results: dict[str, WaveResult]) -> None:
    """The error of the long forecast over time."""
    steps = np.arange(1, FORECAST + 1)
    for name, result in results.items():
        errors = np.abs(result.forecast - result.future).mean(axis=1)
        _draw_band(axis, steps, errors, COLORS[name], None, linewidth=1.0)
    axis.set(title="|error| of the forecast, mean over k", xlabel="steps", yscale="log")


def _draw_tail(axis: Axes, name: str, f: int, series: Series, results: dict[str, SeriesResult]) -> None:
    """The tail, and forecasts from origins a horizon apart, each dot an origin."""
    tail, horizon = next(iter(results.values())).targets.shape[:2]
    shown = np.arange(series.train - min(tail, series.train) // 4, len(series.values))
    axis.plot(shown, series.values[shown, f], color=TRUTH, linewidth=1.2, label="truth")
    axis.axvline(series.train - 0.5, color="#999999", linestyle=":", label="held out from here")
    for index, origin in enumerate(range(0, tail, horizon)):
        length = min(horizon, tail - origin)
        rows = series.train - 1 + origin + np.arange(length + 1)
        value = series.values[rows[0], f]
        for recipe, result in results.items():
            paths = np.insert(result.forecasts[:, origin, :length, f], 0, value, axis=1)
            _draw_band(axis, rows, paths, COLORS[recipe], RECIPES[recipe] if index == 0 else None, linewidth=1.0)
        axis.plot(rows[0], value, ".", color=TRUTH, markersize=4)
    axis.set(title=f"{name}: forecasts of {horizon} steps", xlabel="row", ylabel=name)
    axis.legend(fontsize="small")


def _draw_horizons(axis: Axes, f: int, results: dict[str, SeriesResult]) -> None:
    any_result, wins = next(iter(results.values())), {}
    naive = any_result.rmse(any_result.naive)[..., f]
    steps = np.arange(1, len(naive) + 1)
    for recipe, result in results.items():
        errors = result.rmse(result.forecasts)[..., f]
        _draw_band(axis, steps, errors, COLORS[recipe], recipe, marker="o", markersize=3)
        wins[recipe] = int((np.median(errors, axis=0) < naive).sum())
    axis.plot(steps, naive, color=NAIVE, marker="s", markersize=3, label="naive: last value")
    better = ", ".join(f"{recipe} {count}" for recipe, count in wins.items())
    axis.set(title=f"beats naive at {better} of {len(steps)}", xlabel="steps ahead", ylabel="RMSE")
    axis.set_ylim(bottom=0)
    axis.legend(fontsize="small")


def _draw_losses(axis: Axes, losses: dict[str, np.ndarray]) -> None:
    """The losses, pale, and their mean over each chunk of steps."""
    for name, values in losses.items():
        steps = np.arange(1, len(values) + 1)
        axis.plot(steps, np.median(values, axis=1), color=COLORS[name], alpha=0.25, linewidth=0.5)
        chunks = range(0, len(values), CHUNK)
        means = np.array([values[start : start + CHUNK].mean(axis=0) for start in chunks])
        middles = [steps[start : start + CHUNK].mean() for start in chunks]
        _draw_band(axis, np.array(middles), means.T, COLORS[name], None, linewidth=1.8)
    axis.set(title=f"training loss (MSE), and its mean over {CHUNK} steps", xlabel="step", yscale="log")


def _draw_band(axis: Axes, x: np.ndarray, values: np.ndarray, color: str, label: str | None, **line: Any) -> None:
    """The median of values (seeds, len(x)), and the band that holds the middle 80% of the seeds."""
    band = label and len(values) > 1
    axis.plot(x, np.median(values, axis=0), color=color, label=f"{label} (median, 10-90%)" if band else label, **line)
    if len(values) > 1:
        low, high = np.percentile(values, [10, 90], axis=0)
        axis.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
