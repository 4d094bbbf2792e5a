"""What JAX has but does not promise to keep, in one place; `tests/core/test_compat.py` has a test of each."""

from typing import Any

import jax
import jax.core

__all__ = ["is_concrete", "varying_axes"]


def is_concrete(value: Any) -> bool:
    """Whether the values are known, so that checks may look at them."""
    return not isinstance(value, jax.core.Tracer)


def varying_axes(value: Any) -> frozenset[str]:
    """The mesh axes along which `shard_map` gives devices different values of an array."""
    return jax.typeof(value).manual_axis_type.varying
