"""The windows to train on: three sine waves, or columns of a CSV file."""

import csv
import math
from typing import NamedTuple

import numpy as np

from .._run import UserError

POINTS = 50  # a window: the first 49 points are the input, the last 49 the target
WAVES = 3
READ = 10  # points of a wave that a network reads before the long forecast
FORECAST = 200  # points of the long forecast
TRAIN_FRACTION = 0.8


class Windows(NamedTuple):
    """What training draws from."""

    data: np.ndarray  # (K, POINTS, F) float32
    sequential: bool  # in order, the state reset where they begin again; otherwise at random, the state never reset


class Series(NamedTuple):
    """Columns of a CSV file: the first `train` rows to train on, the others held out."""

    names: tuple[str, ...]
    values: np.ndarray  # (n, F) float64, in the file's units
    train: int

    @property
    def mean(self) -> np.ndarray:
        """Of the training part, (F,)."""
        return self.values[: self.train].mean(axis=0)

    @property
    def std(self) -> np.ndarray:
        """Of the training part, (F,)."""
        return self.values[: self.train].std(axis=0)

    @property
    def normalised(self) -> np.ndarray:
        """(n, F) float32: the training part has mean 0 and standard deviation 1."""
        return ((self.values - self.mean) / self.std).astype(np.float32)


def wave_times(k: int, points: int = POINTS) -> np.ndarray:
    """POINTS times on [k, k+10], or more of them at the same distance."""
    return np.linspace(k, k + 10 * (points - 1) / (POINTS - 1), points)


def sine_windows() -> Windows:
    """sin on [k, k+10], one window for each k in {0, 1, 2}, drawn at random."""
    waves = [np.sin(wave_times(k)) for k in range(WAVES)]
    return Windows(np.stack(waves)[..., None].astype(np.float32), sequential=False)


def series_windows(series: Series) -> Windows:
    """The training part in order; each window begins at the last point of the one before.

    What does not fill a window is left out at the beginning, far from the forecasts.
    """
    steps = POINTS - 1
    count = (series.train - 1) // steps
    starts = series.train - 1 - steps * np.arange(count, 0, -1)
    normalised = series.normalised
    return Windows(np.stack([normalised[start : start + POINTS] for start in starts]), sequential=True)


def read_series(path: str, names: tuple[str, ...], horizon: int) -> Series:
    """The named columns of a CSV file whose first row is its header.

    Raises:
      UserError: the file cannot be read, has no such column, a cell is not a finite number, there are too few rows
        for a window to train on and `horizon` steps to hold out, or a column does not vary.
    """
    if len(set(names)) < len(names) or not all(names):
        raise UserError(f"--column must name different columns, got {','.join(names)!r}")
    values = np.array(_read_columns(path, names)).reshape(-1, len(names))
    train = int(TRAIN_FRACTION * len(values))
    least = max(math.ceil(POINTS / TRAIN_FRACTION), math.ceil(horizon / (1 - TRAIN_FRACTION)))
    if train < POINTS or len(values) - train < horizon:
        raise UserError(f"{path} has {len(values)} rows; forecasts of {horizon} steps need at least {least}")
    series = Series(names, values, train)
    for name, std in zip(names, series.std, strict=True):
        if not std > 0:
            raise UserError(f"{path}: column {name!r} is constant over the first {train} rows, the training part")
    return series


def _read_columns(path: str, names: tuple[str, ...]) -> list[list[float]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = [name.strip() for name in next(rows, [])]
            indices = [_column(path, header, name) for name in names]
            return [
                [_number(f"{path}, line {rows.line_num}", row, index, header) for index in indices]
                for row in rows
                if row
            ]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file in UTF-8: {error}") from error


def _column(path: str, header: list[str], name: str) -> int:
    if header.count(name) == 1:
        return header.index(name)
    problem = f"has {header.count(name)} columns" if name in header else "has no column"
    raise UserError(f"{path} {problem} {name!r}; its columns are {', '.join(header) or 'none'}")


def _number(place: str, row: list[str], index: int, header: list[str]) -> float:
    if len(row) != len(header):
        raise UserError(f"{place}: {len(row)} fields, where the header has {len(header)}")
    try:
        value = float(row[index])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{place}, column {header[index]!r}: {row[index]!r} is not a number")
    return value
