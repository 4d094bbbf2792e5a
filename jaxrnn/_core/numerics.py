"""Affine maps, sums in enough bits, and the initialisation that all layers share."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from .checks import check_floating, dtype_of

__all__ = ["affine", "cast", "has_few_bits", "is_floating", "matmul", "narrowed", "spread", "uniform", "widened"]


def affine(x: Array, weight: Array, bias: Array | None) -> Array:
    """x @ weight.T + bias: x (*batch, I), weight (O, I), bias (O,) or None -> (*batch, O)."""
    # Contracted as the weight lies: for one vector 8 times as fast in a scan on XLA:CPU as x @ weight.T, which copies.
    y = lax.dot_general(x, weight, (((x.ndim - 1,), (1,)), ((), ())))
    return y if bias is None else y + spread(bias, y.shape)


def matmul(x: Array, weight: Array) -> Array:
    """x @ weight: x (*batch, I), weight (I, O) -> (*batch, O)."""
    return lax.dot_general(x, weight, (((x.ndim - 1,), (0,)), ((), ())))


def spread(bias: Array, shape: tuple[int, ...]) -> Array:
    """The bias (O,) in every row of `shape`; the sum over rows, which is its gradient, is one in float32 or wider."""
    return jnp.broadcast_to(widened(bias), shape).astype(bias.dtype)


def cast(tree: Any, dtype: DTypeLike) -> Any:
    """A pytree whose floating-point arrays are in another dtype; all else in it, such as integers and keys, stays.

    With it a loss computes in bfloat16 and keeps its parameters in float32, mixed precision: it begins by casting them,
    and their gradients come back in float32, as the derivative of a cast is one.

    Args:
      tree: parameters, a state, inputs, or a tuple of them.
      dtype: a floating-point type.

    Raises:
      TypeError: dtype is not a floating-point type.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> params, xs = jr.gru.init(jax.random.key(0), 3, 8), jnp.ones((5, 2, 3))
    >>> def loss(params, xs):
    ...     params, xs = jr.cast((params, xs), jnp.bfloat16)
    ...     _, ys = jr.unroll(jr.gru, params, xs)
    ...     return jnp.mean(ys.astype(jnp.float32) ** 2)
    >>> jax.grad(loss)(params, xs).weight_hh.dtype
    dtype('float32')
    """
    check_floating("dtype", dtype)
    return jax.tree.map(lambda a: a.astype(dtype) if is_floating(a) else a, tree)


def is_floating(leaf: Any) -> bool:
    """Whether it is an array of real floating-point numbers."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def has_few_bits(tree: Any) -> bool:
    """Whether there are floating-point numbers of fewer bits than float32 in it."""
    return any(is_floating(a) and a.dtype.itemsize < 4 for a in jax.tree.leaves(tree))


def widened(tree: Any) -> Any:
    """The same, in float32 what has fewer bits."""
    return jax.tree.map(lambda a: a.astype(jnp.float32) if has_few_bits(a) else a, tree)


def narrowed(wide: Any, like: Any) -> Any:
    """Leaf by leaf what was widened, in the dtypes of `like`."""
    dtypes = jax.tree.map(dtype_of, like)
    return jax.tree.map(lambda a, dtype: a if a.dtype == dtype else a.astype(dtype), wide, dtypes)


def uniform(key: Array, shape: tuple[int, ...], bound: float, dtype: DTypeLike) -> Array:
    """Samples of U(-bound, bound), the initialisation of all of torch's recurrent and linear tensors."""
    return jax.random.uniform(key, shape, dtype, -bound, bound)
