"""What trained forecasters are worth: errors on the waves, and rolling-origin forecasts of a held-out tail."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .data import Series, Windows
from .model import Forecaster


class WaveResult(NamedTuple):
    """Predictions of all waves by all seeds, each run beginning with the h that training left."""

    truth: np.ndarray  # (K, T)
    teacher_forced: np.ndarray  # (seeds, K, T)
    free_running: np.ndarray  # (seeds, K, T), from the first point alone

    def mse(self, prediction: np.ndarray) -> np.ndarray:
        """(seeds, K)."""
        return np.mean((prediction - self.truth) ** 2, axis=-1)


class SeriesResult(NamedTuple):
    """Forecasts from every origin whose next point is held out, in the file's units."""

    forecasts: np.ndarray  # (seeds, O, horizon, F); origin o is row train - 1 + o
    targets: np.ndarray  # (O, horizon, F), NaN past the end of the series
    naive: np.ndarray  # (O, horizon, F), the origin's value repeated

    def rmse(self, forecasts: np.ndarray) -> np.ndarray:
        """(..., horizon, F), over the origins that have a target at that horizon."""
        return np.sqrt(np.nanmean((forecasts - self.targets) ** 2, axis=-3))


def evaluate_waves(model: Forecaster, params: Any, h: Any, windows: Windows) -> WaveResult:
    """Teacher-forced and free-running predictions of each window."""

    def run(params, h, wave):
        return model.predict(params, h, wave[:-1])[0], model.free_run(params, h, wave[0], len(wave) - 1)

    over_seeds_and_waves = jax.vmap(jax.vmap(run, in_axes=(None, None, 0)), in_axes=(0, 0, None))
    predictions = jax.jit(over_seeds_and_waves)(params, h, jnp.asarray(windows.data))
    teacher_forced, free_running = (np.asarray(prediction, np.float64)[..., 0] for prediction in predictions)
    return WaveResult(windows.data[:, 1:, 0].astype(np.float64), teacher_forced, free_running)


def evaluate_series(model: Forecaster, params: Any, series: Series, horizon: int) -> SeriesResult:
    """Forecasts of `horizon` steps from each origin, the network having read the series from its start to there."""
    forecast = jax.jit(jax.vmap(functools.partial(_rolling_forecasts, model, series.train, horizon), (0, None)))
    normalised = forecast(params, jnp.asarray(series.normalised))
    origins = np.arange(series.train - 1, len(series.values) - 1)
    rows = origins[:, None] + 1 + np.arange(horizon)
    padded = np.concatenate([series.values, np.full((horizon, series.values.shape[1]), np.nan)])
    return SeriesResult(
        forecasts=np.asarray(normalised, np.float64) * series.std + series.mean,
        targets=padded[rows],
        naive=np.repeat(series.values[origins][:, None], horizon, axis=1),
    )


def _rolling_forecasts(model: Forecaster, train: int, horizon: int, params, xs):
    h = model.cell.initial_state(params["rnn"])
    _, after = model.predict(params, h, xs[:-1])
    origins = xs[train - 1 : -1]
    before = jax.tree.map(lambda a: a[train - 2 : -1], after)  # the state that has not yet read the origin
    return jax.vmap(lambda h, x: model.free_run(params, h, x, horizon))(before, origins)
