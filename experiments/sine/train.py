"""The training loop: chunks of steps inside jit, all seeds at once."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from .data import Windows
from .model import Forecaster, mse

CHUNK = 100
OPTIMIZER = optax.adam(0.01)
_RUN_ONCE = {"xla_backend_optimization_level": 0}  # compiles in a third of the time, half a second less


class State(NamedTuple):
    """What one step hands to the next; every array has the seeds as its first axis."""

    params: Any
    opt_state: Any
    h: Any  # carried from window to window, its gradient cut
    key: Array  # of the data


class Trained(NamedTuple):
    """What training gave, up to the last chunk whose losses are all finite."""

    state: State
    losses: np.ndarray  # (steps done, seeds)
    compile_seconds: float
    train_seconds: float
    diverged: str | None  # where a loss was not finite


def train(
    model: Forecaster,
    windows: Windows,
    seeds: Sequence[int],
    steps: int,
    on_chunk: Callable[[int, np.ndarray], bool],
) -> Trained:
    """Train one forecaster a seed for `steps` steps.

    After each chunk `on_chunk(first_step, losses)`, losses (steps, seeds), may stop the training by returning True.
    """
    began = time.perf_counter()
    state = jax.jit(jax.vmap(functools.partial(_init, model)), compiler_options=_RUN_ONCE)(_keys(seeds))
    chunk = jax.jit(jax.vmap(functools.partial(_chunk, model, windows.sequential), in_axes=(None, 0, None, None)))
    data = jnp.asarray(windows.data)
    run = chunk.lower(data, state, 0, 0).compile()
    compiled = time.perf_counter()

    losses = np.empty((0, len(seeds)))
    diverged = None
    for start in range(0, steps, CHUNK):
        stop = min(start + CHUNK, steps)
        following, chunk_losses = run(data, state, start, stop)
        new = np.asarray(chunk_losses).T[: stop - start]
        if not np.isfinite(new).all():
            diverged = _first_divergence(new, start, seeds)
            break
        state, losses = following, np.concatenate([losses, new])
        if on_chunk(start, new):
            break
    return Trained(state, losses, compiled - began, time.perf_counter() - compiled, diverged)


def _keys(seeds: Sequence[int]) -> Array:
    return jnp.stack([jax.random.key(seed) for seed in seeds])


def _init(model: Forecaster, key: Array) -> State:
    key_params, key_data = jax.random.split(key)
    params = model.init(key_params)
    return State(params, OPTIMIZER.init(params), model.cell.initial_state(params["rnn"]), key_data)


def _chunk(
    model: Forecaster, sequential: bool, data: Array, state: State, start: Array, stop: Array
) -> tuple[State, Array]:
    """The steps from start to stop, at most CHUNK of them: the state and the losses (CHUNK,)."""

    def body(step: Array, carry: tuple[State, Array]) -> tuple[State, Array]:
        state, losses = carry
        state, loss = _step(model, sequential, data, state, step)
        return state, losses.at[step - start].set(loss)

    return lax.fori_loop(start, stop, body, (state, jnp.zeros(CHUNK)))


def _step(model: Forecaster, sequential: bool, data: Array, state: State, step: Array) -> tuple[State, Array]:
    h = state.h
    if sequential:
        index = step % len(data)
        h = jax.tree.map(lambda a: jnp.where(index == 0, jnp.zeros_like(a), a), h)
    else:
        index = jax.random.randint(jax.random.fold_in(state.key, step), (), 0, len(data))
    (loss, h), gradient = jax.value_and_grad(_loss, argnums=1, has_aux=True)(model, state.params, h, data[index])
    updates, opt_state = OPTIMIZER.update(gradient, state.opt_state)
    return State(optax.apply_updates(state.params, updates), opt_state, h, state.key), loss


def _loss(model: Forecaster, params: Any, h: Any, window: Array) -> tuple[Array, Any]:
    prediction, states = model.predict(params, h, window[:-1])
    return mse(prediction, window[1:]), jax.tree.map(lambda a: a[-1], states)


def _first_divergence(losses: np.ndarray, start: int, seeds: Sequence[int]) -> str:
    step, seed = np.argwhere(~np.isfinite(losses))[0]
    return f"the loss of seed {seeds[seed]} became {losses[step, seed]} at step {start + step + 1}"
