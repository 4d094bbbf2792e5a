"""Lengths of vectors whose entries may be tiny or huge, as those of gradients over time are."""

import jax.numpy as jnp
from jax import Array


def norm(vector: Array) -> Array:
    """Its length, where squares of its entries would overflow or underflow too."""
    largest = unit(vector)
    return largest * jnp.linalg.norm(vector / largest)


def unit(vector: Array) -> Array:
    """The largest magnitude in it, 1 if that is 0."""
    return nonzero(jnp.max(jnp.abs(vector), initial=0))


def nonzero(number: Array) -> Array:
    """The number, 1 if it is 0, to divide by."""
    return jnp.where(number == 0, 1, number)
