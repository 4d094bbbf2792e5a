"""The picture of `spectrum`."""

import pathlib
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import mean_field

COLORS = ("#9db8d2", "#5aa9e6", "#1f6fb4", "#10375c")
BY_GAIN = ("#2e8b57", "#e08214", "#c8102e")


def draw(
    path: pathlib.Path,
    gains: tuple[float, ...],
    largest: dict[int, np.ndarray],
    fits: dict[float, Any],
    spectra: dict[int, dict[float, Any]],
) -> None:
    """Largest exponents against gain and against size, and whole spectra."""
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_gains(left, gains, largest)
    _draw_sizes(middle, gains, largest, fits)
    _draw_spectra(right, spectra)
    for axis in (left, middle, right):
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize="small")
    figure.savefig(path, format="png", dpi=100)


def _draw_gains(axis: Axes, gains: tuple[float, ...], largest: dict[int, np.ndarray]) -> None:
    curve = np.linspace(gains[0], gains[-1], 200)
    axis.plot(curve, [mean_field.largest_exponent(gain) for gain in curve], "k--", linewidth=1, label="theory, N → ∞")
    for index, (size, values) in enumerate(largest.items()):
        color = COLORS[index % len(COLORS)]
        axis.errorbar(gains, values.mean(axis=0), _errors(values), fmt="o", ms=4, color=color, label=f"N = {size:,}")
    axis.axhline(0, color="gray", linewidth=0.8)
    axis.axvline(1, color="gray", linewidth=0.8)
    axis.set(xlabel="gain g", ylabel="nats per step", title="largest Lyapunov exponent, x ← g J tanh(x)")


def _draw_sizes(axis: Axes, gains: tuple[float, ...], largest: dict[int, np.ndarray], fits: dict[float, Any]) -> None:
    """What a size is off theory by."""
    inverse = np.linspace(0, 1 / min(largest), 50)
    for color, (gain, fit) in zip(BY_GAIN, fits.items(), strict=True):
        found = np.array([values[:, gains.index(gain)] for values in largest.values()]).T - fit.theory
        axis.errorbar(1 / np.array(list(largest)), found.mean(axis=0), _errors(found), fmt="o", ms=4, color=color)
        axis.plot(inverse, fit.a - fit.theory + fit.b * inverse, color=color, linewidth=1.2, label=f"g = {gain}")
    axis.axhline(0, color="black", linestyle="--", linewidth=1)
    axis.set(xlabel="1 / N", ylabel="nats per step", title="largest exponent less theory's; lines: a + b/N")


def _draw_spectra(axis: Axes, spectra: dict[int, dict[float, Any]]) -> None:
    for style, (size, by_gain) in zip((":", "-"), spectra.items(), strict=True):
        for color, (gain, found) in zip(BY_GAIN, by_gain.items(), strict=True):
            places = (np.arange(size) + 0.5) / size
            axis.plot(places, found.exponents, style, color=color, linewidth=1.4, label=f"g = {gain}, N = {size:,}")
    axis.axhline(0, color="gray", linewidth=0.8)
    axis.set(xlabel="i / N", ylabel="nats per step", title="all exponents λ_i of one network")
    axis.set_ylim(bottom=-4)


def _errors(values: np.ndarray) -> np.ndarray:
    """Standard errors over networks."""
    return values.std(axis=0, ddof=1) / len(values) ** 0.5
