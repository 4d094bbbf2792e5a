"""Local influence, and errors that go back to the units by other weights: what RFLO and e-prop are made of.

Both are real-time recurrent learning of another problem. Its step is the cell's with W_hh h free of the state, so that
a parameter's influence stays with the unit that it feeds (what is kept follows from the step's structure, as SnAp's
does). Its loss has the same value, and where it is asked to, another gradient with respect to the state.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from ..._core.cell import Cell, Params, State
from ..._core.checks import check_array, check_choice, check_int
from .._affine import affine_of, without_recurrence
from .._learner import Learner, checked_init, checked_update
from .._leaves import ravel, unravel
from .._output_loss import OutputLoss
from .._problem import Problem
from .held import Held
from .influence.influence import InfluenceCarry, Kept, influence_learner

SYMMETRIC, RANDOM = "symmetric", "random"


def eligibility_learner(name: str, problem: Problem, feedback: str | ArrayLike, seed: int) -> Learner:
    """The learner of this name."""
    affine_of(name, problem)
    check_int("seed", seed, minimum=0)
    if isinstance(feedback, str):
        check_choice("feedback", feedback, (SYMMETRIC, RANDOM))
        return _learner(name, problem, feedback, seed)
    check_array("feedback", feedback)
    if jnp.ndim(feedback) != 2:
        raise ValueError(f"feedback has shape {jnp.shape(feedback)}, expected (hidden units, outputs)")
    return _learner(name, problem, Held(feedback), 0)


@functools.lru_cache
def _learner(name: str, problem: Problem, feedback: str | Held, seed: int) -> Learner:
    cell, _ = affine_of(name, problem)
    loss = problem.loss
    if feedback != SYMMETRIC:
        if not isinstance(loss, OutputLoss):
            raise ValueError(
                f"{name} sends errors at the output back by weights of its own, so it must know the output: "
                f"problem.loss must be a jaxrnn.gradients.OutputLoss(read, loss), got {type(loss).__name__}"
            )
        loss = functools.partial(_loss, loss, cell, feedback, seed)
    local = Problem(without_recurrence(cell), loss, problem.select, problem.initial_state)
    learner = influence_learner(local, Kept(sys.maxsize, None), sys.maxsize)  # all that a parameter reaches
    update = jax.named_scope(f"jaxrnn.gradients.{name}")(learner.update)
    return Learner(
        functools.partial(_init, problem, learner.init),
        functools.partial(checked_update, update, InfluenceCarry),
    )


def _init(
    problem: Problem, init: Callable[..., Any], params: Params, state: State, x: Any, key: Array | None = None
) -> InfluenceCarry:
    """That of the other problem, if the arguments fit this one."""
    checked_init(problem, lambda *_: None, params, state, x, key)
    return init(params, state, x, key)


def _loss(loss: OutputLoss, cell: Cell, feedback: str | Held, seed: int, params: Params, state: State, y: Any) -> Array:
    """The same number, whose gradient with respect to h is B error."""
    held = lax.stop_gradient(state)
    h, error = cell.output(state), ravel(jax.tree.leaves(loss.error(params, held, y)))
    signal = lax.stop_gradient(_weights(feedback, seed, h.size, error.size).astype(error.dtype) @ error)
    carried = sum(jnp.vdot(a, b) for a, b in zip(unravel(signal, [h]), [h], strict=True))
    return loss(params, held, y) + (carried - lax.stop_gradient(carried))


def _weights(feedback: str | Held, seed: int, units: int, outputs: int) -> Array:
    """B (units, outputs)."""
    if isinstance(feedback, Held):
        if feedback.value.shape != (units, outputs):
            raise ValueError(
                f"feedback has shape {feedback.value.shape}, expected {(units, outputs)}: (units, outputs)"
            )
        return feedback.value
    with jax.ensure_compile_time_eval():  # once, not at each step
        return jax.random.normal(jax.random.key(seed), (units, outputs)) / outputs**0.5
