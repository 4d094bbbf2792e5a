"""Convolutional LSTM (Shi et al. 2015, arXiv:1506.04214), without peepholes.

    i  = σ(W_ii ∗ x + b_ii + W_hi ∗ h + b_hi)
    f  = σ(W_if ∗ x + b_if + W_hf ∗ h + b_hf)
    g  = tanh(W_ig ∗ x + b_ig + W_hg ∗ h + b_hg)
    o  = σ(W_io ∗ x + b_io + W_ho ∗ h + b_ho)
    c′ = f ⊙ c + i ⊙ g
    h′ = o ⊙ tanh(c′)

∗ is the convolution of machine learning, over places that stay as many, with zeros beyond the edges. x is an image
(*batch, height, width, I). Parameters, gate order i, f, g, o, laid out as torch.nn.Conv2d's: weight_ih
(4H, I, *kernel_size), weight_hh (4H, H, *kernel_size), bias_ih (4H,), bias_hh (4H,). State:
LSTMState(h (*batch, height, width, H), c as h). Output: h. With another `input_ndim` and as many sizes in kernel_size
it runs over signals or volumes.

>>> import jax, jax.numpy as jnp, jaxrnn as jr
>>> params = jr.conv_lstm.init(jax.random.key(0), 3, 8, kernel_size=(5, 5))
>>> params.weight_ih.shape, params.weight_hh.shape
((32, 3, 5, 5), (32, 8, 5, 5))
>>> xs = jnp.ones((6, 2, 16, 12, 3))                                                    # T=6, batch 2
>>> state, ys = jr.unroll(jr.conv_lstm, params, xs, lengths=jnp.array([6, 4]))
>>> state.c.shape, ys.shape
((2, 16, 12, 8), (6, 2, 16, 12, 8))
>>> signals = jr.conv_lstm._replace(input_ndim=2)
>>> params = signals.init(jax.random.key(0), 3, 8, kernel_size=(5,))
>>> jr.unroll(signals, params, jnp.ones((6, 2, 16, 3)))[1].shape
(6, 2, 16, 8)
"""

import math
import operator
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from .._core.cell import Cell, named, with_options
from .._core.checks import check_bool, check_floating, check_int, check_key, check_shape, shown
from .._core.numerics import spread, uniform
from .affine import AffineParams, check_affine_params, check_step, state_leaf, zero_state
from .lstm import LSTMState, activated, gated, lstm_output

# pairs of (low, high): how many places to add; "SAME" adds zeros, "CIRCULAR" what comes around, "REFLECT" the mirror's
Padding: TypeAlias = Literal["SAME", "CIRCULAR", "REFLECT", "CAUSAL"] | tuple[tuple[int, int], ...]

_BLOCKS = 4
_MODES = {"CIRCULAR": "wrap", "REFLECT": "reflect"}


def _init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    kernel_size: Sequence[int] = (3, 3),
    bias: bool = True,
    dtype: DTypeLike = jnp.float32,
) -> AffineParams:
    """Parameters laid out as torch.nn.Conv2d's, each tensor from U(-b, b), b = 1/sqrt(H * places of the kernel).

    Returns weight_ih (4H, I, *kernel_size), weight_hh (4H, H, *kernel_size), bias_ih and bias_hh (4H,), or None for
    bias=False.
    """
    check_key("key", key)
    check_int("input_size", input_size)
    check_int("hidden_size", hidden_size)
    check_kernel_size(kernel_size)
    check_bool("bias", bias)
    check_floating("dtype", dtype)
    rows, bound = _BLOCKS * hidden_size, (hidden_size * math.prod(kernel_size)) ** -0.5
    key_ih, key_hh, key_bias_ih, key_bias_hh = jax.random.split(key, 4)
    return AffineParams(
        weight_ih=uniform(key_ih, (rows, input_size, *kernel_size), bound, dtype),
        weight_hh=uniform(key_hh, (rows, hidden_size, *kernel_size), bound, dtype),
        bias_ih=uniform(key_bias_ih, (rows,), bound, dtype) if bias else None,
        bias_hh=uniform(key_bias_hh, (rows,), bound, dtype) if bias else None,
    )


def check_kernel_size(kernel_size: Any) -> None:
    """Sizes of a kernel, one for each axis of places."""
    check_shape("kernel_size", kernel_size)
    for size in kernel_size:
        check_int("a size in kernel_size", size)


