"""Training: all seeds by both recipes at once, the state carried from window to window."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxrnn import training

from .. import _memory
from .data import POINTS, Windows
from .model import Forecaster, mse

CHUNK = 100
LEARNING_RATE = 0.01
RECIPES = {"notes": "the notes' recipe", "cosine": "with cosine decay"}
_RUN_ONCE = {"xla_backend_optimization_level": 0}  # compiles in a third of the time, half a second less


class Forecasters(NamedTuple):
    """What one recipe made of the seeds."""

    params: Any  # every array has the seeds as its first axis
    h: Any  # the state after the last window, likewise
    losses: np.ndarray  # (steps done, seeds)


class Trained(NamedTuple):
    """What training gave, up to the last step whose losses are all finite."""

    recipes: dict[str, Forecasters]  # named as in RECIPES
    steps: int  # done
    first_chunk_seconds: float  # with compilation
    seconds: float
    ended: str
    diverged: str | None  # where a loss was not finite

    @property
    def losses(self) -> dict[str, np.ndarray]:
        """Of each recipe, (steps done, seeds)."""
        return {name: forecasters.losses for name, forecasters in self.recipes.items()}


@functools.cache
def optimizer(steps: int) -> optax.GradientTransformation:
    """Adam for each recipe: at the notes' learning rate η₀ throughout, and with η_t = η₀ (1 + cos(π t / steps)) / 2."""
    rates = {"notes": LEARNING_RATE, "cosine": optax.cosine_decay_schedule(LEARNING_RATE, steps)}
    return optax.partition({recipe: optax.adam(rate) for recipe, rate in rates.items()}, {name: name for name in rates})


def check_memory(model: Forecaster, seeds: int) -> None:
    """An error if training would not fit."""

    def initial() -> Any:
        params, h = jax.vmap(functools.partial(_init, model))(jax.random.split(jax.random.key(0), seeds))
        batch = {"window": jnp.zeros((seeds, POINTS, model.features)), "begins": jnp.zeros(seeds, bool)}
        return dict.fromkeys(RECIPES, params), dict.fromkeys(RECIPES, h), batch

    _memory.check_training("--hidden, --layers or --seeds", functools.partial(_loss, model), optimizer(1), initial)


def train(
    model: Forecaster,
    windows: Windows,
    seeds: Sequence[int],
    steps: int,
    folder: training.RunFolder | None = None,
) -> Trained:
    """Train one forecaster a recipe and seed for `steps` steps; the recipes begin alike and see the same windows."""
    keys = jax.vmap(jax.random.split)(jnp.stack([jax.random.key(seed) for seed in seeds]))
    params, h = jax.jit(jax.vmap(functools.partial(_init, model)), compiler_options=_RUN_ONCE)(keys[:, 0])
    diverged = None
    try:
        result = training.fit(
            functools.partial(_loss, model),
            dict.fromkeys(RECIPES, params),
            optimizer(steps),
            _batches(windows, keys[:, 1]),
            steps,
            carry=dict.fromkeys(RECIPES, h),
            chunk=CHUNK,
            folder=folder,
        )
    except training.NonFiniteLossError as error:
        result, diverged = error.result, _divergence(error, seeds)
    losses = {name: np.array([row[name] for row in result.history]).reshape(-1, len(seeds)) for name in RECIPES}
    return Trained(
        {name: Forecasters(result.state.params[name], result.state.carry[name], losses[name]) for name in RECIPES},
        len(result.history),
        result.history[min(CHUNK, len(result.history)) - 1]["seconds"] if result.history else 0.0,
        result.history[-1]["seconds"] if result.history else 0.0,
        result.ended,
        diverged,
    )


def _divergence(error: training.NonFiniteLossError, seeds: Sequence[int]) -> str:
    """The error, with the recipe and the seed if its loss shows them."""
    bad = [
        f"{name}, seed {seed}: {error}"
        for name in RECIPES
        for seed, loss in zip(seeds, error.row[name], strict=True)
        if not np.isfinite(loss)
    ]
    return bad[0] if bad else str(error)


def _init(model: Forecaster, key: Array) -> tuple[Any, Any]:
    params = model.init(key)
    return params, model.cell.initial_state(params["rnn"])


def _batches(windows: Windows, keys: Array) -> Callable[[int, int], dict[str, np.ndarray]]:
    """A window a seed and a step: in order, the state reset where they begin again, or drawn by each seed's key."""

    def batches(start: int, stop: int) -> dict[str, np.ndarray]:
        steps = np.arange(start, stop)
        if windows.sequential:
            indices = np.broadcast_to((steps % len(windows.data))[:, None], (len(steps), len(keys)))
            return {"window": windows.data[indices], "begins": indices == 0}
        indices = np.asarray(_draw(keys, steps, len(windows.data)))
        return {"window": windows.data[indices], "begins": np.zeros(indices.shape, bool)}

    return batches


@functools.partial(jax.jit, static_argnames="count", compiler_options=_RUN_ONCE)
def _draw(keys: Array, steps: Array, count: int) -> Array:
    """(steps, seeds), each drawn from the numbers below `count`."""
    draw = jax.vmap(lambda key, step: jax.random.randint(jax.random.fold_in(key, step), (), 0, count), (0, None))
    return jax.vmap(draw, (None, 0))(keys, steps)


def _loss(model: Forecaster, params: Any, h: Any, batch: dict[str, Array], key: Array) -> Any:
    """The sum over recipes and seeds, so that each one's gradient is its own."""
    over_seeds = jax.vmap(functools.partial(_seed_loss, model))
    losses, new_h = {}, {}
    for name in RECIPES:
        losses[name], new_h[name] = over_seeds(params[name], h[name], batch)
    return sum(loss.sum() for loss in losses.values()), (new_h, losses)


def _seed_loss(model: Forecaster, params: Any, h: Any, batch: dict[str, Array]) -> tuple[Array, Any]:
    h = jax.tree.map(lambda a: jnp.where(batch["begins"], jnp.zeros_like(a), a), h)
    prediction, states = model.predict(params, h, batch["window"][:-1])
    return mse(prediction, batch["window"][1:]), jax.tree.map(lambda a: a[-1], states)
