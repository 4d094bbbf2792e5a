"""A step as a dynamical system: its arguments checked, its trajectory, and the step linearised on flat vectors."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .._core.cell import Cell, Params, State, Step, as_step
from .._core.checks import check_arrays, check_function, check_int, check_static
from .._core.compat import is_concrete
from ..gradients import Problem, reals, step_derivatives
from ..gradients._leaves import is_differentiated, ravel, unravel
from ..gradients._problem import check_differentiable, check_sequences, checked_step

_CALLS = ("params, state, x", "state")


class Linearised(NamedTuple):
    """A step, linearised at a state: J = ∂s_t/∂s_{t-1} over the flattened state, never formed.

    Fields:
      state: s_t.
      push: v (n,) -> J v (n,).
      pull: v (n,) -> Jᵀ v (n,).
    """

    state: State
    push: Callable[[Array], Array]
    pull: Callable[[Array], Array]


def linearise(step: Cell | Step, params: Params, state: State, x: Any) -> Linearised:
    """The step at one state, with its Jacobian as an operator on flat vectors, forward and backward.

        s_t = step(θ, s_{t-1}, x_t)        v -> J v        v -> Jᵀ v        J = ∂s_t/∂s_{t-1}

    A flat vector has the state's real numbers, leaf by leaf in the order of the pytree, of a complex leaf the real
    parts and then the imaginary ones; integers, bools and keys have no part in it. The step needs a vjp only.

    Args:
      step: a `jr.Cell`, or a function (params, state, x) -> state.
      params: θ.
      state: s_{t-1}, any pytree, without a batch axis.
      x: the input at this time; None if there is none.

    Returns:
      `Linearised`: the next state, `push` and `pull`.

    Raises:
      ValueError: the state that the step returns is not like the one it was given.
      TypeError: step is no step, or params, state or x have a leaf that is no array.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import dynamics
    >>> local = dynamics.linearise(lambda w, h, x: w @ h + x, jnp.array([[1., 2.], [0., 3.]]), jnp.ones(2), 0.)
    >>> local.state.tolist(), local.push(jnp.array([0., 1.])).tolist(), local.pull(jnp.array([0., 1.])).tolist()
    ([3.0, 3.0], [2.0, 3.0], [0.0, 3.0])
    """
    check_system(step, params, state)
    return linearised(step, params, jax.tree.map(jnp.asarray, state), x)


def linearised(step: Cell | Step, params: Params, state: State, x: Any) -> Linearised:
    """The same of arguments that have been checked."""
    like = reals(state)
    local = step_derivatives(_of_state(step, params), (), state, x)
    return Linearised(
        local.state,
        lambda vector: ravel(local.push((), unravel(vector, like))),
        lambda vector: ravel(local.pull(unravel(vector, like))[1]),
    )


def jacobian(local: Linearised) -> Array:
    """J (n, n), column by column."""
    columns = jnp.eye(size_of(local.state), dtype=ravel(reals(local.state)).dtype)
    return jax.vmap(local.push, 1, 1)(columns)


def _of_state(step: Cell | Step, params: Params) -> Problem:
    """The step as a problem without parameters: what is differentiated is the state alone."""
    return Problem(functools.partial(_with, step, params), _no_loss)


def _with(step: Cell | Step, weights: Params, params: Params, state: State, x: Any) -> State:
    del params
    return as_step(step)(weights, state, x)


def _no_loss(params: Params, state: State, y: Any) -> Array:
    del params, state, y
    return jnp.zeros(())


def size_of(state: State) -> int:
    """n."""
    return sum(a.size for a in reals(state))


def check_system(step: Any, params: Params, state: State, name: str = "state") -> None:
    """The step is static and takes what it is called with, params and state hold arrays, the state is finite."""
    check_static("step", as_step(step), *_CALLS)
    check_function("step", as_step(step), *_CALLS)
    check_arrays("params", params)
    check_arrays(name, state)
    check_differentiable((), state)
    _check_finite(name, state)


def advanced(step: Cell | Step, params: Params, state: State, x: Any) -> State:
    """The next state, which must be like the one before."""
    return checked_step(_of_state(step, params), (), state, x)


def _check_finite(name: str, tree: Any) -> None:
    """All numbers are finite, where their values are known."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if is_concrete(leaf) and is_differentiated(leaf) and not np.all(np.isfinite(np.asarray(leaf, complex))):
            raise ValueError(f"{name}{jax.tree_util.keystr(path)} is not finite")


def checked_sequence(
    step: Any, params: Params, state: State, xs: Any, length: int | None
) -> tuple[State, tuple[Any, Array]]:
    """The state as arrays, and what a scan over time gets: the inputs, if any, with their times."""
    check_system(step, params, state)
    steps = _steps(xs, length)
    return jax.tree.map(jnp.asarray, state), (xs, jnp.arange(steps))


def _steps(xs: Any, length: int | None) -> int:
    """T, of xs or, if those hold no arrays, as it is given."""
    if length is not None:
        check_int("length", length)
    if not jax.tree.leaves(xs):
        if length is None:
            raise ValueError("length must be the number of steps T where xs holds no arrays, got None")
        return length
    steps = check_sequences(xs, ())
    if length is not None and length != steps:
        raise ValueError(f"length is {length}, but xs has {steps} time steps")
    return steps


def states_before(step: Cell | Step, params: Params, state: State, inputs: tuple[Any, Array]) -> State:
    """s_0 … s_{T-1}, (T, ...) per leaf."""

    def advance(state: State, now: tuple[Any, Array]) -> tuple[State, State]:
        return advanced(step, params, state, now[0]), state

    return lax.scan(advance, state, inputs)[1]
