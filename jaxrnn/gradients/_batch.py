"""A batch of sequences as one problem, and a learner of one that is shared."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .._core.cell import Params, State, as_step
from ._learner import Learner
from ._problem import Problem, starting_state


@functools.lru_cache
def batch_problem(problem: Problem, size: int) -> Problem:
    """The problem of a batch that goes in step: its state, x and y have the batch axis first, its loss is the sum.

    Its gradient adds up over the batch within one product of matrices.
    """
    start = None if problem.initial_state is None else functools.partial(_initial_state, problem, size)
    return Problem(functools.partial(_step, problem), functools.partial(_loss, problem), problem.select, start)


def learner_of_batch(make: Callable[[Problem], Learner], problem: Problem) -> Learner:
    """The learner that `make` gives for a batch, whatever its size: what is not the streams' own is there once."""

    def of(*trees: Any) -> Learner:
        return make(batch_problem(problem, jax.tree.leaves(trees)[0].shape[0]))

    def init(params: Params, state: State, x: Any, key: Array | None = None) -> Any:
        return of(state, x).init(params, state, x, key)

    def update(params: Params, carry: Any, x: Any, y: Any) -> tuple[Any, Array, Params]:
        return of(x).update(params, carry, x, y)

    def rest(params: Params, carry: Any) -> Params:
        found = of(carry.state).rest
        assert found is not None
        return found(params, carry)

    return Learner(init, update, rest)


def _step(problem: Problem, selected: Params, state: State, x: Any) -> State:
    return jax.vmap(as_step(problem.step), in_axes=(None, 0, 0))(selected, state, x)


def _initial_state(problem: Problem, size: int, params: Params) -> State:
    state = jax.tree.map(jnp.asarray, starting_state(problem, params, None))
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (size, *a.shape)), state)


def _loss(problem: Problem, params: Params, state: State, y: Any) -> Array:
    return jnp.sum(jax.vmap(problem.loss, in_axes=(None, 0, 0))(params, state, y))
