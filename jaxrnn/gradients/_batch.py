"""A batch of sequences as one problem."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .._core.cell import Params, State, as_step
from ._problem import Problem


@functools.lru_cache
def batch_problem(problem: Problem) -> Problem:
    """The problem of a batch that goes in step: its state, x and y have the batch axis first, its loss is the sum.

    Its gradient adds up over the batch within one product of matrices.
    """
    return Problem(functools.partial(_step, problem), functools.partial(_loss, problem), problem.select)


def _step(problem: Problem, selected: Params, state: State, x: Any) -> State:
    return jax.vmap(as_step(problem.step), in_axes=(None, 0, 0))(selected, state, x)


def _loss(problem: Problem, params: Params, state: State, y: Any) -> Array:
    return jnp.sum(jax.vmap(problem.loss, in_axes=(None, 0, 0))(params, state, y))
