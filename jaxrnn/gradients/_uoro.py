"""Unbiased online recurrent optimisation: the influence matrix as one random outer product."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from .._core.cell import Params, State
from ._norms import norm
from ._problem import Problem, local_step, loss_gradient, ravel, real_shapes, unravel, wide_dtype, with_recurrent


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
    reals, weights = real_shapes(problem, params, state)
    dtype = wide_dtype([*reals, *weights])
    left, right = (jnp.zeros((samples, sum(a.size for a in leaves)), dtype) for leaves in (reals, weights))
    return UOROCarry(state, key, left, right)


def uoro_update(problem: Problem, params: Params, carry: UOROCarry, x: Any, y: Any) -> tuple[UOROCarry, Array, Params]:
    """One step: both vectors go on, and new random signs join them."""
    key, now = jax.random.split(carry.key)
    dtype = carry.left.dtype
    signs = jax.random.rademacher(now, carry.left.shape, dtype)
    function, weights, reals = local_step(problem, params, carry.state, x)
    (_, pull, following) = jax.vjp(function, weights, reals, has_aux=True)

    def advance(left: Array, right: Array, signs: Array) -> tuple[Array, Array]:
        _, pushed = jax.jvp(lambda reals: function(weights, reals)[0], (reals,), (unravel(left, reals),))
        return _joined(ravel(pushed, dtype), right, signs, ravel(pull(unravel(signs, reals))[0], dtype))

    left, right = jax.vmap(advance)(carry.left, carry.right, signs)
    value, direct, cotangent = loss_gradient(problem, params, following, y)
    recurrent = (left @ ravel(cotangent, dtype)) @ right / len(left)
    grads = with_recurrent(problem, params, direct, unravel(recurrent, weights))
    return UOROCarry(following, key, left, right), value, grads


def _joined(pushed: Array, right: Array, signs: Array, immediate: Array) -> tuple[Array, Array]:
    """ρ0 Ds + ρ1 ν and θ/ρ0 + νI/ρ1, with the ρ that make the product's variance least."""
    rho0 = _ratio(right, pushed)
    rho1 = _ratio(immediate, signs)
    return rho0 * pushed + rho1 * signs, right / rho0 + immediate / rho1


def _ratio(a: Array, b: Array) -> Array:
    """√(|a|/|b|), and 1 where either is 0: any positive number leaves the mean as it is."""
    lengths = norm(a), norm(b)
    usable = (lengths[0] > 0) & (lengths[1] > 0)
    return jnp.sqrt(jnp.where(usable, lengths[0], 1) / jnp.where(usable, lengths[1], 1))
