"""Gated recurrent unit, reset after the matmul, as in torch.nn.GRU (Cho et al. 2014, arXiv:1406.1078).

    r  = σ(W_ir x + b_ir + W_hr h + b_hr)
    u  = σ(W_iz x + b_iz + W_hz h + b_hz)
    n  = tanh(W_in x + b_in + r ⊙ (W_hn h + b_hn))
    h′ = n + u ⊙ (h − n)

u is the update gate, torch's z. Parameters, gate order r, u, n: weight_ih (3H, I), weight_hh (3H, H), bias_ih (3H,),
bias_hh (3H,). State and output: h (*batch, H).

>>> import jax, jax.numpy as jnp, jaxrnn as jr
>>> params = jr.gru.init(jax.random.key(0), 100, 20)
>>> params.weight_ih.shape, params.weight_hh.shape
((60, 100), (60, 20))
>>> h = jr.gru.initial_state(params, (3,))
>>> jr.gru.step(params, h, jnp.ones((3, 100))).shape
(3, 20)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .._core.cell import Cell, named
from .affine import AffineParams, kernel_cell, with_functions


def _merge(z: Array, r: Array) -> tuple[Array, ...]:
    """The pre-activations of both gates, and z and r of the new state, which r and z meet apart; each (*batch, H)."""
    z_reset, z_update, z_new = jnp.split(z, 3, axis=-1)
    r_reset, r_update, r_new = jnp.split(r, 3, axis=-1)
    return z_reset + r_reset, z_update + r_update, z_new, r_new


def _gates(
    params: AffineParams,
    reset: Array,
    update: Array,
    z_new: Array,
    r_new: Array,
    h: Array,
    *,
    gate_fn: Callable[..., Any] = jax.nn.sigmoid,
    activation_fn: Callable[..., Any] = jnp.tanh,
) -> Array:
    """Next h (*batch, H)."""
    del params
    new = activation_fn(z_new + gate_fn(reset) * r_new)
    return new + gate_fn(update) * (h - new)


gru = named(kernel_cell("gru", _gates, 3, _merge), "jaxrnn.gru", __doc__)


def gru_of(gate_fn: Callable[..., Any], activation_fn: Callable[..., Any]) -> Cell:
    """`jr.gru` with gate_fn in place of σ and activation_fn in place of tanh."""
    return with_functions(gru, _gates, 3, gate_fn, activation_fn, gru_of.__doc__, merge=_merge)
