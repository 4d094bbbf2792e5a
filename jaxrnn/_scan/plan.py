"""Which way a sequence is run: shapes, dtypes and the platform in, a plan out. No other module chooses a path.

The figures behind each number are in experiments/speed/README.md, under "The plan".
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from .._core.checks import dtype_of
from .._core.compat import is_spread
from .._core.numerics import has_few_bits
from .._core.time import are_known, nearest_divisor
from .native import library

__all__ = ["AffineChunks", "Sizes", "affine", "both_directions_at_once", "native", "platform", "stores_wide"]

_TINY = 2**16  # bytes of pre-activations of the whole sequence
_CACHE = 2**20  # bytes of pre-activations that a CPU's caches hold
_MEMORY = 2**26  # the same where no platform has been measured: it bounds memory
_PROJECTED = 2**23  # bytes of pre-activations that are made at once where none of them is kept
_ROWS = 512  # fewer make a product slow
_REPACKED = 2**9  # weights that a kernel packs, and sums the gradients of, in the time that it gains at one step
_ENOUGH = 2**9  # steps of all sequences that gain that time whatever the weights
_GATES = 4  # times as much as a step gains where there are gates, over one of a cell without
_FEW = 2**12  # weights that are packed at once
_SHORT = 4  # steps of all sequences for which a kernel packs no weights, kShort in its binding
_READ = 2**21  # bytes of weights that are then read in a cache, for each sequence
_UNITS = 256  # hidden units of all sequences below which a step's time is its kernels' overhead


class AffineChunks(NamedTuple):
    """How many time steps are projected at once, and their dW formed at once."""

    derivative: int
    forward: int  # where nothing is differentiated


def platform() -> str:
    """The platform that a sequence is planned for: that of `jax.default_device`, or else the default backend's.

    While a function is traced, JAX has not settled where it will run. So a plan made under `jax.export` for another
    platform, `jax.jit(..., device=...)`, or for arguments that lie on a device that is not the default one, is that of
    the default: the numbers are the same, it may be slower, and takes memory for longer chunks or less for shorter
    ones. `with jax.default_device(device):` around the first call, or the export, plans for that device.
    """
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform


def affine(
    steps: int, batch: int, pre_activations: Any, *, arrays: Any, is_closed: bool, platform: str
) -> AffineChunks | None:
    """The chunks of time in which a cell with an affine structure is run; None steps it.

    Args:
      steps, batch: T, and how many sequences; if one is a symbol, the whole sequence is one chunk.
      pre_activations: shape (G*H,) and dtype of z at one time.
      arrays: parameters, state and inputs; the fast scan's derivative is of floating-point numbers.
      is_closed: whether the step sees no value that an outer transformation traces: a custom derivative cannot.
      platform: as from `platform`.
    """
    if not is_closed or not all(jnp.issubdtype(a.dtype, jnp.inexact) for a in jax.tree.leaves(arrays)):
        return None
    row = pre_activations.shape[-1] * pre_activations.dtype.itemsize
    size = steps * batch * row
    if not are_known(steps, batch):
        return AffineChunks(derivative=steps, forward=steps)
    if size <= _TINY:
        return AffineChunks(derivative=steps, forward=1)
    rows = max(_ROWS, (_CACHE if platform == "cpu" else _MEMORY) // row)
    length = nearest_divisor(steps, max(1, min(rows // max(1, batch), steps // 4)))
    return AffineChunks(derivative=length, forward=steps if size <= _PROJECTED else length)


class Sizes(NamedTuple):
    """Of a sequence."""

    steps: int  # T
    batch: int  # B
    inputs: int  # I
    rows: int  # G*H
    outputs: int  # R


def native(sizes: Sizes, dtype: Any, arrays: Any, *, platform: str) -> Literal["whole", "short"] | None:
    """How a cell that has a compiled kernel is run in it in place of scans, if it is: on one CPU, where that is faster.

    "whole", with its gradient, or "short", a few steps whose value alone is faster there.

    Args:
      sizes: known ones; an export may have symbols for them.
      dtype: of all arrays.
      arrays: parameters, state and inputs.
      platform: as from `platform`.
    """
    if platform != "cpu" or dtype not in (jnp.float32, jnp.float64) or not library.is_ready():
        return None
    if not are_known(*sizes) or 0 in sizes or is_spread(jax.tree.leaves(arrays), platform):
        return None
    weights, steps = sizes.rows * (sizes.inputs + sizes.outputs), sizes.steps * sizes.batch
    least = min(_ENOUGH, weights // _REPACKED) * (_GATES if sizes.rows == sizes.outputs else 1)
    if (sizes.steps >= 4 or weights <= _FEW) and steps >= least:
        return "whole"
    return "short" if steps <= _SHORT and weights * dtype.itemsize <= _READ * sizes.batch else None


def both_directions_at_once(units: int, *, is_ragged: bool, platform: str) -> bool:
    """Whether both directions of a layer are run in one scan: while a step's time is its kernels' overhead, on a CPU.

    `units` are those of h, of all sequences.
    """
    return not is_ragged and platform == "cpu" and are_known(units) and units <= _UNITS


def stores_wide(arrays: Any, *, platform: str) -> bool:
    """Whether a loop over time that reads and writes such arrays keeps them in float32, see `jaxrnn._scan.loops`.

    XLA:CPU computes in float16, but for bfloat16 and less it converts.
    """
    return platform == "cpu" and has_few_bits([a for a in jax.tree.leaves(arrays) if dtype_of(a) != jnp.float16])
