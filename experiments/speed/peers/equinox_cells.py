"""Equinox's cells in a `lax.scan`, under `vmap` over the batch, as its documentation shows them."""

from typing import Any

import equinox as eqx  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
from jax import Array, lax

from ..grid import Task
from ._peer import JaxProgram, Peer, jax_program, only_one_layer

CELLS: dict[str, Any] = {"gru": eqx.nn.GRUCell, "lstm": eqx.nn.LSTMCell}


def _build(task: Task) -> JaxProgram:
    shape = task.shape
    zeros = jnp.zeros(shape.hidden, task.dtype)
    initial = (zeros, zeros) if task.cell == "lstm" else zeros

    def run(cell: Any, xs: Array) -> Array:
        def step(state: Any, x: Array) -> tuple[Any, Array]:
            state = cell(x, state)
            return state, jax.tree.leaves(state)[0]

        return lax.scan(step, initial, xs)[1]

    cell = CELLS[task.cell](shape.inputs, shape.hidden, dtype=jnp.dtype(task.dtype), key=jax.random.key(0))
    return jax_program(task, jax.vmap(run, in_axes=(None, 1), out_axes=1), cell)


def _refuses(task: Task) -> str | None:
    return "has no Elman cell" if task.cell == "rnn" else only_one_layer(task)


PEER = Peer("equinox", eqx.__version__, _refuses, _build)
