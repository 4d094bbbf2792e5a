"""Checks for the public doors: each error names the argument, what was expected and what came.

They look at types, shapes and dtypes alone, so that inside a jitted function they run once, while it is
traced. A check that needs values says so.
"""

import functools
import inspect
import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.export import is_symbolic_dim

_SHOWN = 80  # letters of a value in a message


def check_int(name: str, value: Any, minimum: int = 1) -> None:
    """`value` is an integer (not a bool) of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an int, got {shown(value)} of type {type(value).__name__}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")


def check_number(name: str, value: Any, is_good: Callable[[float], bool], words: str) -> None:
    """`value` is a finite number (not a bool) with this property, which the words name."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number {words}, got {shown(value)} of type {type(value).__name__}")
    if not math.isfinite(value) or not is_good(float(value)):
        raise ValueError(f"{name} must be a number {words}, got {value}")


def check_bool(name: str, value: Any) -> None:
    """`value` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {shown(value)} of type {type(value).__name__}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """`value` is one of these words."""
    if not isinstance(value, str) or value not in choices:
        *others, last = (f'"{choice}"' for choice in choices)
        raise ValueError(f"{name} must be {', '.join(others)} or {last}, got {shown(value)}")


def check_static(name: str, value: Any, arguments: str, gives: str) -> None:
    """`value` can be called, and be a static argument; as quick as a call needs it."""
    if not callable(value):
        raise TypeError(f"{name} must be a function ({arguments}) -> {gives}, got {type(value).__name__}")
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"{name} must be hashable, got {type(value).__name__}: it is a static argument") from None


def check_function(name: str, value: Any, arguments: str, gives: str) -> None:
    """`value` can be called with these arguments, as far as it says which it takes; looked at while tracing."""
    if not callable(value):
        raise TypeError(f"{name} must be a function ({arguments}) -> {gives}, got {type(value).__name__}")
    positional, _, keywords = arguments.partition(", *, ")
    try:
        signature = inspect.signature(value, follow_wrapped=False)  # what wraps may take other arguments
    except ValueError:
        return  # some of what is not written in Python does not say
    try:
        signature.bind(*positional.split(", "), **dict.fromkeys(filter(None, keywords.split(", "))))
    except TypeError as error:
        came = f"{type(value).__name__} ({', '.join(signature.parameters)})"
        raise TypeError(f"{name} must be a function ({arguments}) -> {gives}, got {came}: {error}") from None


def check_array(name: str, value: Any) -> None:
    """`value` is a JAX or NumPy array."""
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        raise TypeError(f"{name} must be an array, got {type(value).__name__}")
    if not isinstance(value, jax.Array) and not _is_number(value.dtype):
        raise TypeError(f"{name} must be an array of numbers, got {describe(value)}")


def check_arrays(name: str, tree: Any) -> None:
    """Every leaf of the tree is an array or a number, as JAX takes them."""
    if all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(tree)):
        return  # as nearly always, and without the paths
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not _is_valid(leaf):
            raise TypeError(f"{name}{jax.tree_util.keystr(path)} must be an array, got {describe(leaf)}")


def check_shapes(name: str, tree: Any) -> None:
    """Every leaf of the tree is an array, or the shape of one."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        is_shape = isinstance(leaf, jax.ShapeDtypeStruct)
        if not is_shape and not (hasattr(leaf, "shape") and _is_valid(leaf)):
            raise TypeError(f"{name}{jax.tree_util.keystr(path)} must be an array or its shape, got {describe(leaf)}")


def _is_valid(leaf: Any) -> bool:
    try:
        jax.typeof(leaf)
    except (TypeError, OverflowError):
        return False
    return not isinstance(leaf, jax.ShapeDtypeStruct)


def _is_number(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.number) or dtype == np.bool_


def check_key(name: str, value: Any) -> None:
    """`value` is one random key: a typed one, or the uint32 numbers that `jax.random.PRNGKey` gives."""
    expected = f"{name} must be a random key, as from jax.random.key(0)"
    if not isinstance(value, jax.Array | np.ndarray):
        raise TypeError(f"{expected}, got {shown(value)} of type {type(value).__name__}")
    is_typed = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    if not is_typed and value.dtype != jnp.uint32:
        raise TypeError(f"{expected}, got {describe(value)}")
    shape = () if is_typed else _raw_key_shape(jax.config.jax_default_prng_impl)  # pyright: ignore[reportAttributeAccessIssue]
    if value.shape != shape:
        is_batch = value.shape[value.ndim - len(shape) :] == shape
        hint = ": jax.vmap takes a batch of them" if is_batch else f", expected the shape {shape}"
        raise ValueError(f"{expected}, got {describe(value)}{hint}")


def check_optional_key(name: str, value: Any) -> None:
    """`value` is one random key, or None."""
    if value is not None:
        check_key(name, value)


@functools.cache
def _raw_key_shape(implementation: str) -> tuple[int, ...]:
    """Of the keys that `jax.random.PRNGKey` gives under this setting of `jax_default_prng_impl`."""
    return jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=implementation))).shape


def check_floating(name: str, dtype: Any) -> None:
    """`dtype` is a real floating-point type."""
    try:
        found = None if isinstance(dtype, jax.ShapeDtypeStruct | Array | np.ndarray | np.generic) else jnp.dtype(dtype)
    except (TypeError, ValueError):
        found = None
    if found is None:
        raise TypeError(f"{name} must be a floating-point dtype, got {shown(dtype)}")
    if not jnp.issubdtype(found, jnp.floating):
        raise TypeError(f"{name} must be floating-point, got {found.name}")


def is_real_number(value: Any) -> bool:
    """Whether it is one floating-point number, such as a loss."""
    is_leaf = jax.tree_util.all_leaves([value]) and _is_valid(value)
    return is_leaf and jnp.shape(value) == () and jnp.issubdtype(dtype_of(value), jnp.floating)


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


def shown(value: Any) -> str:
    """The value in a few words on one line, for messages."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _describe_leaf(value)
    words = " ".join(repr(value).split())
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}..."


def _describe_leaf(leaf: Any) -> str:
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    return type(leaf).__name__


def check_shape(name: str, value: Any) -> None:
    """A tuple or list of sizes, symbols of `jax.export` among them."""
    if not isinstance(value, tuple | list):
        raise TypeError(f"{name} must be a tuple of ints, got {shown(value)}")
    for size in value:
        if not is_symbolic_dim(size):
            check_int(f"a size in {name}", size, minimum=0)


def check_dict(params: Any) -> None:
    """Parameters of a network or layer, by name."""
    if not isinstance(params, dict):
        raise TypeError(f"params must be a dict of arrays, got {type(params).__name__}")


def check_params(params: Any, shapes: dict[str, tuple[int, ...]], owner: Any) -> Any:
    """A dict with exactly these names and shapes, all of one floating-point dtype, which is returned."""
    check_dict(params)
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
