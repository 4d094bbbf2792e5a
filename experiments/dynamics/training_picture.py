"""The picture of `training`."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

BROKEN, CHAOTIC = "#c8102e", "#e08214"


def draw(
    path: pathlib.Path,
    gains: tuple[float, ...],
    course: Any,
    at_start: np.ndarray,
    findings: list[Any],
    verdict: Callable[[Any], str],
) -> None:
    """A column for each network: exponents, norms of the gradient, losses, over the steps of training."""
    figure = Figure(figsize=(3.6 * len(gains), 7.5), layout="constrained")
    rows = figure.subplots(3, len(gains), sharex=True, sharey="row", squeeze=False)
    exponents, middle = np.array([at_start, *course.exponents]), np.array(course.steps)
    for index, (gain, finding) in enumerate(zip(gains, findings, strict=True)):
        top, norms, losses = rows[:, index]
        for place in range(exponents.shape[2] - 1, -1, -1):
            color, width = ("#1f6fb4", 1.6) if place == 0 else ("#9db8d2", 0.9)
            top.plot([0, *course.steps], exponents[:, index, place], color=color, linewidth=width)
        top.axhline(0, color="black", linewidth=0.8)
        norms.plot(middle, [values[index] for values in course.norms], color="#7a5195", linewidth=1.2)
        losses.plot(middle, [values[index] for values in course.losses], color="#2e8b57", linewidth=1.4)
        norms.set_yscale("log")
        losses.set(yscale="log", xlabel="steps of training")
        outcome, _, _ = verdict(finding).partition(";")
        top.set_title(f"g = {gain}: {outcome}", fontsize=10)
        for axis in (top, norms, losses):
            axis.grid(alpha=0.3)
            for step, color in ((finding.chaotic, CHAOTIC), (finding.broke, BROKEN)):
                if step is not None:
                    axis.axvline(step, color=color, linestyle="--", linewidth=1.2)
    names = ("exponents, nats per step", "norm of the gradient", "mean squared error")
    for axis, name in zip(rows[:, 0], names, strict=True):
        axis.set_ylabel(name)
    figure.suptitle("dashed: the first positive exponent (orange), where the training breaks (red)", fontsize=10)
    figure.savefig(path, format="png", dpi=100)
