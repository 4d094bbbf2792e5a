"""The picture of a run."""

import pathlib

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from .. import _glyphs
from .train import Run
from .words import Words

COLORS = ("#222222", "#c8102e", "#e08a1e", "#1f6fb4", "#2e8b57")
GREENS = ListedColormap(colormaps["YlGn"](np.linspace(0, 0.7, 64)))
LEAST_EPOCHS = 15  # in the picture of the spelling


def draw(path: pathlib.Path, words: Words, runs: dict[str, Run], seed: int) -> None:
    """Loss over the epochs, and when each form spells how many of the characters."""
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    title = _glyphs.label(f"{_glyphs.short(words.source)} → {_glyphs.short(words.target)}, seed {seed}")
    figure.suptitle(title.text, **title.options)
    losses, spelling = figure.subplots(1, 2)
    for (form, run), color in zip(runs.items(), COLORS, strict=False):
        _draw_loss(losses, form, run, run.first_epoch(words), color)
    losses.plot([], [], "ko", markerfacecolor="none", label="first spells the target")
    losses.set(title="training loss", xlabel="epoch", ylabel="cross-entropy, mean over characters")
    if any((run.losses > 0).any() for run in runs.values()):  # a vocabulary of one character leaves nothing to learn
        losses.set_yscale("log")
    losses.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    losses.legend(fontsize="small")
    image = _draw_spelling(spelling, words, runs)
    label = f"characters right, of {len(words.target)}"
    figure.colorbar(image, ax=spelling, label=label, ticks=MaxNLocator(integer=True))
    figure.savefig(path, format="png", dpi=110)


def _draw_loss(axis: Axes, form: str, run: Run, first: int | None, color: str) -> None:
    epochs = np.arange(1, len(run.losses) + 1)
    axis.plot(epochs, run.losses, "-" if len(epochs) > 1 else ".", color=color, label=form)
    if first:
        axis.plot(first, run.losses[first - 1], "o", color=color, markerfacecolor="none", markersize=8)


def _draw_spelling(axis: Axes, words: Words, runs: dict[str, Run]) -> AxesImage:
    """A row a form, a column an epoch, until every form spells the word for good; blank where a form was cut short."""
    epochs = max(len(run.losses) for run in runs.values())
    right = np.full((len(runs), epochs), np.nan)
    for row, run in zip(right, runs.values(), strict=True):
        row[: len(run.losses)] = run.right(words)
    wrong = np.flatnonzero((right < len(words.target)).any(axis=0))
    shown = min(epochs, max(LEAST_EPOCHS, int(1.25 * (wrong[-1] + 1)) if len(wrong) else 0))
    image = axis.imshow(
        right[:, :shown],
        aspect="auto",
        interpolation="nearest",
        cmap=GREENS,
        vmin=0,
        vmax=len(words.target),
        extent=(0.5, shown + 0.5, len(runs) - 0.5, -0.5),
    )
    axis.set_yticks(range(len(runs)), [_label(form, run.first_epoch(words)) for form, run in runs.items()])
    for row, run in enumerate(runs.values()):
        if first := run.first_epoch(words):
            axis.plot(first, row, "ko", markerfacecolor="none", markersize=8)
    axis.set(title="characters right", xlabel="epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return image


def _label(form: str, first: int | None) -> str:
    return f"{form}\nepoch {first}" if first else f"{form}\nnever"
