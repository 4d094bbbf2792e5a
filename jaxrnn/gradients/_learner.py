"""What algorithms give, the interface of online learners, and the scan that makes the one of the other."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._core.cell import Params, State
from .._core.checks import check_arrays, check_optional_key, check_static, describe
from .._core.numerics import narrowed
from ._leaves import at
from ._problem import Problem, check_arguments, checked_start
from ._sums import add_up, zero_sums


class Gradient(NamedTuple):
    """What every algorithm gives for a sequence."""

    value: Array  # L
    grads: Params  # dL/dθ, a pytree like params
    state: State  # after the last step: where the next part of a stream begins


class Learner(NamedTuple):
    """A gradient algorithm that goes with the stream: one step in, one gradient out, memory that does not grow.

    Fields:
      init: `(params, state, x, key=None) -> carry`, before the first step; x is an example of an input.
      update: `(params, carry, x, y) -> (carry, value, grads)`: takes one step; the loss at its end, and the gradient.
        The parameters may change from one update to the next. Made for `jax.lax.scan`. `carry.state` is the state.
      rest: `(params, carry) -> grads`, the gradient of losses that `update` has not propagated yet; None if there are
        never any.
      of_batch: `() -> Learner`, the same for a batch of streams, see `online.batched`; None where `jax.vmap` of the
        learner, and a sum, does no more work than need be.
    """

    init: Callable[..., Any]
    update: Callable[[Params, Any, Any, Any], tuple[Any, Array, Params]]
    rest: Callable[[Params, Any], Params] | None = None
    of_batch: Callable[[], "Learner"] | None = None


def sequence_gradient(
    learner: Learner, params: Params, state: State, xs: Any, ys: Any, key: Array | None = None
) -> Gradient:
    """The sum of what a learner gives over a sequence, for parameters that stay as they are.

        grads = Σ_t update's grads + rest

    Args:
      learner: from `jaxrnn.gradients.online`, or your own; static, so that a new one for each call retraces.
      params, state, xs, ys: see `bptt`.
      key: for the learner's `init`, if it draws numbers.

    Returns:
      `Gradient`: L, its gradient and the last state.

    Raises:
      ValueError: xs and ys differ in T; what the learner raises.
      TypeError: learner is no Learner of hashable functions, key is no key, a leaf that is no array.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(jr.rnn, loss=lambda params, h, y: jnp.sum(h**2))
    >>> args = jr.rnn.init(jax.random.key(0), 3, 8), jnp.zeros(8), jnp.ones((5, 3)), None
    >>> value, grads, state = gradients.sequence_gradient(gradients.online.rtrl(problem), *args)
    >>> bool(jnp.allclose(grads.bias_hh, gradients.bptt(problem, *args).grads.bias_hh, atol=1e-6))
    True
    """
    if not isinstance(learner, Learner):
        raise TypeError(f"learner must be a jaxrnn.gradients.Learner, got {type(learner).__name__}")
    check_static("learner.init", learner.init, "params, state, x, key", "carry")
    check_static("learner.update", learner.update, "params, carry, x, y", "(carry, value, grads)")
    check_arguments(params, state, xs, ys)
    check_optional_key("key", key)
    return _sequence_gradient(learner, params, state, xs, ys, key)


@functools.partial(jax.jit, static_argnames="learner")
def _sequence_gradient(learner: Learner, params: Params, state: State, xs: Any, ys: Any, key: Array | None) -> Gradient:
    """At module level, so that an eager call traces once."""
    end, value, sums = run_learner(learner, params, learner.init(params, state, at(xs, 0), key), xs, ys)
    if learner.rest is not None:
        sums = add_up(sums, learner.rest(params, end))
    return Gradient(value, narrowed(sums, params), end.state)


def run_learner(learner: Learner, params: Params, carry: Any, xs: Any, ys: Any) -> tuple[Any, Array, Params]:
    """The carry after the steps of xs and ys, the sum of the values, and that of the gradients, in float32 or wider."""

    def update(carry: tuple[Any, tuple[Array, Params]], inputs: tuple[Any, Any]) -> tuple[Any, None]:
        inner, sums = carry
        inner, value, grads = learner.update(params, inner, *inputs)
        return (inner, add_up(sums, (value, grads))), None

    _, value, _ = jax.eval_shape(learner.update, params, carry, at(xs, 0), at(ys, 0))
    (carry, (total, grads)), _ = lax.scan(update, (carry, zero_sums((jnp.zeros_like(value), params))), (xs, ys))
    return carry, narrowed(total, value), grads


def checked_update(
    update: Callable[..., Any], kind: type, params: Params, carry: Any, x: Any, y: Any
) -> tuple[Any, Array, Params]:
    """`update(params, carry, x, y)` for a carry of this kind."""
    if not isinstance(carry, kind):
        raise TypeError(f"carry must be from the learner's init, got {describe(carry)}")
    for name, tree in (("params", params), ("carry", carry), ("x", x), ("y", y)):
        check_arrays(name, tree)
    return update(params, carry, x, y)


def checked_init(
    problem: Problem, init: Callable[..., Any], params: Params, state: State, x: Any, key: Array | None = None
) -> Any:
    """`init(params, state, x, key)`, if they fit together."""
    check_optional_key("key", key)
    return init(params, checked_start(problem, params, state, x), x, key)
