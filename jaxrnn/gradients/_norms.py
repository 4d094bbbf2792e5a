"""Lengths of vectors whose entries may be tiny or huge, as those of gradients over time are."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

_NOTHING = -(2**24)  # the exponent of 0, below that of anything else


def norm(vector: Array) -> Array:
    """Its length, where squares of its entries would overflow or underflow too; at 0 its derivative is 0."""
    largest = lax.stop_gradient(unit(vector))
    largest = jnp.where(jnp.isfinite(largest), largest, 1)
    squares = jnp.sum((vector / largest) ** 2)
    return largest * jnp.where(squares == 0, 0, jnp.sqrt(nonzero(squares)))


def unit(vector: Array) -> Array:
    """The largest magnitude in it, 1 if that is 0."""
    return nonzero(jnp.max(jnp.abs(vector), initial=0))


def nonzero(number: Array) -> Array:
    """The number, 1 if it is 0, to divide by."""
    return jnp.where(number == 0, 1, number)


class Scaled(NamedTuple):
    """vector · 2^exponent, which neither overflows nor underflows over time."""

    vector: Array  # (n,), the largest magnitude in it in [1/2, 1)
    exponent: Array

    def plus(self, other: "Scaled") -> "Scaled":
        """The sum."""
        top = jnp.maximum(self.exponent, other.exponent)
        parts = (jnp.ldexp(a.vector, jnp.maximum(a.exponent - top, _NOTHING)) for a in (self, other))
        return scaled(sum(parts, jnp.zeros_like(self.vector)), top)


def scaled(vector: Array, exponent: Array | int = 0) -> Scaled:
    """vector · 2^exponent; what is not finite stays as it is."""
    largest = jnp.max(jnp.abs(vector), initial=0)
    is_usual = jnp.isfinite(largest) & (largest > 0)
    shift = jnp.where(is_usual, jnp.frexp(largest)[1], 0)
    return Scaled(jnp.ldexp(vector, -shift), jnp.where(largest == 0, _NOTHING, exponent + shift).astype(jnp.int32))
