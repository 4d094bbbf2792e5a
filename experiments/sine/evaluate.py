"""What trained forecasters are worth: errors on the waves, and rolling-origin forecasts of a held-out tail."""

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm import tqdm

import jaxrnn as jr

from .data import FORECAST, READ, Series, Windows, wave_times
from .model import Forecaster

SAMPLE = 40  # forecasts that are drawn one by one
SAMPLE_STEPS = 200  # points of each, at most

_STRETCHES, _LEAST_STRETCH = 200, 256  # of origins whose errors are drawn as percentiles: how many, and how long
_NUMBERS = 2**22  # in what a compiled call gives


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


class Sample(NamedTuple):
    """The last of the forecasts that begin a horizon apart, at some of their steps."""

    rows: np.ndarray  # (S,), of the origins
    steps: np.ndarray  # (K,), ahead
    paths: np.ndarray  # (seeds, S, K, F)


class Bands(NamedTuple):
    """The errors of all forecasts at their last step, forecast less truth: how they spread over stretches of rows."""

    rows: np.ndarray  # (stretches,), the middle ones
    errors: np.ndarray  # (stretches, 3, F): percentiles 10, 50 and 90, over the seeds too


class SeriesResult(NamedTuple):
    """Forecasts from every origin whose next point is held out, in the file's units; row train - 1 is the first."""

    rmse: np.ndarray  # (seeds, horizon, F), over the origins that have a target at that horizon
    sample: Sample
    bands: Bands


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


def naive_rmse(series: Series, horizon: int) -> np.ndarray:
    """(horizon, F), of the forecast that repeats the origin's value."""
    values = (series.values[series.train - 1 :] - series.mean) / series.std
    squares = ((values[ahead:] - values[:-ahead]) ** 2 for ahead in range(1, horizon + 1))
    return series.std * np.sqrt([square.mean(axis=0) for square in squares])


def evaluate_series(model: Forecaster, params: Any, series: Series, horizon: int) -> SeriesResult:
    """Forecasts of `horizon` steps from each origin, the network having read the series from its start to there.

    Made block by block, and only what is drawn of them is kept.
    """
    origins, seeds = len(series.values) - series.train, len(jax.tree.leaves(params)[0])
    kept = np.arange(0, origins, horizon)[-SAMPLE:]
    steps = np.unique(np.linspace(1, horizon, min(horizon, SAMPLE_STEPS)).astype(int))
    squares, paths, bands = np.zeros((seeds, horizon, len(series.names))), [], []
    for start, forecasts in _rolling_forecasts(model, params, series, horizon):
        stop = start + forecasts.shape[1]
        errors = forecasts - _targets(series, start, stop, horizon)
        squares += np.nansum(errors**2, axis=1)
        places = kept[(start <= kept) & (kept < stop)] - start
        paths.append(forecasts[:, places[:, None], steps - 1])
        if start <= (last := min(stop - 1, origins - horizon)):
            middle = series.train - 1 + horizon + (start + last) / 2
            bands.append((middle, np.nanpercentile(errors[:, :, -1], (10, 50, 90), axis=(0, 1))))
    rows, percentiles = map(np.array, zip(*bands, strict=True))
    return SeriesResult(
        np.sqrt(squares / (origins - np.arange(horizon)[:, None])) * series.std,
        Sample(series.train - 1 + kept, steps, np.concatenate(paths, axis=1) * series.std + series.mean),
        Bands(rows, percentiles * series.std),
    )


def _targets(series: Series, start: int, stop: int, horizon: int) -> np.ndarray:
    """(stop - start, horizon, F) normalised; NaN past the end of the series."""
    rows = series.train + np.arange(start, stop)[:, None] + np.arange(horizon)
    last = len(series.values) - 1
    return np.where((rows <= last)[..., None], series.normalised[np.minimum(rows, last)], np.nan)


def _rolling_forecasts(
    model: Forecaster, params: Any, series: Series, horizon: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of forecasts (seeds, b, horizon, F), normalised, each with the number of its first origin."""
    before, origins = series.normalised[: series.train - 1], series.normalised[series.train - 1 : -1]
    h = _read(model, params, before)
    block = _block(model, len(origins), len(jax.tree.leaves(params)[0]), horizon)
    for start in tqdm(range(0, len(origins), block), desc="forecasts", disable=None, leave=False):
        xs = origins[start : start + block]
        padded = np.pad(xs, ((0, block - len(xs)), (0, 0)))
        h, forecasts = _forecast(model, horizon, params, h, padded, len(xs))
        yield start, np.asarray(forecasts, np.float64)[:, : len(xs)]


def _block(model: Forecaster, origins: int, seeds: int, horizon: int) -> int:
    """Origins a compiled call: a stretch of the picture, or less if their forecasts and states take much memory."""
    numbers = seeds * (horizon * model.features + 8 * model.num_layers * model.hidden_size)
    most = max(1, min(_NUMBERS // numbers, max(_LEAST_STRETCH, math.ceil(origins / _STRETCHES))))
    return math.ceil(origins / math.ceil(origins / most))  # as even as can be


@functools.partial(jax.jit, static_argnums=0)
def _read(model: Forecaster, params: Any, xs: Array) -> Any:
    """The states of all seeds after xs (T, F)."""
    return jax.vmap(lambda params: jr.unroll(model.cell, params["rnn"], xs)[0])(params)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _forecast(model: Forecaster, horizon: int, params: Any, h: Any, xs: Array, count: int) -> tuple[Any, Array]:
    """The states after the first `count` of xs (b, F), and forecasts (seeds, b, horizon, F) from each of xs."""

    def run(params: Any, h: Any) -> tuple[Any, Array]:
        _, after = model.predict(params, h, xs)
        before = jax.tree.map(lambda first, a: jnp.concatenate([first[None], a[:-1]]), h, after)
        forecasts = jax.vmap(lambda h, x: model.free_run(params, h, x, horizon))(before, xs)
        return jax.tree.map(lambda a: a[count - 1], after), forecasts

    return jax.vmap(run)(params, h)
