"""Gated recurrent unit, reset before the matmul (Cho et al. 2014, arXiv:1406.1078v3), as in Haiku and ONNX.

    r  = σ(W_ir x + b_ir + W_hr h + b_hr)
    u  = σ(W_iz x + b_iz + W_hz h + b_hz)
    n  = tanh(W_in x + b_in + W_hn (r ⊙ h) + b_hn)
    h′ = n + u ⊙ (h − n)

Beside `jr.gru`, whose r is applied after W_hn, it has a second matmul that waits for the first, and so no fast scan.
Parameters, gate order r, u, n: weight_ih (3H, I), weight_hh (3H, H), bias_ih (3H,), bias_hh (3H,). State and output:
h (*batch, H).

>>> import jax, jax.numpy as jnp, jaxrnn as jr
>>> params = jr.gru_reset_before.init(jax.random.key(0), 100, 20)
>>> params.weight_ih.shape, params.weight_hh.shape
((60, 100), (60, 20))
>>> h = jr.gru_reset_before.initial_state(params, (3,))
>>> jr.gru_reset_before.step(params, h, jnp.ones((3, 100))).shape
(3, 20)
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from .._core.cell import named
from .._core.numerics import affine
from .affine import AffineParams, check_affine_params, check_step, hidden_state
from .gru import gru

_BLOCKS = 3


def _step(params: AffineParams, state: Array, x: Array) -> Array:
    """Next h (*batch, H) of h (*batch, H) and x (*batch, I)."""
    return reset_before_step(jax.nn.sigmoid, jnp.tanh, params, state, x)


def reset_before_step(
    of_gates: Callable[[Array], Array], of_new: Callable[[Array], Array], params: AffineParams, state: Array, x: Array
) -> Array:
    """Next h (*batch, H) of h (*batch, H) and x (*batch, I), by these functions."""
    check_affine_params(params, _BLOCKS)
    check_step(params, state, x, hidden_state)
    size = state.shape[-1]
    gates, new = slice(2 * size), slice(2 * size, None)
    z = affine(x, params.weight_ih, params.bias_ih)
    reset, update = jnp.split(of_gates(z[..., gates] + _hidden(params, gates, state)), 2, axis=-1)
    candidate = of_new(z[..., new] + _hidden(params, new, reset * state))
    return candidate + update * (state - candidate)


def _hidden(params: AffineParams, rows: slice, h: Array) -> Array:
    """W_hh h + b_hh, these rows of it."""
    return affine(h, params.weight_hh[rows], None if params.bias_hh is None else params.bias_hh[rows])


gru_reset_before = named(gru._replace(step=_step, affine=None, run=None), "jaxrnn.gru_reset_before", __doc__)
