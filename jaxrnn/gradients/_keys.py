"""Random keys that a learner carries, as numbers, which whatever writes arrays to a file takes."""

import jax
import jax.numpy as jnp
from jax import Array

_IMPLEMENTATION = "threefry2x32"


def as_numbers(key: Array) -> Array:
    """(2,), drawn from a key of any kind."""
    return jax.random.bits(key, (2,), jnp.uint32)


def next_key(numbers: Array) -> tuple[Array, Array]:
    """The numbers to carry on, and a key for now."""
    carried, now = jax.random.split(jax.random.wrap_key_data(numbers, impl=_IMPLEMENTATION))
    return jax.random.key_data(carried), now
