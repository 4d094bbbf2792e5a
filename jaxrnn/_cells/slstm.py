"""Scalar long short-term memory with an exponential input gate (Beck et al. 2024, arXiv:2405.04517).

    i  = W_ii x + b_ii + W_hi h + b_hi          f = log σ(W_if x + b_if + W_hf h + b_hf)
    g  = tanh(W_ig x + b_ig + W_hg h + b_hg)    o = σ(W_io x + b_io + W_ho h + b_ho)
    m′ = max(f + m, i)                          the stabiliser; i, as long as nothing is stored (n = 0)
    c′ = exp(f + m − m′) ⊙ c + exp(i − m′) ⊙ g
    n′ = exp(f + m − m′) ⊙ n + exp(i − m′)      the normaliser
    h′ = o ⊙ c′/n′

Both gates in their logarithms: h is that of c′ = σ(f) c + exp(i) g without m, which would overflow. The forget gate is
the sigmoid of the paper's two, all units are one head. Parameters, gate order i, f, g, o: weight_ih (4H, I), weight_hh
(4H, H), bias_ih (4H,), bias_hh (4H,). State: SLSTMState(h, c, n, m), (*batch, H) each. Output: h.

>>> import jax, jax.numpy as jnp, jaxrnn as jr
>>> params = jr.slstm.init(jax.random.key(0), 100, 20)
>>> params.weight_ih.shape, params.weight_hh.shape
((80, 100), (80, 20))
>>> state = jr.slstm.step(params, jr.slstm.initial_state(params, (3,)), jnp.ones((3, 100)))
>>> state.h.shape, state.m.shape
((3, 20), (3, 20))
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from .._core.cell import named
from .._core.checks import describe
from .affine import AffineParams, affine_cell, state_leaf, sum_of_z_and_r

_BLOCKS = 4


class SLSTMState(NamedTuple):
    """What an sLSTM carries from step to step."""

    h: Array  # (*batch, H)
    c: Array  # (*batch, H)
    n: Array  # (*batch, H), the normaliser
    m: Array  # (*batch, H), the stabiliser


def _state(params: AffineParams, batch_shape: tuple[int, ...]) -> SLSTMState:
    """Shapes of all four (*batch, H)."""
    return SLSTMState(*[state_leaf(params, batch_shape, params.weight_hh.shape[1])] * 4)


def _output(state: SLSTMState) -> Array:
    """h (*batch, H)."""
    if not isinstance(state, SLSTMState):
        raise TypeError(f"state must be a jaxrnn.SLSTMState, got {describe(state)}")
    return state.h


def _gates(params: AffineParams, a: Array, state: SLSTMState) -> SLSTMState:
    """Next state from the pre-activations a (*batch, 4H)."""
    del params
    i, f, g, o = jnp.split(a, _BLOCKS, axis=-1)
    kept = jnp.where(state.n == 0, i, jax.nn.log_sigmoid(f) + state.m)
    m = jnp.maximum(kept, i)
    forget, write = jnp.exp(kept - m), jnp.exp(i - m)
    c = forget * state.c + write * jnp.tanh(g)
    n = forget * state.n + write
    return SLSTMState(jax.nn.sigmoid(o) * c / n, c, n, m)


slstm = named(affine_cell(_gates, _BLOCKS, merge=sum_of_z_and_r, state=_state, output=_output), "jaxrnn.slstm", __doc__)
