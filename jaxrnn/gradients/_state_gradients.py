"""The gradient at every state of a sequence."""

import functools
import operator
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._core.cell import Params, State, as_step
from ._algorithms.bptt import total_loss
from ._leaves import at, is_complex, is_real, split, steps_of
from ._problem import Problem, check_arguments, check_problem, checked_start


def state_gradients(problem: Problem, params: Params, state: State, xs: Any, ys: Any) -> State:
    """dL/ds_t for t = 1 … T, of all losses from t on, in one backward pass.

        dL/ds_t = dL/dε_t at ε = 0        s_t = step(select(θ), s_{t-1}, x_t) + ε_t

    Works inside `jax.jit` and `jax.vmap`; `flow` makes a report of the norms.

    Args:
      problem, params, state, xs, ys: see `bptt`.

    Returns:
      A pytree like state, (T, ...) per leaf, None in place of leaves that are integers, bools or keys.

    Raises:
      ValueError, TypeError: as `bptt`.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(lambda w, h, x: w * h + x, loss=lambda w, h, y: y * h)
    >>> at_h = gradients.state_gradients(problem, 3., 0., jnp.ones(4), jnp.array([0., 0., 0., 1.]))
    >>> at_h.tolist()                                               # L = h_4: w³, w², w, 1
    [27.0, 9.0, 3.0, 1.0]
    """
    check_problem(problem)
    check_arguments(params, state, xs, ys)
    return _state_gradients(problem, params, state, xs, ys)


@functools.partial(jax.jit, static_argnames="problem")
def _state_gradients(problem: Problem, params: Params, state: State, xs: Any, ys: Any) -> State:
    """At module level, so that an eager call traces once."""
    state = checked_start(problem, params, state, at(xs, 0))

    def step(selected: Params, state: State, inputs: tuple[Any, list[Array]]) -> State:
        x, perturbation = inputs
        reals, rebuild = split(as_step(problem.step)(selected, state, x))
        return rebuild(jax.tree.map(operator.add, reals, perturbation))

    perturbed = problem._replace(step=step, initial_state=None)
    zeros = [jnp.zeros((steps_of(xs, ys), *a.shape), a.dtype) for a in split(state)[0]]
    found = iter(jax.grad(lambda zeros: total_loss(perturbed, params, state, (xs, zeros), ys)[0])(zeros))
    return jax.tree.map(lambda a: _gradient_like(a, found), state)


def _gradient_like(leaf: Array, reals: Iterator[Array]) -> Array | None:
    """Of a complex leaf ∂L/∂re - i ∂L/∂im, as `jax.grad` has it."""
    if is_complex(leaf):
        return lax.complex(next(reals), -next(reals))
    return next(reals) if is_real(leaf) else None
