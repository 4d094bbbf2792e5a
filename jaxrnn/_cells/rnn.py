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

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .._core.cell import Cell, named, qualname, with_options
from .affine import AffineParams, affine_cell, kernel_cell, sum_of_z_and_r


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
_KNOWN = ((jnp.tanh, rnn), (jax.lax.tanh, rnn), (jax.nn.relu, rnn_relu))


def rnn_of(activation_fn: Callable[..., Any], *, residual: bool = False) -> Cell:
    """The cell h′ = activation_fn(W_ih x + b_ih + W_hh h + b_hh), or (· + h) if residual (arXiv:1801.06105)."""
    for function, cell in _KNOWN:
        if activation_fn is function and not residual:
            return cell
    gates = with_options(_gates_of, activation_fn=activation_fn, residual=residual)
    name = f"jaxrnn.rnn, activation_fn={qualname(activation_fn)}, residual={residual}"
    return named(affine_cell(gates, 1, merge=sum_of_z_and_r), name, rnn_of.__doc__)


def _gates_of(params: AffineParams, a: Array, h: Array, *, activation_fn: Any, residual: bool) -> Array:
    """Next h (*batch, H) from the pre-activation a (*batch, H)."""
    del params
    return activation_fn(a + h if residual else a)
