"""What of a pytree is differentiated, and sequences entry by entry."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._core.checks import dtype_of
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
    """Whether it is of real floating-point numbers."""
    return jnp.issubdtype(dtype_of(leaf), jnp.floating)


def is_complex(leaf: Any) -> bool:
    """Whether it is of complex numbers."""
    return jnp.issubdtype(dtype_of(leaf), jnp.complexfloating)


def is_differentiated(leaf: Any) -> bool:
    """Whether it is of real or complex numbers."""
    return is_real(leaf) or is_complex(leaf)


def split(tree: Any) -> tuple[list[Array], Callable[[list[Array]], Any]]:
    """The reals that are differentiated, of a complex leaf its real and its imaginary part, and the function that puts
    others in their place."""
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, tree))
    parts = [_parts(leaf) for leaf in leaves]

    def rebuild(reals: list[Array]) -> Any:
        given = iter(reals)
        new = [_joined(leaf, [next(given) for _ in part]) for leaf, part in zip(leaves, parts, strict=True)]
        return structure.unflatten(new)

    return list(itertools.chain.from_iterable(parts)), rebuild


def slices(tree: Any) -> list[tuple[Any, slice]]:
    """Of each leaf that is differentiated its path, and where its reals are in a vector of all, as `split` has them."""
    leaves = [(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree) if is_differentiated(leaf)]
    ends = itertools.accumulate((leaf.size * (2 if is_complex(leaf) else 1) for _, leaf in leaves), initial=0)
    return [(path, slice(*pair)) for (path, _), pair in zip(leaves, itertools.pairwise(ends), strict=True)]


def _parts(leaf: Array) -> list[Array]:
    if is_complex(leaf):
        return [jnp.real(leaf), jnp.imag(leaf)]
    return [leaf] if is_real(leaf) else []


def _joined(leaf: Array, parts: list[Array]) -> Array:
    """The inverse of `_parts`."""
    if is_complex(leaf):
        return lax.complex(*parts)
    return parts[0] if parts else leaf


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
