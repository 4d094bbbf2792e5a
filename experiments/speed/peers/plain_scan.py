"""A `lax.scan` over the cell's equations as one would write them down, differentiated by JAX."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..grid import Task
from . import jaxrnn_layers
from ._peer import JaxProgram, Peer, jax_program

STATES = {"rnn": 1, "gru": 1, "lstm": 2}  # arrays that a cell carries; the first is its output


def _rnn(params: dict[str, Array], state: tuple[Array], x: Array) -> tuple[Array]:
    (h,) = state
    z = x @ params["weight_ih"].T + params["bias_ih"]
    r = h @ params["weight_hh"].T + params["bias_hh"]
    return (jnp.tanh(z + r),)


def _gru(params: dict[str, Array], state: tuple[Array], x: Array) -> tuple[Array]:
    (h,) = state
    z_reset, z_update, z_new = jnp.split(x @ params["weight_ih"].T + params["bias_ih"], 3, axis=-1)
    r_reset, r_update, r_new = jnp.split(h @ params["weight_hh"].T + params["bias_hh"], 3, axis=-1)
    reset, update = jax.nn.sigmoid(z_reset + r_reset), jax.nn.sigmoid(z_update + r_update)
    new = jnp.tanh(z_new + reset * r_new)
    return ((1 - update) * new + update * h,)


def _lstm(params: dict[str, Array], state: tuple[Array, Array], x: Array) -> tuple[Array, Array]:
    h, c = state
    z = x @ params["weight_ih"].T + params["bias_ih"]
    r = h @ params["weight_hh"].T + params["bias_hh"]
    i, f, g, o = jnp.split(z + r, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


STEPS: dict[str, Any] = {"rnn": _rnn, "gru": _gru, "lstm": _lstm}


def zeros(cell: str, x: Array, hidden: int) -> tuple[Array, ...]:
    """The state before the first step: as many arrays (B, H) as the cell carries, no two of them the same buffer."""
    return tuple(jnp.zeros((*x.shape[:-1], hidden), x.dtype) for _ in range(STATES[cell]))


def unroll(cell: str, params: dict[str, Array], xs: Array, reverse: bool = False) -> tuple[tuple[Array, ...], Array]:
    """The final state and the outputs, from zeros."""

    def step(state: tuple[Array, ...], x: Array) -> tuple[tuple[Array, ...], Array]:
        state = STEPS[cell](params, state, x)
        return state, state[0]

    return lax.scan(step, zeros(cell, xs[0], params["weight_hh"].shape[1]), xs, reverse=reverse)


def _build(task: Task) -> JaxProgram:
    def apply(params: dict[str, Array], ys: Array) -> Array:
        for layer in range(task.layers):
            suffixes = [f"_l{layer}", f"_l{layer}_reverse"][: task.directions]
            outputs = [unroll(task.cell, _tensors(params, s), ys, s.endswith("reverse"))[1] for s in suffixes]
            ys = jnp.concatenate(outputs, axis=-1)
        return ys

    return jax_program(task, jaxrnn_layers.over_heads(task, apply), jaxrnn_layers.init(task))


def _tensors(params: dict[str, Array], suffix: str) -> dict[str, Array]:
    """Those of one layer and direction, of torch's names."""
    return {name.removesuffix(suffix): tensor for name, tensor in params.items() if name.endswith(suffix)}


PEER = Peer("scan", jax.__version__, lambda task: None, _build)
