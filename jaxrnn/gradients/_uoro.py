"""Unbiased online recurrent optimisation: the influence matrix as one random outer product."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from .._cell import Params, State
from ._problem import Problem, local_step, loss_gradient, ravel, split, unravel, with_recurrent


class UOROCarry(NamedTuple):
    """The state, and for each sample two vectors whose outer product has the influence matrix as its mean."""

    state: State
    key: Array
    left: Array  # (samples, n)
    right: Array  # (samples, P)


def uoro_init(
    problem: Problem, samples: int, params: Params, state: State, x: Any, key: Array | None = None
) -> UOROCarry:
    """No influence yet."""
    del x
    if key is None:
        raise ValueError("uoro draws random signs: it needs a key, as from jax.random.key(0)")
    zeros = [jnp.zeros((samples, a.size), a.dtype) for a in map(ravel, _reals(problem, params, state))]
    return UOROCarry(state, key, *zeros)


def _reals(problem: Problem, params: Params, state: State) -> tuple[list[Array], list[Array]]:
    return split(state)[0], split(problem.select(params))[0]


def uoro_update(problem: Problem, params: Params, carry: UOROCarry, x: Any, y: Any) -> tuple[UOROCarry, Array, Params]:
    """One step: both vectors go on, and new random signs join them."""
    key, now = jax.random.split(carry.key)
    signs = jax.random.rademacher(now, carry.left.shape, carry.left.dtype)
    function, weights, reals = local_step(problem, params, carry.state, x)
    (_, pull, following) = jax.vjp(function, weights, reals, has_aux=True)

    def advance(left: Array, right: Array, signs: Array) -> tuple[Array, Array]:
        _, pushed = jax.jvp(lambda reals: function(weights, reals)[0], (reals,), (unravel(left, reals),))
        return _joined(ravel(pushed), right, signs, ravel(pull(unravel(signs, reals))[0]))

    left, right = jax.vmap(advance)(carry.left, carry.right, signs)
    value, direct, cotangent = loss_gradient(problem, params, following, y)
    recurrent = (left @ ravel(cotangent)) @ right / len(left)
    grads = with_recurrent(problem, params, direct, unravel(recurrent, weights))
    return UOROCarry(following, key, left, right), value, grads


def _joined(pushed: Array, right: Array, signs: Array, immediate: Array) -> tuple[Array, Array]:
    """ρ0 Ds + ρ1 ν and θ/ρ0 + νI/ρ1, with the ρ that make the product's variance least."""
    rho0 = _ratio(right, pushed)
    rho1 = _ratio(immediate, signs)
    return rho0 * pushed + rho1 * signs, right / rho0 + immediate / rho1


def _ratio(a: Array, b: Array) -> Array:
    """√(|a|/|b|), and 1 where either is 0: any positive number leaves the mean as it is."""
    squares = jnp.sum(a**2), jnp.sum(b**2)
    usable = (squares[0] > 0) & (squares[1] > 0)
    quotient = jnp.where(usable, squares[0], 1) / jnp.where(usable, squares[1], 1)
    return jnp.sqrt(jnp.sqrt(quotient))
