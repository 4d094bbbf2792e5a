"""The windows to train on: three sine waves, or columns of a CSV file."""

import dataclasses
import functools
import math
from typing import NamedTuple

import numpy as np

from .._run import UserError, shown
from .table import Table, find_delimiter

POINTS = 50  # a window: the first 49 points are the input, the last 49 the target
WAVES = 3
READ = 10  # points of a wave that a network reads before the long forecast
FORECAST = 200  # points of the long forecast
TRAIN_FRACTION = 0.8

_FARTHEST = np.sqrt(np.finfo(np.float32).max)  # from the mean, in standard deviations: the square is finite


class Windows(NamedTuple):
    """What training draws from."""

    data: np.ndarray  # (K, POINTS, F) float32
    sequential: bool  # in order, the state reset where they begin again; otherwise at random, the state never reset


@dataclasses.dataclass(frozen=True)
class Series:
    """Columns of a CSV file: the first `train` rows to train on, the others held out."""

    names: tuple[str, ...]
    values: np.ndarray  # (n, F) float64, in the file's units
    train: int

    @functools.cached_property
    def mean(self) -> np.ndarray:
        """Of the training part, (F,)."""
        return np.ldexp(self._scaled[: self.train].mean(axis=0), self._exponents)

    @functools.cached_property
    def std(self) -> np.ndarray:
        """Of the training part, (F,)."""
        return np.ldexp(self._scaled[: self.train].std(axis=0), self._exponents)

    @functools.cached_property
    def normalised(self) -> np.ndarray:
        """(n, F) float32: the training part has mean 0 and standard deviation 1."""
        scaled = self._scaled
        scaled -= scaled[: self.train].mean(axis=0)
        with np.errstate(over="ignore"):  # a held-out value may be infinite here
            return (scaled / scaled[: self.train].std(axis=0)).astype(np.float32)

    @property
    def _exponents(self) -> np.ndarray:
        """(F,), of powers of two as large as the training part's values, whose squares no float holds."""
        return np.frexp(np.abs(self.values[: self.train]).max(axis=0))[1]

    @property
    def _scaled(self) -> np.ndarray:
        """The values over those powers, which does not round."""
        with np.errstate(over="ignore"):
            return np.ldexp(self.values, -self._exponents)


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
    first = (series.train - 1) % steps
    windows = np.lib.stride_tricks.sliding_window_view(series.normalised[first : series.train], POINTS, axis=0)
    return Windows(np.moveaxis(windows[::steps], -1, 1).copy(), sequential=True)


def read_series(path: str, names: tuple[str, ...] | None, horizon: int, delimiter: str | None = None) -> Series:
    """The named columns of a CSV file whose first row is its header.

    Args:
      path: of the file.
      names: may be left out where there is one column.
      horizon: steps to forecast.
      delimiter: between fields; found in the first rows if it is left out.

    Raises:
      UserError: the file cannot be read, has no such column, a cell is not a finite number or lies where float32 does
        not reach, there are too few rows for a window to train on and `horizon` steps to hold out, or a column does
        not vary.
    """
    table = Table(path, delimiter or find_delimiter(path))
    names = (table.only_column(),) if names is None else names
    values = table.read(names)
    train = int(TRAIN_FRACTION * len(values))
    least = max(math.ceil(POINTS / TRAIN_FRACTION), math.ceil(horizon / (1 - TRAIN_FRACTION)))
    if train < POINTS or len(values) - train < horizon:
        raise UserError(f"{path} has {len(values)} rows; forecasts of {horizon} steps need at least {least}")
    series = Series(names, values, train)
    _check_variation(table, series)
    _check_range(table, series)
    return series


def _check_variation(table: Table, series: Series) -> None:
    """What training sees of each column must vary."""
    for name, values in zip(series.names, series.values[: series.train].T, strict=True):
        if values.min() == values.max():
            where = f"the first {series.train} rows, the training part"
            raise UserError(f"{table.path}: column {shown(name)} is constant over {where}")


def _check_range(table: Table, series: Series) -> None:
    """No value may lie where float32 does not reach, or hide there how the others vary."""
    for f, name in enumerate(series.names):
        values, normalised = series.values[: series.train, f], series.normalised[:, f]
        row = int(np.abs(normalised).argmax())
        if not abs(normalised[row]) <= _FARTHEST:
            problem = f"too many standard deviations from the training part's mean for float32, {series.mean[f]:g}"
        elif 10 * _distinct(normalised[: series.train]) < _distinct(values):
            row = int(np.abs(normalised[: series.train]).argmax())
            problem = "so far from the other values that in float32 they are all the same"
        else:
            continue
        raise UserError(
            f"{table.path}, line {table.line(row)}, column {shown(name)}: {series.values[row, f]:g} is {problem}"
        )


def _distinct(values: np.ndarray) -> int:
    return 1 + int(np.count_nonzero(np.diff(np.sort(values))))
