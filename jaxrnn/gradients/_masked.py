"""Sequences with steps that are not there."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .._core import time
from .._core.cell import Params, State, as_step
from .._core.checks import dtype_of
from ._problem import Problem, check_problem


def masked(problem: Problem) -> Problem:
    """The same problem of sequences with gaps: its xs and ys are `(xs, mask)` and `(ys, mask)`, mask (T,) of bools.

        s_t = step(select(θ), s_{t-1}, x_t), l_t as it is    where mask_t        s_t = s_{t-1}, l_t = 0    where not

    What xs and ys hold at steps that are not there has no part in anything, NaN neither: the step and the loss see 0 in
    its place, at which their derivatives must be finite. A ragged batch has `mask = jnp.arange(T) < length`.

    Args:
      problem: step, loss and select.

    Returns:
      A `Problem` for any algorithm, the same object for equal arguments.

    Raises:
      TypeError: problem is no Problem.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(jr.gru, loss=lambda params, h, y: jnp.sum((h - y) ** 2))
    >>> params, mask = jr.gru.init(jax.random.key(0), 3, 8), jnp.arange(5) < 2                      # 2 of 5 steps
    >>> xs, ys = jnp.full((5, 3), jnp.nan).at[:2].set(1), jnp.full((5, 8), jnp.nan).at[:2].set(1)
    >>> found = gradients.rtrl(gradients.masked(problem), params, jnp.zeros(8), (xs, mask), (ys, mask))
    >>> expected = gradients.rtrl(problem, params, jnp.zeros(8), xs[:2], ys[:2])
    >>> all(jax.tree.leaves(jax.tree.map(jnp.allclose, found, expected)))
    True
    """
    check_problem(problem)
    return _masked(problem)


@functools.lru_cache
def _masked(problem: Problem) -> Problem:
    return problem._replace(step=functools.partial(_step, problem), loss=functools.partial(_loss, problem))


def _step(problem: Problem, selected: Params, state: State, inputs: tuple[Any, Array]) -> State:
    x, is_there = inputs
    new_state = as_step(problem.step)(selected, state, _zero_unless(is_there, x))
    return time.masked(is_there, new_state, state)


def _loss(problem: Problem, params: Params, state: State, inputs: tuple[Any, Array]) -> Array:
    y, is_there = inputs
    return jnp.where(is_there, problem.loss(params, state, _zero_unless(is_there, y)), 0)


def _zero_unless(is_there: Array, tree: Any) -> Any:
    """Keys stay: there is no zero of them."""
    is_key = lambda a: jnp.issubdtype(dtype_of(a), jax.dtypes.prng_key)  # noqa: E731
    return jax.tree.map(lambda a: a if is_key(a) else time.masked(is_there, a), tree)
