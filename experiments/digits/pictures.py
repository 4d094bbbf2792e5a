"""The picture of a run."""

import pathlib

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .data import FORMS
from .train import Run

COLORS = {"rnn": "#c8102e", "lstm": "#1f6fb4", "gru": "#2e8b57"}


def draw(path: pathlib.Path, title: str, runs: dict[tuple[str, str], Run]) -> None:
    """For each form: test accuracy over the epochs, and the gradient along the sequence before and after training.

    The runs are named by form and cell.
    """
    forms = list(dict.fromkeys(form for form, _ in runs))
    figure = Figure(figsize=(13, 0.6 + 3.6 * len(forms)), layout="constrained")
    figure.suptitle(title)
    for form, row in zip(forms, figure.subplots(len(forms), 3, squeeze=False), strict=True):
        _draw_form(row, form, {cell: run for (other, cell), run in runs.items() if other == form})
    figure.savefig(path, format="png", dpi=100)


def _draw_form(axes: np.ndarray, form: str, runs: dict[str, Run]) -> None:
    accuracy, before, after = axes
    for cell, run in runs.items():
        epochs = np.arange(1, len(run.test_accuracy) + 1)
        line, label = "-" if len(epochs) > 1 else ".", f"{cell} {run.test_accuracy[-1]:.1%}"
        accuracy.plot(epochs, run.test_accuracy, line, color=COLORS[cell], label=label)
        _draw_norms(before, cell, run.norms_before)
        _draw_norms(after, cell, run.norms_after)
    steps = f"{form} ({FORMS[form][0]} steps)"
    accuracy.set(title=f"{steps}: test accuracy", xlabel="epoch", ylabel="accuracy", ylim=(0, 1.02))
    accuracy.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _legend_below(accuracy, "last epoch")
    before.set(title=f"{steps}: gradient at initialisation")
    after.set(title=f"{steps}: gradient after training")
    for axis in (before, after):
        axis.set(xlabel="step t", ylabel="‖∂loss/∂h$_t$‖, mean of images", yscale="log")
        axis.grid(alpha=0.3)
        _legend_below(axis)
    accuracy.grid(alpha=0.3)


def _draw_norms(axis: Axes, cell: str, norms: dict[str, np.ndarray]) -> None:
    for name, values in norms.items():
        steps = np.arange(1, len(values) + 1)
        shown = values > 0  # c_T does not reach the loss
        label = f"{cell}, c$_t$" if name == "c" else cell
        axis.plot(steps[shown], values[shown], "--" if name == "c" else "-", color=COLORS[cell], label=label)


def _legend_below(axis: Axes, title: str | None = None) -> None:
    """Where it covers no curve."""
    axis.legend(fontsize="small", title=title, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, frameon=False)
