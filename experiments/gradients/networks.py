"""Untrained networks: how ‖dL/dh_t‖ changes on the way back from the last step, for several initialisations."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxrnn as jr
from jaxrnn import gradients

from .. import _memory

INPUTS = 8
DRAWS = 16  # of weights and inputs, over which norms are averaged

CELLS = {"rnn": jr.rnn, "gru": jr.gru, "lstm": jr.lstm}


class Initialisation(NamedTuple):
    """A way to start, and the factor a step that theory gives for it."""

    cell: str
    change: Callable[[Any, Array], Any]  # (params, key) -> params, from torch's initialisation
    label: str
    theory: str
    factor: Callable[[Any], Array]  # of params


class Curve(NamedTuple):
    """What became of one initialisation."""

    norms: np.ndarray  # (T,) ‖dL/dh_t‖, of an LSTM over h and c; geometric mean over the draws
    factor: float  # of theory, a step; geometric mean over the draws


def torch_uniform(params: Any, key: Array) -> Any:
    """U(-1/√H, 1/√H), as it is."""
    del key
    return params


def orthogonal(gain: float, params: Any, key: Array) -> Any:
    """Recurrent weights that make every state `gain` times as long."""
    return params._replace(
        weight_hh=gain * jax.random.orthogonal(key, len(params.weight_hh), dtype=params.weight_hh.dtype)
    )


def kept(block: int, bias: float, params: Any, key: Array) -> Any:
    """The gate that keeps the state, in rows block*H to (block + 1)*H, opened by its bias."""
    del key
    rows = slice(block * params.weight_hh.shape[1], (block + 1) * params.weight_hh.shape[1])
    return params._replace(bias_ih=params.bias_ih.at[rows].set(bias), bias_hh=params.bias_hh.at[rows].set(0))


def spectral_radius(params: Any) -> Array:
    """|λ| of the recurrent weights' largest eigenvalue."""
    return jnp.abs(jnp.linalg.eigvals(params.weight_hh)).max()


def largest_singular_value(params: Any) -> Array:
    """How much longer the recurrent weights make a state at most."""
    return jnp.linalg.norm(params.weight_hh, 2)


def open_gate(bias: float, params: Any) -> Array:
    """σ of the bias."""
    return jax.nn.sigmoid(jnp.asarray(bias, params.weight_hh.dtype))


def _orthogonal(gain: float) -> Initialisation:
    change = functools.partial(orthogonal, gain)
    return Initialisation("rnn", change, f"orthogonal × {gain:g}", f"{gain:g}ᵏ", largest_singular_value)


def _kept(cell: str, block: int, bias: float, gate: str) -> Initialisation:
    change = functools.partial(kept, block, bias)
    return Initialisation(cell, change, f"{gate} bias {bias:g}", f"σ({bias:g})ᵏ", functools.partial(open_gate, bias))


INITIALISATIONS = {
    "rnn-torch": Initialisation("rnn", torch_uniform, "torch's uniform", "ρ(W)ᵏ", spectral_radius),
    **{f"rnn-orthogonal-{gain}": _orthogonal(gain) for gain in (0.9, 1.0, 1.1, 1.5)},
    "gru-torch": Initialisation("gru", torch_uniform, "torch's uniform", "σ(0)ᵏ", functools.partial(open_gate, 0.0)),
    **{f"gru-update-{bias}": _kept("gru", 1, bias, "update") for bias in (1.0, 3.0)},
    "lstm-torch": Initialisation("lstm", torch_uniform, "torch's uniform", "σ(0)ᵏ", functools.partial(open_gate, 0.0)),
    **{f"lstm-forget-{bias}": _kept("lstm", 1, bias, "forget") for bias in (1.0, 3.0, 5.0)},
}


def check_memory(steps: int, hidden: int) -> None:
    """An error if the largest of the curves would not fit."""
    flags, name = "--steps or --hidden", "lstm-torch"
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), DRAWS)
        params = _memory.shapes(flags, lambda: jax.vmap(functools.partial(init, name, hidden))(keys))
        _memory.check(flags, functools.partial(_norms, CELLS[INITIALISATIONS[name].cell], steps), params, keys)


def curve(name: str, steps: int, hidden: int, seed: int) -> Curve:
    """‖dL/dh_t‖ for L = ⟨v, h_T⟩, v of length 1 and random, inputs from N(0, 1), in float64."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(seed), DRAWS)
        params = jax.vmap(functools.partial(init, name, hidden))(keys)
        norms = _norms(CELLS[INITIALISATIONS[name].cell], steps, params, keys)
        factors = jax.vmap(INITIALISATIONS[name].factor)(params)
        return Curve(_geometric_mean(norms), float(_geometric_mean(factors)))


def _geometric_mean(values: Array) -> np.ndarray:
    return np.asarray(jnp.exp(jnp.mean(jnp.log(values), axis=0)))


@functools.partial(jax.jit, static_argnames=("cell", "steps"))
def _norms(cell: jr.Cell, steps: int, params: Any, keys: Array) -> Array:
    """(draws, T), for all initialisations of a cell one program."""
    return jax.vmap(functools.partial(norms_of, cell, steps))(params, keys)


def init(name: str, hidden: int, key: Array) -> Any:
    """The cell's parameters."""
    initialisation = INITIALISATIONS[name]
    key_cell, key_change = jax.random.split(key)
    params = CELLS[initialisation.cell].init(key_cell, INPUTS, hidden, dtype=jnp.float64)
    return initialisation.change(params, key_change)


def norms_of(cell: jr.Cell, steps: int, params: Any, key: Array) -> Array:
    """(T,) ‖dL/dh_t‖ of one draw of inputs and v."""
    key_x, key_v = jax.random.split(jax.random.fold_in(key, 1))
    state = cell.initial_state(params)
    xs = jax.random.normal(key_x, (steps, INPUTS), jnp.float64)
    v = jax.random.normal(key_v, cell.output(state).shape, jnp.float64)
    problem = gradients.Problem(cell, functools.partial(_read, cell))
    ys = jnp.zeros((steps, *v.shape)).at[-1].set(v / jnp.linalg.norm(v))
    found = gradients.state_gradients(problem, params, state, xs, ys)
    return jnp.linalg.norm(jnp.concatenate(jax.tree.leaves(found), axis=-1), axis=-1)


def _read(cell: jr.Cell, params: Any, state: Any, y: Array) -> Array:
    del params
    return jnp.vdot(y, cell.output(state))
