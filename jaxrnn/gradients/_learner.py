"""The interface of online learners, and the scan that makes an algorithm for a whole sequence of one."""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._cell import Params, State
from ._problem import Problem, check_parts, check_sequences


class Learner(NamedTuple):
    """A gradient algorithm that goes with the stream: one step in, one gradient out, memory that does not grow.

    Fields:
      init: `(params, state, x, key=None) -> carry`, before the first step; x is an example of an input.
      update: `(params, carry, x, y) -> (carry, value, grads)`: takes one step; the loss at its end, and the gradient.
        The parameters may change from one update to the next. Made for `jax.lax.scan`. `carry.state` is the state.
      rest: `(params, carry) -> grads`, the gradient of losses that `update` has not propagated yet; None if there are
        never any.
    """

    init: Callable[..., Any]
    update: Callable[[Params, Any, Any, Any], tuple[Any, Array, Params]]
    rest: Callable[[Params, Any], Params] | None = None


def sequence_gradient(
    learner: Learner, problem: Problem, params: Params, state: State, xs: Any, ys: Any, key: Array | None = None
) -> tuple[Array, Params]:
    """The sum of what the learner gives over a sequence, for parameters that stay as they are."""
    check_sequences(xs, ys)
    return _sequence_gradient(learner, problem, params, state, xs, ys, key)


@functools.partial(jax.jit, static_argnames=("learner", "problem"))
def _sequence_gradient(
    learner: Learner, problem: Problem, params: Params, state: State, xs: Any, ys: Any, key: Array | None
) -> tuple[Array, Params]:
    """At module level, so that an eager call traces once."""
    check_parts(problem, params, state, xs)

    def update(carry: tuple[Any, Array, Params], inputs: tuple[Any, Any]) -> tuple[tuple[Any, Array, Params], None]:
        inner, total, sums = carry
        inner, value, grads = learner.update(params, inner, *inputs)
        return (inner, total + value, jax.tree.map(operator.add, sums, grads)), None

    first_x, first_y = jax.tree.map(lambda a: a[0], (xs, ys))
    start = learner.init(params, state, first_x, key)
    _, value, _ = jax.eval_shape(learner.update, params, start, first_x, first_y)
    zeros = (start, jnp.zeros((), value.dtype), jax.tree.map(jnp.zeros_like, params))
    (end, total, sums), _ = lax.scan(update, zeros, (xs, ys))
    if learner.rest is not None:
        sums = jax.tree.map(operator.add, sums, learner.rest(params, end))
    return total, sums
