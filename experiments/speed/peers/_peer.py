"""What every implementation gives: a name, a version, what it cannot do, and a program for a task that it can."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..grid import Task


class Program(Protocol):
    """A task as one implementation does it."""

    def forward(self) -> Any:
        """The outputs, finished."""

    def gradient(self) -> Any:
        """The loss and its derivatives with respect to all weights, finished."""

    def numpy(self, values: Any) -> list[np.ndarray]:
        """The arrays in what `forward` or `gradient` returned, in float32."""
        ...


class Peer(NamedTuple):
    """An implementation of recurrent networks."""

    name: str
    version: str
    refuses: Callable[[Task], str | None]  # why it cannot do a task
    build: Callable[[Task], Any]  # -> Program


def only_one_layer(task: Task) -> str | None:
    """What is said of a stack, or of heads, by a peer that is measured with plain single layers."""
    if task.layers > 1 or task.bidirectional:
        return "is measured with one layer in one direction"
    return "has no heads" if task.shape.heads > 1 else None


@dataclasses.dataclass(frozen=True)
class JaxProgram:
    """A task as a function of parameters and inputs that JAX compiles and differentiates."""

    apply: Callable[[Any, Array], Array]  # (params, xs (T, B, I)) -> ys (T, B, H)
    params: Any
    xs: Array
    weights: Array

    def forward(self) -> Array:
        """The outputs."""
        return jax.block_until_ready(self._forward(self.params, self.xs))

    def gradient(self) -> Any:
        """The loss and its gradient."""
        return jax.block_until_ready(self._gradient(self.params, self.xs, self.weights))

    def compile_gradient(self) -> Any:
        """Trace and compile the loss and its gradient, as a new function."""
        return self._new_gradient().lower(self.params, self.xs, self.weights).compile()

    def numpy(self, values: Any) -> list[np.ndarray]:
        """The leaves."""
        return [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(values)]

    @functools.cached_property
    def _forward(self) -> Any:
        return jax.jit(self.apply)

    @functools.cached_property
    def _gradient(self) -> Any:
        return self._new_gradient()

    def _new_gradient(self) -> Any:
        return jax.jit(jax.value_and_grad(functools.partial(_loss, self.apply)))


def jax_program(task: Task, apply: Callable[[Any, Array], Array], params: Any) -> JaxProgram:
    """The program of a function, with the task's data."""
    xs, weights = (jnp.asarray(array, task.dtype) for array in (task.inputs(), task.loss_weights()))
    return JaxProgram(apply, params, xs, weights)


def _loss(apply: Callable[[Any, Array], Array], params: Any, xs: Array, weights: Array) -> Array:
    return jnp.sum(apply(params, xs) * weights)
