"""cuDNN's LSTM as `jax.experimental.rnn` calls it: float32, one custom derivative, batch first."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import rnn

from ..grid import Task
from ._peer import JaxProgram, Peer, jax_program, only_one_layer


def _build(task: Task) -> JaxProgram:
    shape = task.shape
    sizes: dict[str, Any] = {
        "input_size": shape.inputs,
        "hidden_size": shape.hidden,
        "num_layers": 1,
        "bidirectional": False,
    }
    weights = rnn.init_lstm_weight(jax.random.key(0), **sizes)
    zeros = jnp.zeros((1, shape.batch, shape.hidden))
    lengths = jnp.full((shape.batch,), shape.steps, jnp.int32)

    def apply(weights: Array, xs: Array) -> Array:
        outputs: Any = rnn.lstm(
            jnp.swapaxes(xs, 0, 1),
            zeros,
            zeros,
            weights,
            lengths,
            **sizes,
            dropout=0.0,
            precision=lax.Precision.HIGHEST,  # float32 proper, as everyone here has
        )
        return jnp.swapaxes(outputs[0], 0, 1)

    return jax_program(task, apply, weights)


def _refuses(task: Task) -> str | None:
    if task.device != "gpu":
        return "needs --device gpu"
    if task.cell != "lstm" or task.dtype != "float32":
        return "has the lstm in float32 alone"
    return only_one_layer(task)


PEER = Peer("cudnn", jax.__version__, _refuses, _build)
