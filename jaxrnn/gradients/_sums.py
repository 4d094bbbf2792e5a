"""Sums over time, in float32 or wider: in fewer bits they stop growing."""

from typing import Any

import jax
import jax.numpy as jnp

from .._core.numerics import widened


def zero_sums(tree: Any) -> Any:
    """Zeros to add leaves like these to."""
    return jax.tree.map(lambda a: jnp.zeros_like(widened(jnp.asarray(a))), tree)


def add_up(sums: Any, more: Any) -> Any:
    """The sums, with more added."""
    return jax.tree.map(lambda total, a: total + a.astype(total.dtype), sums, more)
