"""Steps whose affine parts an algorithm needs."""

import functools
from typing import Any

import jax
from jax import Array, lax

from .._core.cell import Affine, Cell, Params, State
from .._core.numerics import affine
from ._problem import Problem, check_problem


def affine_of(name: str, problem: Problem) -> tuple[Cell, Affine]:
    """The problem's cell and its affine parts, which the algorithm of this name needs."""
    check_problem(problem)
    cell = problem.step
    if not isinstance(cell, Cell):
        raise ValueError(
            f"{name} needs the affine parts of a step: problem.step must be a jaxrnn.Cell with `affine`, as "
            f"jaxrnn.affine_cell makes, got a {type(cell).__name__}"
        )
    if cell.affine is None:
        raise ValueError(
            f"{name} needs the affine parts of a step, project, merge and gates: problem.step is a jaxrnn.Cell whose "
            "`affine` is None, as that of a stack; jaxrnn.affine_cell makes cells that have them"
        )
    return cell, cell.affine


def without_recurrence(cell: Cell) -> Any:
    """The step, for whose derivative W_hh h is free of the state: what is left is each unit's own memory."""
    return functools.partial(_step, cell)


def _step(cell: Cell, params: Params, state: State, x: Array) -> State:
    parts = cell.affine
    assert parts is not None
    jax.eval_shape(cell.step, params, state, x)  # its checks
    r = affine(lax.stop_gradient(cell.output(state)), params.weight_hh, params.bias_hh)
    return parts.gates(params, *parts.merge(parts.project(params, x), r), state)
