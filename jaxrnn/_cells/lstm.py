"""Long short-term memory, as in torch.nn.LSTM (Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735;
forget gate: Gers et al. 2000; projection: Sak et al. 2014, arXiv:1402.1128).

    i  = σ(W_ii x + b_ii + W_hi h + b_hi)
    f  = σ(W_if x + b_if + W_hf h + b_hf)
    g  = tanh(W_ig x + b_ig + W_hg h + b_hg)
    o  = σ(W_io x + b_io + W_ho h + b_ho)
    c′ = f ⊙ c + i ⊙ g
    h′ = o ⊙ tanh(c′)                         with a projection: h′ = W_hr (o ⊙ tanh(c′))

Parameters, gate order i, f, g, o: weight_ih (4H, I), weight_hh (4H, R), bias_ih (4H,), bias_hh (4H,), and weight_hr
(P, H) when proj_size=P is given, else None; R is P or H. State: LSTMState(h (*batch, R), c (*batch, H)). Output: h.

>>> import jax, jax.numpy as jnp, jaxrnn as jr
>>> params = jr.lstm.init(jax.random.key(0), 100, 20, proj_size=5)
>>> params.weight_hh.shape, params.weight_hr.shape
((80, 5), (5, 20))
>>> state = jr.lstm.step(params, jr.lstm.initial_state(params, (3,)), jnp.ones((3, 100)))
>>> state.h.shape, state.c.shape
((3, 5), (3, 20))
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from .._core.cell import Cell, named
from .._core.checks import check_array_like, check_int, check_key, describe, dtype_of
from .._core.numerics import affine, uniform
from .affine import check_affine_params, init_affine, kernel_cell, state_leaf, sum_of_z_and_r, with_functions

_BLOCKS = 4


class LSTMParams(NamedTuple):
    """Parameters of an LSTM cell under torch's names."""

    weight_ih: Array  # (4H, I)
    weight_hh: Array  # (4H, R)
    bias_ih: Array | None  # (4H,)
    bias_hh: Array | None  # (4H,)
    weight_hr: Array | None = None  # (R, H)


class LSTMState(NamedTuple):
    """What an LSTM carries from step to step."""

    h: Array  # (*batch, R)
    c: Array  # (*batch, H)


def check_proj_size(proj_size: int, hidden_size: int) -> None:
    """0 <= proj_size < hidden_size."""
    check_int("proj_size", proj_size, minimum=0)
    if proj_size >= hidden_size:
        raise ValueError(f"proj_size must be smaller than hidden_size={hidden_size}, got {proj_size}")


def _init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    proj_size: int = 0,
    bias: bool = True,
    dtype: DTypeLike = jnp.float32,
) -> LSTMParams:
    """Parameters under torch's names, each tensor from U(-1/sqrt(H), 1/sqrt(H)).

    Returns weight_ih (4H, I), weight_hh (4H, R), bias_ih and bias_hh (4H,), or None for bias=False, and weight_hr
    (R, H), or None for proj_size=0. R is proj_size, or H.
    """
    check_key("key", key)
    check_int("hidden_size", hidden_size)
    check_proj_size(proj_size, hidden_size)
    key_affine, key_projection = jax.random.split(key)
    shared = init_affine(
        key_affine, input_size, hidden_size, blocks=_BLOCKS, recurrent_size=proj_size, bias=bias, dtype=dtype
    )
    if not proj_size:
        return LSTMParams(*shared)
    return LSTMParams(*shared, uniform(key_projection, (proj_size, hidden_size), hidden_size**-0.5, dtype))


def _check(params: LSTMParams) -> None:
    """The four tensors fit each other, and weight_hr, if there is one, is (R, H)."""
    projection = getattr(params, "weight_hr", None)
    check_affine_params(params, _BLOCKS, None if projection is None else lambda _: _of_any_width(params))
    if projection is not None:
        rows, width = params.weight_hh.shape
        reason = f"for weight_ih of shape {params.weight_ih.shape}"
        check_array_like("weight_hr", projection, (width, rows // _BLOCKS), dtype_of(params.weight_ih), reason)


def _of_any_width(params: LSTMParams) -> tuple[int, ...]:
    """The shape of weight_hh (4H, R) as far as weight_ih says it."""
    return params.weight_ih.shape[0], *params.weight_hh.shape[1:2]


def lstm_state(params: Any, batch_shape: tuple[int, ...]) -> LSTMState:
    """Shapes of h (*batch, R) and c (*batch, H)."""
    rows, width = params.weight_hh.shape
    return LSTMState(h=state_leaf(params, batch_shape, width), c=state_leaf(params, batch_shape, rows // _BLOCKS))


def lstm_output(state: LSTMState) -> Array:
    """h (*batch, R)."""
    if not isinstance(state, LSTMState):
        raise TypeError(f"state must be a jaxrnn.LSTMState, got {describe(state)}")
    return state.h


def activated(a: Array) -> list[Array]:
    """σ of the blocks i, f and o and tanh of the block g, of a (*batch, 4H).

    As one tanh over all of them, σ(a) = ½ + ½ tanh(a/2): on XLA:CPU up to twice as fast as on slices.
    """
    scale = jnp.asarray(np.repeat([0.5, 0.5, 1.0, 0.5], a.shape[-1] // _BLOCKS), a.dtype)
    scale = jnp.broadcast_to(scale, a.shape)
    return jnp.split(jnp.tanh(a * scale) * scale + (1 - scale), _BLOCKS, axis=-1)


def gated(blocks: Sequence[Array], c: Array, activation_fn: Callable[..., Any] = jnp.tanh) -> LSTMState:
    """Next h, not projected, and c, from the blocks i, f, g, o and from c; each (*batch, H)."""
    i, f, g, o = blocks
    c = f * c + i * g
    return LSTMState(o * activation_fn(c), c)


def _gates(params: LSTMParams, a: Array, state: LSTMState) -> LSTMState:
    """Next h and c from the pre-activations a (*batch, 4H)."""
    return _projected(params, gated(activated(a), state.c))


def _gates_of(params: LSTMParams, a: Array, state: LSTMState, *, gate_fn: Any, activation_fn: Any) -> LSTMState:
    """The same with other functions."""
    i, f, g, o = jnp.split(a, _BLOCKS, axis=-1)
    blocks = gate_fn(i), gate_fn(f), activation_fn(g), gate_fn(o)
    return _projected(params, gated(blocks, state.c, activation_fn))


def _projected(params: LSTMParams, state: LSTMState) -> LSTMState:
    if params.weight_hr is None:
        return state
    return state._replace(h=affine(state.h, params.weight_hr, None))


_PARTS: dict[str, Any] = {
    "merge": sum_of_z_and_r,
    "init": _init,
    "state": lstm_state,
    "output": lstm_output,
    "check": _check,
}
lstm = named(kernel_cell("lstm", _gates, _BLOCKS, **_PARTS), "jaxrnn.lstm", __doc__)


def lstm_of(gate_fn: Callable[..., Any], activation_fn: Callable[..., Any]) -> Cell:
    """`jr.lstm` with gate_fn in place of σ and activation_fn in place of tanh."""
    return with_functions(lstm, _gates_of, _BLOCKS, gate_fn, activation_fn, lstm_of.__doc__, **_PARTS)
