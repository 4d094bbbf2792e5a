"""Long short-term memory whose gates see the cell (Gers, Schraudolph and Schmidhuber 2002, "Learning precise timing
with LSTM recurrent networks", JMLR 3), as in ONNX.

    i  = σ(W_ii x + b_ii + W_hi h + b_hi + w_ci ⊙ c)
    f  = σ(W_if x + b_if + W_hf h + b_hf + w_cf ⊙ c)
    g  = tanh(W_ig x + b_ig + W_hg h + b_hg)
    c′ = f ⊙ c + i ⊙ g
    o  = σ(W_io x + b_io + W_ho h + b_ho + w_co ⊙ c′)
    h′ = o ⊙ tanh(c′)

Parameters, gate order i, f, g, o: weight_ih (4H, I), weight_hh (4H, H), bias_ih (4H,), bias_hh (4H,); and weight_ch
(3H,), the peepholes of i, f, o. State: LSTMState(h (*batch, H), c (*batch, H)). Output: h.

>>> import jax, jax.numpy as jnp, jaxrnn as jr
>>> params = jr.lstm_peephole.init(jax.random.key(0), 100, 20)
>>> params.weight_hh.shape, params.weight_ch.shape
((80, 20), (60,))
>>> state = jr.lstm_peephole.step(params, jr.lstm_peephole.initial_state(params, (3,)), jnp.ones((3, 100)))
>>> state.h.shape, state.c.shape
((3, 20), (3, 20))
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from .._core.cell import named
from .._core.checks import check_array_like, check_key, describe, dtype_of
from .._core.numerics import spread, uniform
from .affine import affine_cell, check_affine_params, init_affine, sum_of_z_and_r
from .lstm import LSTMState, lstm_output, lstm_state

_BLOCKS, _PEEPHOLES = 4, 3


class LSTMPeepholeParams(NamedTuple):
    """Parameters of an LSTM cell with peepholes: torch's names, and weight_ch."""

    weight_ih: Array  # (4H, I)
    weight_hh: Array  # (4H, H)
    bias_ih: Array | None  # (4H,)
    bias_hh: Array | None  # (4H,)
    weight_ch: Array  # (3H,)


def _init(
    key: Array, input_size: int, hidden_size: int, *, bias: bool = True, dtype: DTypeLike = jnp.float32
) -> LSTMPeepholeParams:
    """Each tensor from U(-1/sqrt(H), 1/sqrt(H)).

    Returns weight_ih (4H, I), weight_hh (4H, H), bias_ih and bias_hh (4H,), or None for bias=False, and weight_ch
    (3H,).
    """
    check_key("key", key)
    key_affine, key_peepholes = jax.random.split(key)
    shared = init_affine(key_affine, input_size, hidden_size, blocks=_BLOCKS, bias=bias, dtype=dtype)
    bound = hidden_size**-0.5
    return LSTMPeepholeParams(*shared, uniform(key_peepholes, (_PEEPHOLES * hidden_size,), bound, dtype))


def check_peephole_params(params: LSTMPeepholeParams) -> None:
    """The four tensors fit each other, and weight_ch is (3H,)."""
    check_affine_params(params, _BLOCKS)
    if not hasattr(params, "weight_ch"):
        raise TypeError(f"params must have the field weight_ch, got {describe(params)}")
    size, reason = params.weight_hh.shape[1], f"for weight_hh of shape {params.weight_hh.shape}"
    check_array_like("weight_ch", params.weight_ch, (_PEEPHOLES * size,), dtype_of(params.weight_ih), reason)


def peephole_gates(
    of_gates: Callable[[Array], Array],
    of_new: Callable[[Array], Array],
    of_cell: Callable[[Array], Array],
    weight_ch: Array | None,
    a: Array,
    state: LSTMState,
    *,
    is_coupled: bool = False,
) -> LSTMState:
    """Next h and c from the pre-activations a (*batch, 4H), by these functions; coupled gates are f = 1 − i."""
    i, f, g, o = jnp.split(a, _BLOCKS, axis=-1)
    w_ci, w_cf, w_co = [None] * _PEEPHOLES if weight_ch is None else jnp.split(weight_ch, _PEEPHOLES)
    i = of_gates(_seeing(w_ci, state.c, i))
    f = 1 - i if is_coupled else of_gates(_seeing(w_cf, state.c, f))
    c = f * state.c + i * of_new(g)
    return LSTMState(of_gates(_seeing(w_co, c, o)) * of_cell(c), c)


def _seeing(weight: Array | None, c: Array, a: Array) -> Array:
    """a + w ⊙ c, each (*batch, H)."""
    return a if weight is None else a + spread(weight, c.shape) * c


def _gates(params: LSTMPeepholeParams, a: Array, state: LSTMState) -> LSTMState:
    """Next h and c from the pre-activations a (*batch, 4H)."""
    return peephole_gates(jax.nn.sigmoid, jnp.tanh, jnp.tanh, params.weight_ch, a, state)


_cell = affine_cell(
    _gates,
    _BLOCKS,
    merge=sum_of_z_and_r,
    init=_init,
    state=lstm_state,
    output=lstm_output,
    check=check_peephole_params,
)
lstm_peephole = named(_cell, "jaxrnn.lstm_peephole", __doc__)
