"""The errors of a run, as tables for the terminal and as data for the summary file."""

from typing import Any

import numpy as np

from .data import Series
from .evaluate import SeriesResult, WaveResult


def wave_errors(result: WaveResult) -> dict[str, Any]:
    """Mean squared errors, [seed][k]."""
    return {
        "teacher_forced_mse": result.mse(result.teacher_forced).tolist(),
        "free_running_mse": result.mse(result.free_running).tolist(),
    }


def series_errors(series: Series, result: SeriesResult) -> dict[str, Any]:
    """Root mean squared errors in the file's units, [seed][steps ahead - 1][column], the naive one without seed."""
    return {
        "columns": series.names,
        "train_rows": series.train,
        "train_mean": series.mean.tolist(),
        "train_std": series.std.tolist(),
        "rmse": result.rmse(result.forecasts).tolist(),
        "naive_rmse": result.rmse(result.naive).tolist(),
    }


def wave_table(result: WaveResult) -> str:
    """Mean squared errors for each wave, medians over the seeds."""
    rows = [("MSE (median over seeds)", *(f"k={k}" for k in range(len(result.truth))), "median")]
    for label, prediction in (("teacher-forced", result.teacher_forced), ("free-running", result.free_running)):
        errors = result.mse(prediction)
        rows.append((label, *(f"{e:.2e}" for e in np.median(errors, axis=0)), f"{np.median(errors):.2e}"))
    return _table(rows)


def series_table(series: Series, result: SeriesResult) -> str:
    """Root mean squared errors by horizon, medians over the seeds, beside the naive forecast's."""
    ours, naive = np.median(result.rmse(result.forecasts), axis=0), result.rmse(result.naive)
    tables = []
    for f, name in enumerate(series.names):
        rows = [("steps ahead", "RMSE", "naive", "ratio", "better")]
        for step, (error, other) in enumerate(zip(ours[:, f], naive[:, f], strict=True), start=1):
            ratio = error / other if other else np.inf
            winner = "network" if error < other else "naive"
            rows.append((str(step), f"{error:.4g}", f"{other:.4g}", f"{ratio:.2f}", winner))
        tables.append(f"{name}: {len(result.targets)} held-out rows, a forecast from each\n{_table(rows)}")
    return "\n\n".join(tables)


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
