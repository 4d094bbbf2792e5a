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

import jax
import jax.numpy as jnp
from jax import Array

from ._affine import AffineParams, affine_cell


def _gates(params: AffineParams, z: Array, r: Array, h: Array) -> Array:
    """Next h (*batch, H) from the pre-activations z and r, both (*batch, 3H)."""
    del params
    hidden_size = h.shape[-1]
    z_gates, z_new = jnp.split(z, [2 * hidden_size], axis=-1)
    r_gates, r_new = jnp.split(r, [2 * hidden_size], axis=-1)
    reset, update = jnp.split(jax.nn.sigmoid(z_gates + r_gates), 2, axis=-1)
    new = jnp.tanh(z_new + reset * r_new)
    return new + update * (h - new)


gru = affine_cell(_gates, blocks=3)
