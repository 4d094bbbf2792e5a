"""flax.linen's RNN over its cells, time first; of its LSTM cells the one that it calls optimized."""

from typing import Any

import flax
import jax
from flax import linen as nn

from ..grid import Task
from ._peer import JaxProgram, Peer, jax_program, only_one_layer

CELLS: dict[str, Any] = {"rnn": nn.SimpleCell, "gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}

INITIALIZERS = {"recurrent_kernel_init": nn.initializers.lecun_normal()}  # its default, orthogonal, is float32 alone


def _build(task: Task) -> JaxProgram:
    cell = CELLS[task.cell](task.shape.hidden, dtype=task.dtype, param_dtype=task.dtype, **INITIALIZERS)
    layer = nn.RNN(cell, time_major=True)
    params = jax.jit(layer.init)(jax.random.key(0), task.inputs()[:1])
    return jax_program(task, lambda params, xs: layer.apply(params, xs), params)  # pyright: ignore[reportArgumentType]


PEER = Peer("linen", flax.__version__, only_one_layer, _build)