def _initial_state(params: AffineParams, batch_shape: tuple[int, ...] = ()) -> LSTMState:
    """The state before the first step: zeros; the batch's shape ends with the places, as (*batch, height, width)."""
    _check(params)
    return zero_state(_state, params, batch_shape)


def _step(params: AffineParams, state: LSTMState, x: Array) -> LSTMState:
    """The next state: x (*batch, height, width, I), and a state with the same axes but the last."""
    return _padded_step(params, state, x, padding="SAME")


def _padded_step(params: AffineParams, state: LSTMState, x: Array, *, padding: Padding) -> LSTMState:
    _check(params)
    check_step(params, state, x, _state)
    a = _convolved(x, params.weight_ih, params.bias_ih, padding)
    a += _convolved(state.h, params.weight_hh, params.bias_hh, padding)
    return gated(activated(a), state.c)


conv_lstm = named(Cell(_init, _initial_state, _step, lstm_output, input_ndim=3), "jaxrnn.conv_lstm", __doc__)


def conv_lstm_of(kernel_size: Sequence[int], padding: Any) -> Cell:
    """`jr.conv_lstm` for kernels of these sizes, and with another padding."""
    check_kernel_size(kernel_size)
    padding = _checked(padding, tuple(kernel_size))
    step = _step if padding == "SAME" else with_options(_padded_step, padding=padding)
    cell = conv_lstm._replace(step=step, input_ndim=len(kernel_size) + 1)
    if cell == conv_lstm:
        return conv_lstm
    return named(cell, f"jaxrnn.conv_lstm, {len(kernel_size)} axes of places, padding={padding}", conv_lstm_of.__doc__)


def _checked(padding: Any, kernel_size: tuple[int, ...]) -> Padding:
    """A word, or pairs of how many zeros before and after each axis: as many as keep the number of places."""
    expected = f"padding must be SAME, CIRCULAR, REFLECT, CAUSAL, or a pair (low, high) for each of {kernel_size}"
    if isinstance(padding, str):
        if padding not in ("SAME", "CAUSAL", *_MODES) or (padding == "CAUSAL" and len(kernel_size) != 1):
            raise ValueError(f"{expected}; CAUSAL is for one size, VALID would drop places: got {padding!r}")
        return padding  # pyright: ignore[reportReturnType]
    try:
        pairs = tuple((operator.index(low), operator.index(high)) for low, high in padding)
    except (TypeError, ValueError):
        raise TypeError(f"{expected}, got {shown(padding)}") from None
    if [low + high for low, high in pairs] != [size - 1 for size in kernel_size] or min(map(min, pairs), default=0) < 0:
        raise ValueError(f"{expected}, low + high = size - 1 so that no place is dropped, got {pairs}")
    return pairs


def _convolved(x: Array, weight: Array, bias: Array | None, padding: Padding) -> Array:
    """weight ∗ x + bias: x (*batch, *places, I), weight (O, I, *kernel) -> (*batch, *places, O)."""
    ndim = weight.ndim - 2
    batch, places = x.shape[: x.ndim - ndim - 1], x.shape[x.ndim - ndim - 1 : -1]
    images = x.reshape(math.prod(batch), *places, x.shape[-1])
    pairs = _pairs(padding, weight.shape[2:])
    if padding in _MODES:
        images = jnp.pad(images, [(0, 0), *pairs, (0, 0)], mode=_MODES[padding])
        pairs = [(0, 0)] * ndim
    last = (0, ndim + 1, *range(1, ndim + 1))  # batch, channels, places
    numbers = lax.ConvDimensionNumbers(lhs_spec=last, rhs_spec=tuple(range(ndim + 2)), out_spec=last)
    y = lax.conv_general_dilated(images, weight, (1,) * ndim, pairs, dimension_numbers=numbers)
    y = y.reshape(*batch, *places, weight.shape[0])
    return y if bias is None else y + spread(bias, y.shape)


def _pairs(padding: Padding, kernel_size: tuple[int, ...]) -> Sequence[tuple[int, int]]:
    if padding == "CAUSAL":
        return [(size - 1, 0) for size in kernel_size]
    return [((size - 1) // 2, size // 2) for size in kernel_size] if isinstance(padding, str) else padding


def _state(params: AffineParams, leading: tuple[int, ...]) -> LSTMState:
    leaf = state_leaf(params, leading, params.weight_hh.shape[1])
    return LSTMState(h=leaf, c=leaf)


def _check(params: Any) -> None:
    check_affine_params(params, _BLOCKS, is_convolution=True)
