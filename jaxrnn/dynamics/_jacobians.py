"""The Jacobians along a trajectory: stacked, as operators, their products, and the singular values of those."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._core.cell import Cell, Params, State, Step
from .._core.checks import check_int
from ..gradients._norms import nonzero
from ._system import checked_sequence, jacobian, linearised, states_before


def jacobians(step: Cell | Step, params: Params, state: State, xs: Any, *, length: int | None = None) -> Array:
    """The Jacobian of every step along a trajectory.

        J_t = ∂s_t/∂s_{t-1}        s_t = step(θ, s_{t-1}, x_t)        t = 1 … T

    Works inside `jax.jit` and `jax.vmap`, and can be differentiated.

    Args:
      step: a `jr.Cell`, or a function (params, state, x) -> state.
      params: θ.
      state: s_0, any pytree, without a batch axis; `linearise` says how it is flattened.
      xs: inputs, (T, ...) per leaf; None for a system without input.
      length: T, if xs is None.

    Returns:
      (T, n, n): ∂s_t[i]/∂s_{t-1}[j] at [t - 1, i, j].

    Raises:
      ValueError: state is not finite, T is not known or not the same everywhere, or the step changes the state's
        structure, a shape or a dtype.
      TypeError: step is no step, or params, state or xs have a leaf that is no array.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import dynamics
    >>> found = dynamics.jacobians(lambda a, h, x: a * h * (1 - h), 3.5, 0.3, None, length=2)
    >>> [round(value, 4) for value in found.ravel().tolist()]
    [1.4, -1.645]
    """
    state, inputs = checked_sequence(step, params, state, xs, length)
    return _jacobians(step, params, state, inputs)


@functools.partial(jax.jit, static_argnames="step")
def _jacobians(step: Cell | Step, params: Params, state: State, inputs: tuple[Any, Array]) -> Array:
    before = states_before(step, params, state, inputs)
    return jax.vmap(lambda state, x: jacobian(linearised(step, params, state, x)))(before, inputs[0])


class Operators(NamedTuple):
    """The Jacobians J_1 … J_T of a trajectory, none of them formed.

    Fields:
      states: s_0 … s_{T-1}, (T, ...) per leaf.
      push: v (T, n) -> J_t v_t (T, n).
      pull: v (T, n) -> J_tᵀ v_t (T, n).
    """

    states: State
    push: Callable[[Array], Array]
    pull: Callable[[Array], Array]


def jacobian_operators(
    step: Cell | Step, params: Params, state: State, xs: Any, *, length: int | None = None
) -> Operators:
    """The Jacobian of every step along a trajectory as an operator, in O(n) memory a step.

        v_t -> J_t v_t        v_t -> J_tᵀ v_t        t = 1 … T

    Args:
      step, params, state, xs, length: see `jacobians`.

    Returns:
      `Operators`: the states, `push` and `pull`.

    Raises:
      ValueError, TypeError: as `jacobians`.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import dynamics
    >>> along = dynamics.jacobian_operators(lambda w, h, x: w * h + x, jnp.array([2., 3.]), jnp.ones(2), jnp.ones(4))
    >>> along.push(jnp.ones((4, 2)))[-1].tolist()
    [2.0, 3.0]
    """
    state, inputs = checked_sequence(step, params, state, xs, length)
    before = states_before(step, params, state, inputs)
    push = jax.vmap(lambda state, x, vector: linearised(step, params, state, x).push(vector))
    pull = jax.vmap(lambda state, x, vector: linearised(step, params, state, x).pull(vector))
    return Operators(
        before, lambda vectors: push(before, inputs[0], vectors), lambda vectors: pull(before, inputs[0], vectors)
    )


def jacobian_singular_values(
    step: Cell | Step, params: Params, state: State, xs: Any, lag: int = 1, *, length: int | None = None
) -> Array:
    """The singular values of ∂s_t/∂s_{t-lag}, by which a small change of the state grows in so many steps.

        σ(J_t J_{t-1} … J_{t-lag+1})        t = lag … T

    The products are formed for all t at once, by doubling, in O(T n³ log lag). In them what is below rounding of the
    largest singular value is lost: `lyapunov_spectrum` goes on where that counts.

    Args:
      step, params, state, xs, length: see `jacobians`.
      lag: steps between the two states.

    Returns:
      (T - lag + 1, n), the largest first.

    Raises:
      ValueError: lag is above T; else as `jacobians`.
      TypeError: as `jacobians`.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import dynamics
    >>> step = lambda w, h, x: w * h + x
    >>> dynamics.jacobian_singular_values(step, jnp.array([0.5, 2.]), jnp.ones(2), jnp.ones(5), lag=3).tolist()
    [[8.0, 0.125], [8.0, 0.125], [8.0, 0.125]]
    """
    check_int("lag", lag)
    state, inputs = checked_sequence(step, params, state, xs, length)
    if lag > len(inputs[1]):
        raise ValueError(f"lag is {lag}, above the number of steps T = {len(inputs[1])}")
    return _singular_values(step, params, state, inputs, lag)


@functools.partial(jax.jit, static_argnames=("step", "lag"))
def _singular_values(step: Cell | Step, params: Params, state: State, inputs: tuple[Any, Array], lag: int) -> Array:
    return jnp.linalg.svd(_products(_jacobians(step, params, state, inputs), lag), compute_uv=False)


def _products(matrices: Array, lag: int) -> Array:
    """(T - lag + 1, n, n): each with the lag - 1 before it, the latest at the left."""
    if lag == 1:
        return matrices
    half = _products(matrices, lag // 2)
    doubled = half[lag // 2 :] @ half[: len(half) - lag // 2]
    return matrices[lag - 1 :] @ doubled[: len(matrices) - lag + 1] if lag % 2 else doubled


def condition_numbers(
    step: Cell | Step, params: Params, state: State, xs: Any, lag: int = 1, *, length: int | None = None
) -> Array:
    """How differently ∂s_t/∂s_{t-lag} stretches the directions of the state: its condition number.

        κ = σ_max / σ_min

    Args:
      step, params, state, xs, lag, length: see `jacobian_singular_values`.

    Returns:
      (T - lag + 1,), inf where σ_min is 0.

    Raises:
      ValueError, TypeError: as `jacobian_singular_values`.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import dynamics
    >>> step = lambda w, h, x: w * h + x
    >>> dynamics.condition_numbers(step, jnp.array([0.5, 2.]), jnp.ones(2), jnp.ones(3), lag=2).tolist()
    [16.0, 16.0]
    """
    values = jacobian_singular_values(step, params, state, xs, lag, length=length)
    return values[:, 0] / values[:, -1]


def jacobian_product_norms(
    step: Cell | Step, params: Params, state: State, xs: Any, *, length: int | None = None
) -> Array:
    """How far the first state reaches: the largest singular value of ∂s_t/∂s_0 for every t.

        |J_t J_{t-1} … J_1|₂        t = 1 … T

    The product is scaled on its way; what float32 cannot hold is 0 or inf in the end, and `influence_decay`, which
    works with logarithms, goes on.

    Args:
      step, params, state, xs, length: see `jacobians`.

    Returns:
      (T,).

    Raises:
      ValueError, TypeError: as `jacobians`.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import dynamics
    >>> step = lambda w, h, x: w * h + x
    >>> dynamics.jacobian_product_norms(step, jnp.array([0.25, 0.5]), jnp.ones(2), jnp.ones(3)).tolist()
    [0.5, 0.25, 0.125]
    """
    state, inputs = checked_sequence(step, params, state, xs, length)
    return jnp.exp(_log_norms(step, params, state, inputs))


@functools.partial(jax.jit, static_argnames="step")
def _log_norms(step: Cell | Step, params: Params, state: State, inputs: tuple[Any, Array]) -> Array:
    return log_product_norms(_jacobians(step, params, state, inputs))


def log_product_norms(matrices: Array) -> Array:
    """log|J_t … J_1|₂ of J (T, n, n), -inf of 0."""

    def advance(carry: tuple[Array, Array], matrix: Array) -> tuple[tuple[Array, Array], Array]:
        product, log_norm = carry
        product = matrix @ product
        norm = jnp.linalg.norm(product, 2)
        log_norm = log_norm + jnp.log(norm)
        return (product / nonzero(norm), log_norm), log_norm

    start = jnp.eye(matrices.shape[-1], dtype=matrices.dtype), jnp.zeros((), matrices.dtype)
    return lax.scan(advance, start, matrices)[1]
