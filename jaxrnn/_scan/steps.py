"""One `lax.scan` of a cell's step, which every cell has; and the choice between it and the cell's own way."""

import functools
from collections.abc import Callable
from typing import Any

from jax import Array, lax

from .._core.cell import Cell, Params, Run, State, Step
from .._core.checks import check_tree_like
from .._core.time import masked


def run_of(cell: Cell) -> Run:
    """How the cell runs a whole sequence: its own way, or by stepping."""
    return cell.run or functools.partial(run_steps, cell.step, cell.output)


def run_steps(
    step: Step,
    output: Callable[[State], Array],
    params: Params,
    state: State,
    xs: Array,
    active: Array | None,
    *,
    reverse: bool,
    return_states: bool,
) -> tuple[State, Any]:
    """`lax.scan` of the step, as `Run` describes it."""

    def advance(state: State, inputs: tuple[Array, Array | None]) -> tuple[State, Any]:
        x, active = inputs
        new_state = checked_step(step, params, state, x)
        emitted = new_state if return_states else output(new_state)
        return masked(active, new_state, state), masked(active, emitted)

    return lax.scan(advance, state, (xs, active), reverse=reverse)


def checked_step(step: Step, params: Params, state: State, x: Array) -> State:
    """The step, whose state must be like the one it was given."""
    new_state = step(params, state, x)
    check_tree_like("the state that cell.step returns", new_state, state, "as the state it was given")
    return new_state
