"""Recurrent cells with layer normalisation (Ba et al. 2016, arXiv:1607.06450).

    LN(a; g, b) = g ⊙ (a − mean a) / sqrt(var a + 1e-5) + b           over all units of a

    h′ = tanh(LN(W_ih x + W_hh h; gain, bias))                        layer_norm_rnn

    r, u = σ(LN(W_i{r,u} x; …) + LN(W_h{r,u} h; …))                   layer_norm_gru
    n  = tanh(LN(W_in x; …) + r ⊙ LN(W_hn h; …))
    h′ = n + u ⊙ (h − n)

    i, f, g, o = LN(W_ih x; …) + LN(W_hh h; …)                        layer_norm_lstm
    c′ = σ(f) ⊙ c + σ(i) ⊙ tanh(g)
    h′ = σ(o) ⊙ tanh(LN(c′; gain_c, bias_c))

As in the paper all gates that are written together are normalised together. No gate is elementwise, so these cells have
no affine record, and algorithms that need one raise their ValueError. In bfloat16 and float16 means are taken in
float32. Gains are 1 and biases 0 in the beginning, weights from U(-1/sqrt(H), 1/sqrt(H)).

Parameters: weight_ih (G*H, I), weight_hh (G*H, H), and of layer_norm_rnn gain (H,), bias (H,); of the others gain_ih,
bias_ih, gain_hh and bias_hh (G*H,); of layer_norm_lstm gain_c and bias_c (H,). State: h (*batch, H), of layer_norm_lstm
LSTMState(h, c). Output: h.

>>> import jax, jax.numpy as jnp, jaxrnn as jr
>>> params = jr.layer_norm_lstm.init(jax.random.key(0), 100, 20)
>>> params.weight_ih.shape, params.gain_ih.shape, params.gain_c.shape
((80, 100), (80,), (20,))
>>> state, ys = jr.unroll(jr.layer_norm_lstm, params, jnp.ones((5, 3, 100)))
>>> ys.shape
(5, 3, 20)
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from .._core.cell import Cell, Methods, State, named
from .._core.checks import check_array_like, describe, dtype_of
from .._core.numerics import affine, spread, widened
from .affine import check_step, check_weights, hidden_state, init_affine, same_state, state_leaf, zero_state
from .lstm import LSTMState, lstm

_EPSILON = 1e-5


class LayerNormRNNParams(NamedTuple):
    """Parameters of layer_norm_rnn."""

    weight_ih: Array  # (H, I)
    weight_hh: Array  # (H, H)
    gain: Array  # (H,)
    bias: Array  # (H,)


class LayerNormGRUParams(NamedTuple):
    """Parameters of layer_norm_gru."""

    weight_ih: Array  # (3H, I)
    weight_hh: Array  # (3H, H)
    bias_ih: Array  # (3H,)
    bias_hh: Array  # (3H,)
    gain_ih: Array  # (3H,)
    gain_hh: Array  # (3H,)


class LayerNormLSTMParams(NamedTuple):
    """Parameters of layer_norm_lstm."""

    weight_ih: Array  # (4H, I)
    weight_hh: Array  # (4H, H)
    bias_ih: Array  # (4H,)
    bias_hh: Array  # (4H,)
    gain_ih: Array  # (4H,)
    gain_hh: Array  # (4H,)
    bias_c: Array  # (H,)
    gain_c: Array  # (H,)


def _normalised(a: Array, gain: Array, bias: Array) -> Array:
    """LN(a; g, b) of a (*batch, n)."""
    wide = widened(a)
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(centred**2, axis=-1, keepdims=True)
    standard = (centred * jax.lax.rsqrt(variance + _EPSILON)).astype(a.dtype)
    return spread(gain, a.shape) * standard + spread(bias, a.shape)


def _step_rnn(params: LayerNormRNNParams, h: Array, x: Array) -> Array:
    """Next h (*batch, H) of h (*batch, H) and x (*batch, I)."""
    a = affine(x, params.weight_ih, None) + affine(h, params.weight_hh, None)
    return jnp.tanh(_normalised(a, params.gain, params.bias))


def _step_gru(params: LayerNormGRUParams, h: Array, x: Array) -> Array:
    """Next h (*batch, H) of h (*batch, H) and x (*batch, I)."""
    size = h.shape[-1]
    z, r = affine(x, params.weight_ih, None), affine(h, params.weight_hh, None)
    of_gates, of_new = slice(2 * size), slice(2 * size, None)
    z_gates, z_new = (_normalised(z[..., at], params.gain_ih[at], params.bias_ih[at]) for at in (of_gates, of_new))
    r_gates, r_new = (_normalised(r[..., at], params.gain_hh[at], params.bias_hh[at]) for at in (of_gates, of_new))
    reset, update = jnp.split(jax.nn.sigmoid(z_gates + r_gates), 2, axis=-1)
    new = jnp.tanh(z_new + reset * r_new)
    return new + update * (h - new)


def _step_lstm(params: LayerNormLSTMParams, state: LSTMState, x: Array) -> LSTMState:
    """Next h and c (*batch, H) of those and x (*batch, I)."""
    z = _normalised(affine(x, params.weight_ih, None), params.gain_ih, params.bias_ih)
    r = _normalised(affine(state.h, params.weight_hh, None), params.gain_hh, params.bias_hh)
    i, f, g, o = jnp.split(z + r, 4, axis=-1)
    c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return LSTMState(jax.nn.sigmoid(o) * jnp.tanh(_normalised(c, params.gain_c, params.bias_c)), c)


def _lstm_state(params: LayerNormLSTMParams, batch_shape: tuple[int, ...]) -> LSTMState:
    """Shapes of h and c (*batch, H)."""
    like = state_leaf(params, batch_shape, params.weight_hh.shape[1])
    return LSTMState(like, like)


@dataclasses.dataclass(frozen=True)
class _LayerNorm(Methods):
    """What tells the three cells apart; the methods are a cell's functions."""

    params: type[Any]
    blocks: int
    equations: Callable[[Any, State, Array], State]
    state: Callable[[Any, tuple[int, ...]], Any]

    def init(self, key: Array, input_size: int, hidden_size: int, *, dtype: DTypeLike = jnp.float32) -> Any:
        """Weights from U(-1/sqrt(H), 1/sqrt(H)), gains 1, biases 0."""
        weights = init_affine(key, input_size, hidden_size, blocks=self.blocks, bias=False, dtype=dtype)
        shapes = self._shapes(hidden_size)
        vectors = {name: jnp.full(shape, float(name.startswith("gain")), dtype) for name, shape in shapes.items()}
        return self.params(weight_ih=weights.weight_ih, weight_hh=weights.weight_hh, **vectors)

    def initial_state(self, params: Any, batch_shape: tuple[int, ...] = ()) -> State:
        """Zeros, batch axes first."""
        self._check(params)
        return zero_state(self.state, params, batch_shape)

    def step(self, params: Any, state: State, x: Array) -> State:
        """The next state: x (*batch, I), and a state with the same batch axes."""
        self._check(params)
        check_step(params, state, x, self.state)
        return self.equations(params, state, x)

    def _check(self, params: Any) -> None:
        if not isinstance(params, self.params):
            raise TypeError(f"params must be a jaxrnn.{self.params.__name__}, got {describe(params)}")
        check_weights(params, self.blocks)
        reason = f"for weight_ih of shape {params.weight_ih.shape}"
        for name, shape in self._shapes(params.weight_hh.shape[1]).items():
            check_array_like(name, getattr(params, name), shape, dtype_of(params.weight_ih), reason)

    def _shapes(self, hidden_size: int) -> dict[str, tuple[int]]:
        """Of gains and biases."""
        rows = {"_ih": self.blocks * hidden_size, "_hh": self.blocks * hidden_size}
        names = [name for name in self.params._fields if not name.startswith("weight")]
        return {name: (rows.get(name[-3:], hidden_size),) for name in names}


def _cell(name: str, output: Callable[[Any], Array], methods: _LayerNorm) -> Cell:
    return named(Cell(methods.init, methods.initial_state, methods.step, output), f"jaxrnn.{name}", __doc__)


layer_norm_rnn = _cell("layer_norm_rnn", same_state, _LayerNorm(LayerNormRNNParams, 1, _step_rnn, hidden_state))
layer_norm_gru = _cell("layer_norm_gru", same_state, _LayerNorm(LayerNormGRUParams, 3, _step_gru, hidden_state))
layer_norm_lstm = _cell("layer_norm_lstm", lstm.output, _LayerNorm(LayerNormLSTMParams, 4, _step_lstm, _lstm_state))
