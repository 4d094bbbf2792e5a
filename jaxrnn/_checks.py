"""Checks for the public doors: each error names the argument, what was expected and what came.

They look at types, shapes and dtypes alone, so that inside a jitted function they run once, while it is
traced. A check that needs values says so.
"""

import numbers
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import Array


def check_int(name: str, value: Any, minimum: int = 1) -> None:
    """`value` is an integer (not a bool) of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an int, got {value!r} of type {type(value).__name__}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")


def check_bool(name: str, value: Any) -> None:
    """`value` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {value!r} of type {type(value).__name__}")


def check_array(name: str, value: Any) -> None:
    """`value` is a JAX or NumPy array."""
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        raise TypeError(f"{name} must be an array, got {type(value).__name__}")


def check_floating(name: str, dtype: Any) -> None:
    """`dtype` is a real floating-point type."""
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name} must be a floating-point dtype, got {jnp.dtype(dtype).name}")


def check_array_like(name: str, value: Any, shape: tuple[int, ...], dtype: Any, reason: str) -> None:
    """`value` is an array of this shape and dtype; `reason` says where the expectation comes from."""
    check_array(name, value)
    if value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}, expected {shape} ({reason})")
    check_dtype(name, value, dtype, reason)


def check_dtype(name: str, value: Array, dtype: Any, reason: str) -> None:
    """`value` has this dtype: nothing is promoted silently."""
    got = jax.typeof(value).dtype
    if got != dtype:
        raise ValueError(f"{name} has dtype {got}, expected {jnp.dtype(dtype)} ({reason}): mixed dtypes")


def check_tree_like(name: str, tree: Any, expected: Any, reason: str) -> None:
    """`tree` has the structure, shapes and dtypes of `expected`, a pytree of arrays or ShapeDtypeStructs."""
    if jax.tree.structure(tree) != jax.tree.structure(expected):
        raise ValueError(f"{name} is {describe(tree)}, expected {describe(expected)} ({reason})")
    expected_leaves, _ = jax.tree_util.tree_flatten_with_path(expected)
    for leaf, (path, like) in zip(jax.tree.leaves(tree), expected_leaves, strict=True):
        check_array_like(name + jax.tree_util.keystr(path), leaf, like.shape, like.dtype, reason)


def describe(tree: Any) -> str:
    """The tree with `dtype[shape]` in place of its arrays, for messages."""
    return str(jax.tree.map(_describe_leaf, tree))


def _describe_leaf(leaf: Any) -> str:
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    return type(leaf).__name__


def check_names(name: str, params: Any, expected: tuple[str, ...]) -> None:
    """`params` is a dict with exactly these keys."""
    if not isinstance(params, dict):
        raise TypeError(f"{name} must be a dict of arrays, got {type(params).__name__}")
    missing, unexpected = sorted(set(expected) - set(params)), sorted(set(params) - set(expected), key=str)
    if missing:
        raise ValueError(f"{name} has no {missing}, expected the keys {list(expected)}")
    if unexpected:
        raise ValueError(f"{name} has unexpected keys {unexpected}, expected {list(expected)}")


def is_concrete(value: Any) -> bool:
    """Whether the values are known, so that checks may look at them."""
    return not isinstance(value, jax.core.Tracer)
