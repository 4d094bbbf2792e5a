"""Loops over time that are as exact, and as fast, in few bits as in float32.

The transpose of `lax.scan` adds up the cotangents of what does not change from step to step in the dtype that it has;
in bfloat16 such a sum stops growing at 256 times its terms. So the parameters of a loop here go in as float32, and each
step narrows them: the transpose of that adds up in float32.

XLA:CPU writes an entry of an array of bfloat16 by converting all of the array, so that T steps take T² time. So there
the arrays that a loop reads and writes are float32, those that the backward pass needs among them: it gets the state
and the input of each step, and computes the rest again.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
from jax import lax

from .._core.cell import Params, State
from .._core.numerics import narrowed, widened
from .._core.time import join_time, split_time, whole_and_rest
from . import plan

Body: TypeAlias = Callable[[Params, State, Any], tuple[State, Any]]  # (params, carry, x) -> (carry, y)


def scan(
    body: Body, params: Params, carry: State, xs: Any, *, length: int | None = None, reverse: bool = False
) -> tuple[State, Any]:
    """`lax.scan` of body(params, carry, x), whose derivative by the params is a sum in float32 or wider."""
    wide = widened(params)

    def step(carry: State, x: Any) -> tuple[State, Any]:
        return body(narrowed(wide, params), carry, x)

    if not plan.stores_wide((params, carry, xs), platform=plan.platform()):
        return lax.scan(step, carry, xs, length=length, reverse=reverse)
    x_like = jax.eval_shape(_first, xs)
    _, y_like = jax.eval_shape(lambda carry, xs: step(carry, _first(xs)), carry, xs)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def wide_step(wide_carry: State, wide_x: Any) -> tuple[State, Any]:
        return widened(step(narrowed(wide_carry, carry), narrowed(wide_x, x_like)))

    final, ys = lax.scan(wide_step, widened(carry), widened(xs), length=length, reverse=reverse)
    return narrowed(final, carry), narrowed(ys, y_like)


def run_segments(run: Body, params: Params, state: State, xs: Any, length: int, *, reverse: bool) -> tuple[State, Any]:
    """`run(params, state, xs)` that keeps, for the backward pass, the states between parts of `length` steps alone."""
    # The outer scan keeps a part apart from its copy in the backward pass: no barrier against CSE is needed.
    run = jax.checkpoint(run, prevent_cse=False)
    return run_parts(run, params, state, xs, length, reverse=reverse)


def run_parts(run: Body, params: Params, state: State, xs: Any, length: int, *, reverse: bool) -> tuple[State, Any]:
    """`run(params, state, xs)` over parts of `length` steps, one after the other."""

    def run_all(state: State, xs: Any) -> tuple[State, Any]:
        state, ys = scan(run, params, state, split_time(xs, length), reverse=reverse)
        return state, join_time(ys)

    return whole_and_rest(run_all, functools.partial(run, params), length, state, xs, reverse=reverse)


def stored(tree: Any) -> Any:
    """The tree as a loop reads and writes it."""
    return widened(tree) if plan.stores_wide(tree, platform=plan.platform()) else tree


def _first(xs: Any) -> Any:
    return jax.tree.map(lambda a: a[0], xs)
