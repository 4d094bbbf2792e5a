"""Regularisers of what a network puts out."""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from .._core.checks import check_array, check_floating, dtype_of
from .._core.numerics import widened
from .._core.time import is_active
from .._scan.unroll import check_lengths


def activation_regulariser(ys: Array, lengths: ArrayLike | None = None) -> Array:
    """AR: the mean square of the outputs, to be added to a loss with a factor.

        AR = mean y_t²

    The paper takes it of what is left of the outputs after dropout.

    Args:
      ys: (T, *batch, R), as from `jr.unroll`.
      lengths: (*batch) integers in [0, T], as in `jr.unroll`: what is past a sequence's end does not count.

    Returns:
      A scalar, in float32 or wider; 0 if nothing counts.

    Raises:
      ValueError: ys have no axis of time and one of features, or lengths another shape than the batch.
      TypeError: ys are no array of floating-point numbers, or lengths no integers.

    Source: Merity et al. 2017, arXiv:1708.01009.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import remedies
    >>> float(remedies.activation_regulariser(jnp.array([[1., 3.], [0., 0.]]), lengths=1))      # T=2, R=2
    5.0
    """
    active = _active(ys, lengths)
    return _mean_square(ys, active)


def temporal_activation_regulariser(ys: Array, lengths: ArrayLike | None = None) -> Array:
    """TAR: the mean square of the outputs' changes, to be added to a loss with a factor.

        TAR = mean (y_{t+1} − y_t)²

    Args:
      ys, lengths: see `activation_regulariser`; changes within a sequence alone count.

    Returns:
      A scalar, in float32 or wider; 0 if there are no changes, as of one step.

    Raises:
      ValueError, TypeError: as `activation_regulariser`.

    Source: Merity et al. 2017, arXiv:1708.01009.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import remedies
    >>> float(remedies.temporal_activation_regulariser(jnp.array([[1.], [3.], [3.]])))           # T=3, R=1
    2.0
    """
    active = _active(ys, lengths)
    wide = widened(ys)
    return _mean_square(wide[1:] - wide[:-1], None if active is None else active[1:])


def _active(ys: Array, lengths: ArrayLike | None) -> Array | None:
    check_array("ys", ys)
    check_floating("ys", dtype_of(ys))
    if ys.ndim < 2:
        raise ValueError(f"ys has shape {ys.shape}, expected (T, *batch, R)")
    return None if lengths is None else is_active(check_lengths(lengths, ys.shape[0], ys.shape[1:-1]), ys.shape[0])


def _mean_square(a: Array, active: Array | None) -> Array:
    wide = widened(jnp.asarray(a))
    if active is None:
        return jnp.sum(wide**2) / max(1, wide.size)
    mask = jnp.broadcast_to(lax.expand_dims(active, [active.ndim]), wide.shape)
    count = jnp.maximum(1, jnp.sum(mask)).astype(wide.dtype)
    return jnp.sum(jnp.where(mask, wide, 0) ** 2) / count
