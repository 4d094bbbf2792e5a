"""One scan of a cell's step, which every cell has; and the choice between it and the cell's own way."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from .._core.cell import Cell, Params, Run, State, Step, adds_up_in_float32
from .._core.checks import check_arrays, check_tree_like, describe
from .._core.numerics import has_few_bits
from .._core.time import are_known, masked, square_root
from .loops import run_parts, scan


def run_of(cell: Cell) -> Run:
    """How the cell runs a whole sequence: its own way, or by stepping; what comes out is looked at."""
    return functools.partial(_run, cell)


def _run(
    cell: Cell,
    params: Params,
    state: State,
    xs: Array,
    active: Array | None,
    /,
    *,
    reverse: bool,
    return_states: bool,
) -> tuple[State, Any]:
    emitted = state if return_states else output_like(cell, state, xs.shape[1 : xs.ndim - cell.input_ndim])
    ran = _way_of(cell, params, xs.shape[0])(params, state, xs, active, reverse=reverse, return_states=return_states)
    over_time = jax.tree.map(lambda a: jax.ShapeDtypeStruct((xs.shape[0], *a.shape), a.dtype), emitted)
    check_tree_like("what cell.run returns", ran, (state, over_time), "the final state, and what the steps give")
    return ran


def _way_of(cell: Cell, params: Params, steps: int) -> Run:
    if cell.run is not None and (adds_up_in_float32(cell.run) or not has_few_bits(params)):
        return cell.run
    if cell.run is not None and are_known(steps):
        return functools.partial(_run_in_parts, cell.run)
    return functools.partial(run_steps, cell.step, cell.output)


def _run_in_parts(
    run: Run, params: Params, state: State, xs: Array, active: Array | None, *, reverse: bool, return_states: bool
) -> tuple[State, Any]:
    """A run that may add up gradients in few bits: over √T steps by itself, over these parts in float32."""

    def part(params: Params, state: State, inputs: tuple[Array, Array | None]) -> tuple[State, Any]:
        return run(params, state, *inputs, reverse=reverse, return_states=return_states)

    return run_parts(part, params, state, (xs, active), square_root(xs.shape[0]), reverse=reverse)


def output_like(cell: Cell, state: State, batch_shape: tuple[int, ...]) -> Any:
    """The shapes of the output at a state: arrays, which begin with the batch axes."""

    def output(state: State) -> Any:
        y = cell.output(state)
        check_arrays("what cell.output returns", y)
        return y

    like = jax.eval_shape(output, state)
    if not jax.tree.leaves(like):
        raise TypeError(f"cell.output must return an array (*batch, R), got {describe(like)}")
    if any(leaf.shape[: len(batch_shape)] != batch_shape for leaf in jax.tree.leaves(like)):
        raise ValueError(f"cell.output must return an array (*batch, R), batch {batch_shape}, got {describe(like)}")
    return like


def run_steps(
    step: Step,
    output: Callable[[State], Array],
    params: Params,
    state: State,
    xs: Any,
    active: Array | None,
    *,
    reverse: bool,
    return_states: bool,
) -> tuple[State, Any]:
    """A scan of the step, as `Run` describes it; xs may be any pytree."""

    def advance(params: Params, state: State, inputs: tuple[Array, Array | None]) -> tuple[State, Any]:
        x, active = inputs
        new_state = checked_step(step, params, state, x)
        emitted = new_state if return_states else output(new_state)
        return masked(active, new_state, state), masked(active, emitted)

    return scan(advance, params, state, (xs, active), reverse=reverse)


def checked_step(step: Step, params: Params, state: State, x: Array) -> State:
    """The step, whose state must be like the one it was given."""
    new_state = step(params, state, x)
    check_tree_like("the state that cell.step returns", new_state, state, "as the state it was given")
    return new_state
