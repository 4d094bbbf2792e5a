"""What trained forecasters are worth: errors on the waves, and rolling-origin forecasts of a held-out tail."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .data import FORECAST, READ, Series, Windows, wave_times
from .model import Forecaster


class WaveResult(NamedTuple):
    """Predictions of all waves by all seeds, each run beginning with the h that training left."""

    truth: np.ndarray  # (K, T)
    teacher_forced: np.ndarray  # (seeds, K, T)
    free_running: np.ndarray  # (seeds, K, T), from the first point alone
    future: np.ndarray  # (K, FORECAST), the wave after its first READ points
    forecast: np.ndarray  # (seeds, K, FORECAST), free-running after those were read

    def mse(self) -> dict[str, np.ndarray]:
        """Mean squared error of each prediction, (seeds, K)."""
        predictions = {
            "teacher_forced": (self.teacher_forced, self.truth),
            "free_running": (self.free_running, self.truth),
            "forecast": (self.forecast, self.future),
        }
        return {name: np.mean((prediction - truth) ** 2, axis=-1) for name, (prediction, truth) in predictions.items()}


class SeriesResult(NamedTuple):
    """Forecasts from every origin whose next point is held out, in the file's units."""

    forecasts: np.ndarray  # (seeds, O, horizon, F); origin o is row train - 1 + o
    targets: np.ndarray  # (O, horizon, F), NaN past the end of the series
    naive: np.ndarray  # (O, horizon, F), the origin's value repeated

    def rmse(self, forecasts: np.ndarray) -> np.ndarray:
        """(..., horizon, F), over the origins that have a target at that horizon."""
        return np.sqrt(np.nanmean((forecasts - self.targets) ** 2, axis=-3))


def evaluate_waves(model: Forecaster, params: Any, h: Any, windows: Windows) -> WaveResult:
    """Teacher-forced and free-running predictions of each window, and forecasts far beyond it."""
    predictions = _predict_waves(model, params, h, jnp.asarray(windows.data))
    teacher_forced, free_running, forecast = (np.asarray(prediction, np.float64)[..., 0] for prediction in predictions)
    future = np.stack([np.sin(wave_times(k, READ + FORECAST))[READ:] for k in range(len(windows.data))])
    return WaveResult(windows.data[:, 1:, 0].astype(np.float64), teacher_forced, free_running, future, forecast)


@functools.partial(jax.jit, static_argnums=0)
def _predict_waves(model: Forecaster, params: Any, h: Any, waves: Array) -> tuple[Array, Array, Array]:
    def run(params, h, wave):
        teacher_forced, states = model.predict(params, h, wave[:-1])
        free_running = model.free_run(params, h, wave[0], len(wave) - 1)
        before = jax.tree.map(lambda a: a[READ - 2], states)  # has not yet read the last of the READ points
        return teacher_forced, free_running, model.free_run(params, before, wave[READ - 1], FORECAST)

    over_waves = jax.vmap(run, in_axes=(None, None, 0))
    return jax.vmap(over_waves, in_axes=(0, 0, None))(params, h, waves)


def evaluate_series(model: Forecaster, params: Any, series: Series, horizon: int) -> SeriesResult:
    """Forecasts of `horizon` steps from each origin, the network having read the series from its start to there."""
    normalised = _rolling_forecasts(model, series.train, horizon, params, jnp.asarray(series.normalised))
    origins = np.arange(series.train - 1, len(series.values) - 1)
    rows = origins[:, None] + 1 + np.arange(horizon)
    padded = np.concatenate([series.values, np.full((horizon, series.values.shape[1]), np.nan)])
    return SeriesResult(
        forecasts=np.asarray(normalised, np.float64) * series.std + series.mean,
        targets=padded[rows],
        naive=np.repeat(series.values[origins][:, None], horizon, axis=1),
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _rolling_forecasts(model: Forecaster, train: int, horizon: int, params: Any, xs: Array) -> Array:
    def run(params):
        h = model.cell.initial_state(params["rnn"])
        _, after = model.predict(params, h, xs[:-1])
        origins = xs[train - 1 : -1]
        before = jax.tree.map(lambda a: a[train - 2 : -1], after)  # the state that has not yet read the origin
        return jax.vmap(lambda h, x: model.free_run(params, h, x, horizon))(before, origins)

    return jax.vmap(run)(params)
