"""The errors of a run's recipes, as tables for the terminal and as data for the summary file."""

from typing import Any

import numpy as np

from .._run import printable
from .data import FORECAST, READ, Series
from .evaluate import SeriesResult, WaveResult

PRINTED = 24  # steps ahead, at most
PREDICTIONS = {
    "teacher_forced": "teacher-forced",
    "free_running": "free-running",
    "forecast": f"{FORECAST} steps after reading {READ}",
}


def wave_errors(result: WaveResult) -> dict[str, Any]:
    """One recipe's mean squared errors, [seed][k]."""
    return {f"{name}_mse": errors.tolist() for name, errors in result.mse().items()}


def series_errors(result: SeriesResult) -> dict[str, Any]:
    """One recipe's root mean squared errors in the file's units, [seed][steps ahead - 1][column]."""
    return {"rmse": result.rmse.tolist()}


def series_facts(series: Series, naive: np.ndarray) -> dict[str, Any]:
    """What does not depend on the recipe, the naive forecast's errors, [steps ahead - 1][column], among it."""
    return {
        "columns": series.names,
        "train_rows": series.train,
        "train_mean": series.mean.tolist(),
        "train_std": series.std.tolist(),
        "naive_rmse": naive.tolist(),
    }


def wave_table(results: dict[str, WaveResult]) -> str:
    """Mean squared errors by recipe for each wave, medians over the seeds."""
    waves = len(next(iter(results.values())).truth)
    rows = [("MSE (median over seeds)", *(f"k={k}" for k in range(waves)), "median")]
    for recipe, result in results.items():
        for name, errors in result.mse().items():
            by_wave = (f"{e:.2e}" for e in np.median(errors, axis=0))
            rows.append((f"{recipe}: {PREDICTIONS[name]}", *by_wave, f"{np.median(errors):.2e}"))
    return _table(rows)


def series_table(series: Series, results: dict[str, SeriesResult], naive: np.ndarray) -> str:
    """Root mean squared errors by horizon and recipe, medians over the seeds, beside the naive forecast's."""
    errors = {recipe: np.median(result.rmse, axis=0) for recipe, result in results.items()} | {"naive": naive}
    steps = np.unique(np.linspace(0, len(naive) - 1, min(len(naive), PRINTED)).astype(int))
    tables = []
    for f, name in enumerate(map(printable, series.names)):
        rows = [("steps ahead", *errors, "best")]
        for step in steps:
            row = {forecaster: rmse[step, f] for forecaster, rmse in errors.items()}
            best = min(("naive", *results), key=row.__getitem__)
            rows.append((str(step + 1), *(f"{error:.4g}" for error in row.values()), best))
        held_out = f"{name}: {len(series.values) - series.train} held-out rows, a forecast from each; RMSE"
        tables.append(f"{held_out}\n{_table(rows)}")
    return "\n\n".join(tables)


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
