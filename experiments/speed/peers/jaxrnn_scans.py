"""jaxrnn's layers without its compiled kernels: in XLA alone."""

import jax
from jax import Array

import jaxrnn as jr

from ..grid import Task
from . import jaxrnn_layers
from ._peer import JaxProgram, Peer, jax_program


def _build(task: Task) -> JaxProgram:
    net = jaxrnn_layers.network(task)

    def apply(params: dict[str, Array], xs: Array) -> Array:
        with jr.native.disabled():  # as it is traced
            return net.apply(params, xs)[0]

    return jax_program(task, jaxrnn_layers.over_heads(task, apply), jaxrnn_layers.init(task))


def _refuses(task: Task) -> str | None:
    reason = jr.native.info().reason
    return f"is what jaxrnn itself runs: {reason}" if reason else None


PEER = Peer("jaxrnn-xla", jax.__version__, _refuses, _build)
