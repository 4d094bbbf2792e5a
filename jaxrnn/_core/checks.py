"""Checks for the public doors: each error names the argument, what was expected and what came.

They look at types, shapes and dtypes alone, so that inside a jitted function they run once, while it is
traced. A check that needs values says so.
"""

import numbers
from typing import Any

import jax
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
        raise TypeError(f"{name} must be floating-point, got {jnp.dtype(dtype).name}")


def check_array_like(name: str, value: Any, shape: tuple[int, ...], dtype: Any, reason: str) -> None:
    """`value` is an array of this shape and dtype; `reason` says where the expectation comes from."""
    check_array(name, value)
    if value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}, expected {shape} ({reason})")
    check_dtype(name, value, dtype, reason)


def check_dtype(name: str, value: Array, dtype: Any, reason: str) -> None:
    """`value` has this dtype: nothing is promoted silently."""
    if dtype_of(value) != dtype:
        raise ValueError(f"{name} has dtype {dtype_of(value)}, expected {dtype} ({reason}): mixed dtypes")


def dtype_of(array: Any) -> Any:
    """The dtype as JAX sees it: NumPy's float64 is float32 unless x64 is enabled."""
    return jax.typeof(array).dtype


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


def check_batch_shape(batch_shape: Any) -> None:
    """A tuple or list of sizes."""
    if not isinstance(batch_shape, tuple | list):
        raise TypeError(f"batch_shape must be a tuple of ints, got {batch_shape!r}")
    for size in batch_shape:
        check_int("a size in batch_shape", size, minimum=0)


def check_params(params: Any, shapes: dict[str, tuple[int, ...]], owner: Any) -> Any:
    """A dict with exactly these names and shapes, all of one floating-point dtype, which is returned."""
    if not isinstance(params, dict):
        raise TypeError(f"params must be a dict of arrays, got {type(params).__name__}")
    missing, unexpected = sorted(set(shapes) - set(params)), sorted(set(params) - set(shapes), key=str)
    if missing:
        raise ValueError(f"params has no {missing}, expected the keys {list(shapes)} of {owner}")
    if unexpected:
        raise ValueError(f"params has unexpected keys {unexpected}, expected {list(shapes)} of {owner}")
    first = next(iter(shapes))
    check_array(first, params[first])
    check_floating(first, dtype_of(params[first]))
    for name, shape in shapes.items():
        check_array_like(name, params[name], shape, dtype_of(params[first]), f"in {owner}")
    return dtype_of(params[first])
