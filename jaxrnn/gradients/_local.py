"""The derivatives at one time, of which every algorithm is made."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import Array

from .._core.cell import Params, State, as_step
from .._core.checks import check_tree_like
from ._leaves import split, unravel
from ._problem import Problem, checked_loss


def local_step(problem: Problem, params: Params, state: State, x: Any) -> tuple[Callable, list[Array], list[Array]]:
    """The step at one time as `(reals of select(params), reals of state) -> (reals of s′, s′)`, and those two."""
    weights, with_weights = split(problem.select(params))
    reals, with_reals = split(state)

    def function(weights: list[Array], reals: list[Array]) -> tuple[list[Array], State]:
        new_state = as_step(problem.step)(with_weights(weights), with_reals(reals), x)
        check_tree_like("the state that step returns", new_state, state, "as the state it was given")
        return split(new_state)[0], new_state

    return function, weights, reals


def real_shapes(problem: Problem, params: Params, state: State) -> tuple[list[Any], list[Any]]:
    """Shapes and dtypes of the reals of the state, and of select(params)."""
    return jax.eval_shape(lambda params, state: (split(state)[0], split(problem.select(params))[0]), params, state)


def traced_shapes(problem: Problem, reals: list[Any], weights: list[Any]) -> list[Any]:
    """Of what is traced forward in time: the reals of select(params), and of the initial state if that is learnt."""
    return [*weights, *(reals if problem.initial_state is not None else [])]


def push_of(pull: Callable[[list[Array]], Any], reals: list[Array]) -> Callable[[Any], list[Array]]:
    """The Jacobian-vector product of a step to s_t, like `reals`, whose vector-Jacobian product is `pull`.

    The one is the transpose of the other, which a step with a `custom_vjp`, such as that of a spiking cell, has too.
    """
    transposed = jax.linear_transpose(pull, reals)
    return lambda tangent: transposed(tangent)[0]


def loss_gradient(problem: Problem, params: Params, state: State, y: Any) -> tuple[Array, Params, list[Array]]:
    """The loss at one time, its direct gradient, and its gradient with respect to the reals of the state."""
    reals, with_reals = split(state)

    def loss(params: Params, reals: list[Array]) -> Array:
        return checked_loss(problem, params, with_reals(reals), y)

    value, (direct, cotangent) = jax.value_and_grad(loss, argnums=(0, 1))(params, reals)
    return value, direct, cotangent


def with_traced(
    problem: Problem, params: Params, direct: Params, recurrent: Array, reals: list[Array], weights: list[Array]
) -> Params:
    """The direct gradient, plus that of all that is traced, as one vector."""
    parts = unravel(recurrent, traced_shapes(problem, reals, weights))
    return with_recurrent(problem, params, direct, parts[: len(weights)], parts[len(weights) :])


def with_recurrent(
    problem: Problem, params: Params, direct: Params, weights: list[Array], initial: Sequence[Array] = ()
) -> Params:
    """The direct gradient, plus that of the reals of select(params), and of the initial state's if that is learnt."""

    start = problem.initial_state
    if start is None:
        _, pull = jax.vjp(lambda params: split(problem.select(params))[0], params)
        return jax.tree.map(operator.add, direct, pull(weights)[0])
    of_both = lambda params: split((problem.select(params), start(params)))[0]  # noqa: E731
    _, pull = jax.vjp(of_both, params)
    return jax.tree.map(operator.add, direct, pull([*weights, *initial])[0])
