"""Elman's recurrent network (Elman 1990, doi:10.1207/s15516709cog1402_1), as torch.nn.RNN has it.

    h′ = tanh(W_ih x + b_ih + W_hh h + b_hh)          rnn
    h′ = max(0, W_ih x + b_ih + W_hh h + b_hh)        rnn_relu

Parameters: weight_ih (H, I), weight_hh (H, H), bias_ih (H,), bias_hh (H,). State and output: h (*batch, H).

>>> import jax, jax.numpy as jnp, jaxrnn as jr
>>> params = jr.rnn.init(jax.random.key(0), 100, 20)       # input_size, hidden_size
>>> params.weight_ih.shape, params.weight_hh.shape
((20, 100), (20, 20))
>>> h = jr.rnn.initial_state(params, (3,))
>>> jr.rnn.step(params, h, jnp.ones((3, 100))).shape
(3, 20)
"""

import jax
import jax.numpy as jnp
from jax import Array

from .._core.cell import named
from .affine import AffineParams, kernel_cell, sum_of_z_and_r


def _gates_tanh(params: AffineParams, a: Array, h: Array) -> Array:
    """Next h (*batch, H) from the pre-activation a (*batch, H)."""
    del params, h
    return jnp.tanh(a)


def _gates_relu(params: AffineParams, a: Array, h: Array) -> Array:
    """Next h (*batch, H) from the pre-activation a (*batch, H)."""
    del params, h
    return jax.nn.relu(a)


_tanh = kernel_cell("tanh", _gates_tanh, 1, sum_of_z_and_r, slope=1.0)
_relu = kernel_cell("relu", _gates_relu, 1, sum_of_z_and_r, slope=1.0)
rnn = named(_tanh, "jaxrnn.rnn", __doc__)
rnn_relu = named(_relu, "jaxrnn.rnn_relu", __doc__)
