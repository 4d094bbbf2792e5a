"""flax.nnx's RNN over its cells, time first, as a function of its parameters."""

from typing import Any

import flax
from flax import nnx
from jax import Array

from ..grid import Task
from ._peer import JaxProgram, Peer, jax_program, only_one_layer

CELLS: dict[str, Any] = {"rnn": nnx.SimpleCell, "gru": nnx.GRUCell, "lstm": nnx.OptimizedLSTMCell}

INITIALIZERS = {"recurrent_kernel_init": nnx.initializers.lecun_normal()}  # its default, orthogonal, is float32 alone


def _build(task: Task) -> JaxProgram:
    shape = task.shape
    dtypes = {"dtype": task.dtype, "param_dtype": task.dtype}
    cell = CELLS[task.cell](shape.inputs, shape.hidden, **dtypes, **INITIALIZERS, rngs=nnx.Rngs(0))
    structure, params, rest = nnx.split(nnx.RNN(cell, time_major=True), nnx.Param, ...)

    def apply(params: Any, xs: Array) -> Any:
        return nnx.merge(structure, params, rest)(xs, rngs=nnx.Rngs(0))

    return jax_program(task, apply, params)


PEER = Peer("nnx", flax.__version__, only_one_layer, _build)
