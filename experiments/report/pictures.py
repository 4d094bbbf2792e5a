"""The figures of a report, as SVG that takes its ink from the page, on any background."""

import io
import re
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .measures import Lag, Points, Spectrum

BLUE, RED, ORANGE = "#4a8fd0", "#d9435a", "#e0913a"
_SIZE = (8, 4)


def svg(figure: Figure) -> str:
    """An `<svg>` element without a size of its own: black is the page's ink, white its background."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "jaxrnn", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1
    )
    text = re.sub(r'<g id="[^"]*">', "<g>", text)  # several figures on one page would have the same
    return text.replace("#000000", "currentColor")


def draw_spectrum(found: Spectrum, size: int) -> Figure:
    """The exponents by their place, with twice their standard errors."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axis = figure.subplots()
    places, shown = np.arange(1, len(found.exponents) + 1), np.isfinite(found.exponents)
    errors = np.nan_to_num(2 * found.standard_errors)
    axis.axhline(0, color="black", linewidth=0.8)
    style: dict[str, Any] = {"fmt": "o", "markersize": 4, "color": BLUE, "ecolor": BLUE, "linewidth": 1}
    axis.errorbar(places[shown], found.exponents[shown], errors[shown], **style)
    lost = int(np.sum(~shown))
    note = f"; {lost} at -inf are not drawn" * (lost > 0)
    axis.set_title(f"{len(places)} largest of {size} Lyapunov exponents, ± 2 standard errors{note}", fontsize=10)
    axis.set(xlabel="i", ylabel="λ$_i$, nats per step")
    axis.grid(alpha=0.3)
    return figure


def draw_lags(lags: list[Lag]) -> Figure:
    """The largest, the median and the smallest singular value at each lag, with the range over windows."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axis = figure.subplots()
    size = lags[0].values.shape[1]
    curves = {"largest": (0, RED), "median": ((size - 1) // 2, BLUE), "smallest": (size - 1, ORANGE)}
    axis.axhline(1, color="black", linewidth=0.8)
    for label, (index, color) in curves.items():
        _draw_curve(axis, lags, index, label, color)
        if size == 1:
            break
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks([lag.lag for lag in lags], [f"{lag.lag}" for lag in lags])
    axis.set(xlabel="k, steps", ylabel="singular values of ∂s$_t$/∂s$_{t-k}$")
    windows = len(lags[0].values)
    axis.set_title(
        f"geometric mean and range over {windows} window{'s' * (windows > 1)}; a line ends in rounding", fontsize=10
    )
    axis.legend(frameon=False)
    axis.grid(alpha=0.3)
    return figure


def _draw_curve(axis: Axes, lags: list[Lag], index: int, label: str, color: str) -> None:
    """Where the value is known in all windows."""
    values = np.array([lag.values[:, index] for lag in lags])
    known = np.isfinite(values).all(axis=1) & (values > 0).all(axis=1)
    if known.any():
        steps, values = np.array([lag.lag for lag in lags])[known], values[known]
        axis.fill_between(steps, values.min(axis=1), values.max(axis=1), color=color, alpha=0.2, linewidth=0)
        axis.plot(steps, np.exp(np.log(values).mean(axis=1)), "o-", markersize=4, color=color, label=label)


def draw_points(points: Points) -> Figure:
    """On the principal axes of the trajectories."""
    figure = points.found.plot(points.trajectories)
    for panel in figure.axes:
        for name in ("xaxis", "yaxis", "zaxis"):
            if hasattr(panel, "zaxis"):
                getattr(panel, name).set_pane_color((0.5, 0.5, 0.5, 0.08))
    return figure


def draw_course(rows: tuple[dict[str, Any], ...]) -> Figure:
    """Loss and gradient over the steps of training, with the median of a hundredth of them at a time."""
    names = {"loss": "loss", "grad_norm": "norm of the gradient"}
    present = [name for name in names if rows[0].get(name) is not None]
    figure = Figure(figsize=_SIZE if len(present) == 1 else (10, 4), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(present), squeeze=False)[0], present, strict=True):
        steps = np.array([row["step"] for row in rows])
        values = np.array([np.nan if row[name] is None else row[name] for row in rows], float)
        axis.plot(steps, values, color=BLUE, linewidth=0.6, alpha=0.5)
        width = max(1, len(steps) // 100)
        whole = len(steps) // width * width
        means = np.median(values[:whole].reshape(-1, width), axis=1)
        axis.plot(steps[:whole].reshape(-1, width).mean(axis=1), means, color=RED, linewidth=1.4)
        if np.nanmin(values) > 0:
            axis.set_yscale("log")
        axis.set(xlabel="step", title=names[name])
        axis.grid(alpha=0.3)
    return figure
