"""An influence matrix as a random outer product for each term, a ⊗ b, right on average: UORO's, and what of other
influences has no form of its own."""

import jax
import jax.numpy as jnp
from jax import Array

from .._keys import next_key
from .._norms import norm
from .._problem import Problem


def begun(problem: Problem, numbers: Array, left: Array, right: Array) -> tuple[Array, Array, Array]:
    """The key's numbers to carry on, and a (terms, n) and b (terms, P) of no influence yet.

    After the parameters b has the numbers of an initial state that is learnt, whose influence on itself is I = E ν ⊗ ν.
    """
    if problem.initial_state is None:
        return numbers, left, right
    numbers, now = next_key(numbers)
    signs = jax.random.rademacher(now, left.shape, left.dtype)
    return numbers, signs, jnp.concatenate([right, signs], axis=1)


def advanced(pushed: Array, right: Array, signs: Array, immediate: Array) -> tuple[Array, Array]:
    """a and b of one term after a step, of D a, of b, and of ν and ν I; no step has influence on an initial state."""
    return joined(pushed, right, signs, jnp.pad(immediate, (0, right.size - immediate.size)))


def joined(pushed: Array, right: Array, signs: Array, immediate: Array) -> tuple[Array, Array]:
    """ρ0 Ds + ρ1 ν and θ/ρ0 + νI/ρ1, with the ρ that make the product's variance least; θ and I may be matrices."""
    rho0 = _ratio(right, pushed)
    rho1 = _ratio(immediate, signs)
    return rho0 * pushed + rho1 * signs, right / rho0 + immediate / rho1


def contracted(cotangent: Array, left: Array, right: Array) -> Array:
    """The mean over the terms of (λ a) b."""
    return _weighted(_weighted(cotangent, left.T), right) / len(left)


def _weighted(weights: Array, rows: Array) -> Array:
    """weights @ rows, where a weight of 0 has no part in it, also of a row that has overflowed."""
    return weights @ jnp.where(weights[:, None] == 0, 0, rows)


def _ratio(a: Array, b: Array) -> Array:
    """√(|a|/|b|), and 1 where either is 0: any positive number leaves the mean as it is."""
    lengths = norm(a), norm(b)
    usable = (lengths[0] > 0) & (lengths[1] > 0)
    return jnp.sqrt(jnp.where(usable, lengths[0], 1) / jnp.where(usable, lengths[1], 1))
