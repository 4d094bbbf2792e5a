"""Pictures of a run."""

import pathlib
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from .. import _glyphs
from .data import FORECAST, READ, WAVES, Series, wave_times
from .evaluate import SeriesResult, WaveResult
from .train import CHUNK, RECIPES

COLUMNS = 8  # that are drawn
POINTS = 10_000  # of the truth, at most
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
    _legend(figure)
    figure.savefig(path, format="png", dpi=110)


def draw_series(
    path: pathlib.Path,
    title: str,
    series: Series,
    results: dict[str, SeriesResult],
    naive: np.ndarray,
    losses: dict[str, np.ndarray],
) -> None:
    """For each column forecasts beside the truth, and the error by horizon; the loss curve below."""
    names = series.names[:COLUMNS]
    figure = Figure(figsize=(15, 3.4 * len(names) + 2.8), layout="constrained")
    drawn = f"; the first {COLUMNS} of {len(series.names)} columns" if len(series.names) > COLUMNS else ""
    figure.suptitle(f"{title}{drawn}")
    all_shown = next(iter(results.values())).sample.rows[0] == series.train - 1
    grid = figure.add_gridspec(len(names) + 1, 3)
    for f, name in enumerate(_glyphs.label(_glyphs.short(name)) for name in names):
        sample = figure.add_subplot(grid[f, : 2 if all_shown else 1])
        _draw_sample(sample, f, series, results)
        sample.set_ylabel(name.text, **name.options)
        if not all_shown:
            _draw_errors_of_all(figure.add_subplot(grid[f, 1]), f, results, len(naive))
        _draw_horizons(figure.add_subplot(grid[f, 2]), f, results, naive[:, f])
    _draw_losses(figure.add_subplot(grid[len(names), :]), losses)
    _legend(figure)
    figure.savefig(path, format="png", dpi=110)


def _legend(figure: Figure) -> None:
    """One for all axes, below them, where it covers no curve."""
    handles: dict[str, Any] = {}
    for axis in figure.axes:
        found, labels = axis.get_legend_handles_labels()
        handles |= dict(zip(labels, found, strict=True))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles), frameon=False)


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


def _draw_sample(axis: Axes, f: int, series: Series, results: dict[str, SeriesResult]) -> None:
    """The end of the series, and the forecasts that are kept, each dot an origin."""
    sample, rows = next(iter(results.values())).sample, len(series.values)
    horizon, count = int(sample.steps[-1]), len(sample.rows)
    first = max(0, sample.rows[0] - (rows - sample.rows[0]) // 4)
    shown = np.unique(np.linspace(first, rows - 1, min(rows - first, POINTS)).astype(int))
    axis.plot(shown, series.values[shown, f], color=TRUTH, linewidth=1.2, label="truth")
    if first < series.train:
        axis.axvline(series.train - 0.5, color="#999999", linestyle=":", label="held out from here")
    for index, row in enumerate(sample.rows):
        steps = sample.steps[row + sample.steps < rows]
        for recipe, result in results.items():
            paths = result.sample.paths[:, index, : len(steps), f]
            paths = np.insert(paths, 0, series.values[row, f], axis=1)
            label = RECIPES[recipe] if index == 0 else None
            _draw_band(axis, np.insert(row + steps, 0, row), paths, COLORS[recipe], label, linewidth=1.0)
    axis.plot(sample.rows, series.values[sample.rows, f], ".", color=TRUTH, markersize=4)
    which = f"the last {count} of {rows - series.train:,} " if sample.rows[0] >= series.train else ""
    axis.set(title=f"{which}forecasts of {horizon} steps", xlabel="row")
    _count_rows(axis)


def _draw_errors_of_all(axis: Axes, f: int, results: dict[str, SeriesResult], horizon: int) -> None:
    """Of the forecasts at their last step: median and middle 80% over stretches of the rows."""
    for recipe, result in results.items():
        low, middle, high = np.moveaxis(result.bands.errors[..., f], 1, 0)
        axis.plot(result.bands.rows, middle, color=COLORS[recipe])
        axis.fill_between(result.bands.rows, low, high, color=COLORS[recipe], alpha=0.18, linewidth=0)
    axis.axhline(0, color=NAIVE, linestyle=":")
    axis.set(title=f"errors of all, {horizon} steps ahead: median, 10-90%", xlabel="row", ylabel="forecast less truth")
    _count_rows(axis)


def _count_rows(axis: Axes) -> None:
    """Whole numbers, in full, of millions too."""
    axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _draw_horizons(axis: Axes, f: int, results: dict[str, SeriesResult], naive: np.ndarray) -> None:
    steps, wins = np.arange(1, len(naive) + 1), {}
    for recipe, result in results.items():
        errors = result.rmse[..., f]
        _draw_band(axis, steps, errors, COLORS[recipe], None, marker="o", markersize=3)
        wins[recipe] = int((np.median(errors, axis=0) < naive).sum())
    axis.plot(steps, naive, color=NAIVE, marker="s", markersize=3, label="the last value, repeated: naive")
    better = ", ".join(f"{recipe} {count}" for recipe, count in wins.items())
    axis.set(title=f"beats naive at {better} of {len(steps)}", xlabel="steps ahead", ylabel="RMSE")
    axis.set_ylim(bottom=0)


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
