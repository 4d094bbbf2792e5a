"""Clipping whose events are logged."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array


class ClippingState(NamedTuple):
    """The clipping's own state, and whether it changed the last gradient."""

    inner: Any
    clipped: Array  # (), bool


def log_clipping(clip: optax.GradientTransformation) -> optax.GradientTransformation:
    """An Optax clipping, of which `fit` logs at each step whether it changed the gradient: `clipped` in its rows.

    Args:
      clip: `optax.clip_by_global_norm`, `optax.clip`, `optax.adaptive_grad_clip`, or any transformation.

    Returns:
      A transformation with the same updates, to rounding, to be chained before the optimiser.

    Raises:
      TypeError: clip is no optax.GradientTransformation.

    >>> import jax.numpy as jnp, optax
    >>> from jaxrnn import training
    >>> def loss(w, carry, batch, key):
    ...     return 10 * jnp.sum((w - batch) ** 2), (carry, {})
    >>> optimizer = optax.chain(training.log_clipping(optax.clip_by_global_norm(1.0)), optax.sgd(0.05))
    >>> result = training.fit(loss, jnp.zeros(2), optimizer, lambda a, b: jnp.full((b - a, 2), 0.1), steps=20)
    >>> [row["clipped"] for row in result.history[:4]]
    [True, True, False, False]
    """
    if not isinstance(clip, optax.GradientTransformation):
        words = "an optax.GradientTransformation, such as optax.clip_by_global_norm(1.0)"
        raise TypeError(f"clip must be {words}, got {type(clip).__name__}")

    def init(params: Any) -> ClippingState:
        return ClippingState(clip.init(params), jnp.array(False))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ClippingState]:
        clipped, inner = clip.update(updates, state.inner, params)
        return clipped, ClippingState(inner, _any_of(jax.tree.leaves(jax.tree.map(jnp.not_equal, updates, clipped))))

    return optax.GradientTransformation(init, update)


def clipped_in(opt_state: Any) -> dict[str, Array]:
    """`clipped`, if the optimiser holds a clipping that is logged: whether any of them changed its gradient."""
    states = jax.tree.leaves(opt_state, is_leaf=_is_clipping)
    found = [state.clipped for state in states if _is_clipping(state)]
    return {"clipped": functools.reduce(jnp.logical_or, found)} if found else {}


def _is_clipping(state: Any) -> bool:
    return isinstance(state, ClippingState)


def _any_of(leaves: list[Array]) -> Array:
    return functools.reduce(jnp.logical_or, map(jnp.any, leaves), jnp.array(False))
