"""What of a pytree is differentiated, and sequences entry by entry."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .._core.checks import describe, dtype_of
from .._core.compat import is_concrete


def at(sequence: Any, index: Array | int) -> Any:
    """One entry of a sequence, time first."""
    return jax.tree.map(lambda a: a[index], sequence)


def steps_of(*sequences: Any) -> int:
    """T, of sequences that have been checked."""
    return len(jax.tree.leaves(sequences)[0])


def concrete(tree: Any, reason: str) -> Any:
    """The tree with JAX's arrays for leaves, whose values are known; `reason` says why they must be."""
    if not all(map(is_concrete, jax.tree.leaves(tree))):
        raise TypeError(reason)
    return jax.tree.map(jnp.asarray, tree)


def is_real(leaf: Any) -> bool:
    """Whether a leaf is differentiated."""
    dtype = dtype_of(leaf)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"complex numbers are not supported, got {describe(leaf)}")
    return jnp.issubdtype(dtype, jnp.floating)


def split(tree: Any) -> tuple[list[Array], Callable[[list[Array]], Any]]:
    """The leaves that are differentiated, and the function that puts others in their place."""
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, tree))
    real = [is_real(leaf) for leaf in leaves]

    def rebuild(reals: list[Array]) -> Any:
        given = iter(reals)
        return structure.unflatten([next(given) if r else leaf for r, leaf in zip(real, leaves, strict=True)])

    return [leaf for r, leaf in zip(real, leaves, strict=True) if r], rebuild


def wide_dtype(leaves: list[Any]) -> Any:
    """float32, or float64 if a leaf is."""
    return jnp.dtype(jnp.float64 if any(leaf.dtype == jnp.float64 for leaf in leaves) else jnp.float32)


def ravel(leaves: list[Array], dtype: Any = None) -> Array:
    """All leaves as one vector of this dtype, or of their `wide_dtype`."""
    dtype = dtype or wide_dtype(leaves)
    return jnp.concatenate([jnp.zeros(0, dtype), *(leaf.reshape(-1).astype(dtype) for leaf in leaves)])


def unravel(vector: Array, like: list[Array]) -> list[Array]:
    """The inverse of `ravel`."""
    parts, start = [], 0
    for leaf in like:
        parts.append(vector[start : start + leaf.size].reshape(leaf.shape).astype(leaf.dtype))
        start += leaf.size
    return parts
