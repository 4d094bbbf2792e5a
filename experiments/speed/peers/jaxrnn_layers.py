"""jaxrnn's layers."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

import jaxrnn as jr

from ..grid import Task
from ._peer import JaxProgram, Peer, jax_program

CELLS: dict[str, jr.Cell] = {"rnn": jr.rnn, "gru": jr.gru, "lstm": jr.lstm}
LAYERS: dict[str, Any] = {"rnn": jr.RNN, "gru": jr.GRU, "lstm": jr.LSTM}


def network(task: Task) -> Any:
    """The layers of one head."""
    shape = task.shape
    return LAYERS[task.cell](shape.inputs, shape.head_size, task.layers, bidirectional=task.bidirectional)


def init(task: Task) -> dict[str, Array]:
    """The network's parameters; of several heads, with a leading axis for the heads."""
    key = jax.random.key(0)
    if task.shape.heads == 1:
        return network(task).init(key, task.dtype)
    return jax.vmap(lambda key: network(task).init(key, task.dtype))(jax.random.split(key, task.shape.heads))


def over_heads(task: Task, apply: Any) -> Any:
    """`apply` of one head as that of all of them, which see the same inputs: ys (T, B, H)."""
    if task.shape.heads == 1:
        return apply

    def apply_all(params: Any, xs: Array) -> Array:
        ys = jax.vmap(apply, in_axes=(0, None), out_axes=2)(params, xs)
        return jnp.reshape(ys, task.output_shape)

    return apply_all


def _build(task: Task) -> JaxProgram:
    net = network(task)
    return jax_program(task, over_heads(task, lambda params, xs: net.apply(params, xs)[0]), init(task))


PEER = Peer("jaxrnn", jr.__version__, lambda task: None, _build)
