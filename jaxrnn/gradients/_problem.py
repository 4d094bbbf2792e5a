"""What every gradient algorithm is given, and its checks."""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from .._core.cell import Cell, Params, State, Step, as_step
from .._core.checks import (
    check_arrays,
    check_function,
    check_static,
    check_tree_like,
    describe,
    dtype_of,
    is_real_number,
)
from ._leaves import is_differentiated


def all_of(params: Params) -> Params:
    return params


class Problem(NamedTuple):
    """A recurrent network and its loss, to be differentiated with respect to its parameters.

        s_t = step(select(θ), s_{t-1}, x_t)        L = Σ_t loss(θ, s_t, y_t)        t = 1 … T

    It is about one sequence without a batch axis: a batch is `jax.vmap` over (state, xs, ys), then a sum or mean.
    Ragged sequences: weights inside ys, 0 past the end.

    Fields:
      step: a `jr.Cell`, or a function (params, state, x) -> state with any pytree as state.
      loss: (params, state, y) -> scalar, at one time; sees all params, so a read-out's too.
      select: params -> what step gets; with `params = {"cell": ..., "out": ...}`, `operator.itemgetter("cell")`.
        Leaves that only the loss sees get their direct gradient from every algorithm.
      initial_state: params -> s_0, if it is learnt; its gradient is part of the gradient, and every algorithm then gets
        None as state. Where a sequence goes on from one before, `problem._replace(initial_state=None)` takes its state.

    Leaves of state and xs that are integers, bools or keys are carried along and never differentiated. The functions
    are static: give the same objects again, not new lambdas, and a second call does not retrace.

    >>> import operator, jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients
    >>> read = jr.Linear(8, 2)
    >>> def loss(params, h, y):
    ...     return jnp.sum((read.apply(params["out"], h) - y) ** 2)
    >>> problem = gradients.Problem(jr.gru, loss, select=operator.itemgetter("cell"))
    >>> params = {"cell": jr.gru.init(jax.random.key(0), 3, 8), "out": read.init(jax.random.key(1))}
    >>> value, grads, state = gradients.bptt(problem, params, jnp.zeros(8), jnp.ones((5, 3)), jnp.ones((5, 2)))
    >>> value.shape, grads["out"]["weight"].shape, grads["cell"].weight_hh.shape
    ((), (2, 8), (24, 8))
    """

    step: Cell | Step
    loss: Callable[[Params, State, Any], Array]
    select: Callable[[Params], Params] = all_of
    initial_state: Callable[[Params], State] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Problem) and tuple(map(_told, self)) == tuple(map(_told, other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self[:2])


def _told(function: Any) -> Any:
    """What tells it from others: for Python two `operator.itemgetter("cell")`, a copied one too, are unequal."""
    return function.__reduce__() if isinstance(function, operator.itemgetter | operator.attrgetter) else function


_CALLS = {
    "step": ("params, state, x", "state"),
    "loss": ("params, state, y", "number"),
    "select": ("params", "what step gets"),
    "initial_state": ("params", "state"),
}


def _functions(problem: Problem) -> dict[str, Any]:
    functions = problem._asdict() | {"step": as_step(problem.step)}
    return {name: function for name, function in functions.items() if name != "initial_state" or function is not None}


def check_problem(problem: Any) -> None:
    """A `Problem` of functions that can be static arguments."""
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a jaxrnn.gradients.Problem, got {type(problem).__name__}")
    for name, function in _functions(problem).items():
        check_static(f"problem.{name}", function, *_CALLS[name])


def check_arguments(params: Params, state: State, xs: Any, ys: Any) -> int:
    """They hold arrays, xs and ys time first; T."""
    check_arrays("params", params)
    check_arrays("state", state)
    return check_sequences(xs, ys)


def starting_state(problem: Problem, params: Params, state: State) -> State:
    """s_0: the given one, or the problem's."""
    check_arrays("params", params)
    check_arrays("state", state)
    if problem.initial_state is None:
        if state is None:
            raise TypeError("state must be s_0, or problem.initial_state a function of params that gives it, got None")
        return jax.tree.map(jnp.asarray, state)
    if state is not None:
        raise ValueError(
            f"state must be None, as problem.initial_state gives it, got {describe(state)}; where a sequence goes on, "
            "problem._replace(initial_state=None) takes a state"
        )
    return jax.tree.map(jnp.asarray, problem.initial_state(params))


def check_sequences(xs: Any, ys: Any) -> int:
    """T, which all leaves of xs and ys have first."""
    check_arrays("xs", xs)
    check_arrays("ys", ys)
    leaves = [
        (name + jax.tree_util.keystr(path), jnp.shape(leaf))
        for name, tree in (("xs", xs), ("ys", ys))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
    if not leaves:
        raise ValueError("xs and ys hold no arrays, so the number of time steps is not known")
    for name, shape in leaves:
        if not shape or not shape[0]:
            raise ValueError(f"{name} has shape {shape}, expected (T, ...), time first, T >= 1")
    first, (steps, *_) = leaves[0]
    for name, shape in leaves:
        if shape[0] != steps:
            raise ValueError(f"{name} has {shape[0]} time steps, {first} has {steps}")
    return steps


def checked_start(problem: Problem, params: Params, state: State, x: Any) -> State:
    """s_0, the given one or the problem's, if it fits together with the parameters and a step for an x like this."""
    start = starting_state(problem, params, state)
    check_parts(problem, params, start, x)
    return start


def check_parts(problem: Problem, params: Params, state: State, x: Any) -> None:
    """The parameters can be differentiated, and a step, for an x like this, gives a state like the one it got."""
    check_arrays("params", params)
    check_arrays("state", state)
    check_arrays("x", x)
    for name, function in _functions(problem).items():
        check_function(f"problem.{name}", function, *_CALLS[name])
    check_differentiable(params, state)
    jax.eval_shape(functools.partial(checked_step, problem), params, state, x)


def checked_step(problem: Problem, params: Params, state: State, x: Any) -> State:
    """The state after a step, which is like the one before."""
    new_state = as_step(problem.step)(problem.select(params), state, x)
    check_tree_like("the state that step returns", new_state, state, "as the state it was given")
    return new_state


def check_differentiable(params: Params, state: State) -> None:
    """All parameters can be differentiated, and some of the state."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not is_differentiated(leaf):
            name = jax.tree_util.keystr(path)
            raise TypeError(f"params{name} has dtype {dtype_of(leaf)}: only floating-point can be differentiated")
    if not any(map(is_differentiated, jax.tree.leaves(state))):
        raise TypeError(f"state must have a floating-point leaf, got {describe(state)}")


def checked_loss(problem: Problem, params: Params, state: State, y: Any) -> Array:
    """The loss, a real scalar."""
    value = problem.loss(params, state, y)
    if not is_real_number(value):
        raise ValueError(f"loss must return one real number, got {describe(value)}")
    return jnp.asarray(value)
