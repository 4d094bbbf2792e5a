"""Arrays on their way in and out, bit for bit, and the packages that are imported where they are used."""

import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_PACKAGES = {"haiku": "dm-haiku"}
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}  # as safetensors calls them
FLOATING = {np.dtype(dtype).name: np.dtype(dtype) for dtype in _DTYPES.values()}


class FormatError(ValueError):
    """A file, or a tree of weights, is not what it should be, or cannot be held by the format that is asked for."""


def required(name: str) -> Any:
    """The package of this name.

    Raises:
      ImportError: it is not installed; the message names the extra that brings it.
    """
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        distribution = _PACKAGES.get(package, package)
        raise ImportError(f"this needs {distribution}: pip install 'jaxrnn[{package}]'") from error


def is_array(value: Any) -> bool:
    """Whether it is one of NumPy's or JAX's."""
    return isinstance(value, np.ndarray | jax.Array)


def to_jax(name: str, array: Any) -> Array:
    """A copy in JAX, with all its bits.

    Raises:
      FormatError: JAX would take another dtype, as float32 for float64 unless `jax_enable_x64` is set.
    """
    if array.dtype not in FLOATING.values():
        raise FormatError(f"{name} has dtype {array.dtype}, expected one of {', '.join(FLOATING)}")
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise FormatError(
            f"{name} has dtype {array.dtype}, and JAX keeps float32 of it: got no jax_enable_x64, which must be set"
        )
    return jnp.array(array)


def of_bytes(name: str, tensor: dict[str, Any]) -> np.ndarray:
    """An array from what safetensors makes of one: dtype, shape and data."""
    dtype = _DTYPES.get(tensor["dtype"])
    if dtype is None:
        raise FormatError(f"{name} has dtype {tensor['dtype']}, expected one of {', '.join(_DTYPES)}")
    return np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
