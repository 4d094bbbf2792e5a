"""Haiku's cores under `hk.dynamic_unroll`; its VanillaRNN has relu, its GRU resets before the matrix product."""

from typing import Any

import haiku as hk  # pyright: ignore[reportMissingImports]
import jax
from jax import Array

from ..grid import Task
from ._peer import JaxProgram, Peer, jax_program, only_one_layer

CORES: dict[str, Any] = {"rnn": hk.VanillaRNN, "gru": hk.GRU, "lstm": hk.LSTM}


def _build(task: Task) -> JaxProgram:
    def run(xs: Array) -> Any:
        core = CORES[task.cell](task.shape.hidden)
        state = jax.tree.map(lambda a: a.astype(xs.dtype), core.initial_state(task.shape.batch))
        return hk.dynamic_unroll(core, xs, state)[0]

    transformed = hk.without_apply_rng(hk.transform(run))
    params = jax.jit(transformed.init)(jax.random.key(0), task.inputs().astype(task.dtype)[:1])
    return jax_program(task, transformed.apply, params)


PEER = Peer("haiku", hk.__version__, only_one_layer, _build)
