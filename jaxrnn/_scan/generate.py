"""Closed-loop generation: what comes out goes in again."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from .._core.cell import Cell, Params, State, Step, as_step
from .._core.checks import (
    check_arrays,
    check_function,
    check_int,
    check_optional_key,
    check_static,
    check_tree_like,
    describe,
)
from .loops import scan

_STEP = ("params, state, x", "state")
_FEED = ("params, state, key", "(x_next, emitted)")

Feed = Callable[[Params, State, Array | None], tuple[Any, Any]]


def generate(
    step: Cell | Step,
    feed: Feed,
    params: Params,
    state: State,
    x0: Any,
    length: int,
    key: Array | None = None,
) -> tuple[State, Any]:
    """Run a step on its own outputs, on one scan.

        s_t = step(params, s_{t-1}, x_{t-1})        x_t, e_t = feed(params, s_t, key_t)        t = 1 … length

    Args:
      step: a `jr.Cell`, or a function (params, state, x) -> state.
      feed: (params, state, key) -> (x_next, emitted): reads the next input, shaped as x0, and whatever is to be
        collected out of the state. `key` is one of `length` keys split from `key`, or None.
      params: what step and feed see.
      state: s_0, any pytree.
      x0: the first input, any pytree.
      length: how many steps, at least 1.
      key: for feeds that sample.

    step and feed are static: give the same function objects again, not new lambdas, and a second call does not retrace.

    Returns:
      The final state, and what feed emitted, stacked along a new first axis of `length`.

    Raises:
      ValueError: length below 1; step or feed return other shapes or dtypes than they were given.
      TypeError: step or feed is no function of these arguments, length is not an int, key is no key, params, state, x0
        or what feed emits has a leaf that is no array.

    Example: an autonomous linear recurrence, h′ = h/2.

    >>> import jax.numpy as jnp, jaxrnn as jr
    >>> def step(params, h, x):
    ...     return params * x
    >>> def feed(params, h, key):
    ...     return h, h
    >>> final, hs = jr.generate(step, feed, jnp.float32(0.5), jnp.float32(0), jnp.float32(1), length=3)
    >>> hs.tolist()
    [0.5, 0.25, 0.125]
    """
    check_static("step", as_step(step), *_STEP)
    check_static("feed", feed, *_FEED)
    check_int("length", length)
    for name, tree in (("params", params), ("state", state), ("x0", x0)):
        check_arrays(name, tree)
    check_optional_key("key", key)
    return _generate(as_step(step), feed, params, state, x0, int(length), key)


@functools.partial(jax.jit, static_argnames=("step", "feed", "length"))
def _generate(
    step: Step, feed: Feed, params: Params, state: State, x0: Any, length: int, key: Array | None
) -> tuple[State, Any]:
    """At module level, so that an eager call traces once."""
    check_function("step", step, *_STEP)
    check_function("feed", feed, *_FEED)

    def advance(params: Params, carry: tuple[State, Any], step_key: Array | None) -> tuple[tuple[State, Any], Any]:
        state, x = carry
        new_state = step(params, state, x)
        check_tree_like("the state that step returns", new_state, state, "as the state it was given")
        fed = feed(params, new_state, step_key)
        if not isinstance(fed, tuple) or len(fed) != 2:
            raise TypeError(f"feed must return a tuple (x_next, emitted), got {describe(fed)}")
        x_next, emitted = fed
        check_tree_like("the x_next that feed returns", x_next, x, "as x0")
        check_arrays("what feed emits", emitted)
        return (new_state, x_next), emitted

    keys = None if key is None else jax.random.split(key, length)
    (state, _), emitted = scan(advance, params, (state, x0), keys, length=length)
    return state, emitted
