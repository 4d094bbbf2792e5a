"""Minimal gated unit (Zhou et al. 2016, arXiv:1603.09420), its gate after the matmul, as in flax.linen.

    f  = σ(W_if x + b_if + W_hf h + b_hf)
    n  = tanh(W_in x + b_in + f ⊙ (W_hn h + b_hn))          mgu
    n  = tanh(W_in x + b_in + W_hn h + b_hn)                mgu_without_reset
    h′ = n + f ⊙ (h − n)

It is `jr.gru` with one gate for both. f is 1 minus the paper's f in the last line. Parameters, gate order f, n:
weight_ih (2H, I), weight_hh (2H, H), bias_ih (2H,), bias_hh (2H,). State and output: h (*batch, H).

>>> import jax, jax.numpy as jnp, jaxrnn as jr
>>> params = jr.mgu.init(jax.random.key(0), 100, 20)
>>> params.weight_ih.shape, params.weight_hh.shape
((40, 100), (40, 20))
>>> h = jr.mgu.initial_state(params, (3,))
>>> jr.mgu.step(params, h, jnp.ones((3, 100))).shape, jr.mgu_without_reset.step(params, h, jnp.ones((3, 100))).shape
((3, 20), (3, 20))
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .._core.cell import Cell, named
from .affine import AffineParams, affine_cell, sum_of_z_and_r, with_functions

_BLOCKS = 2


def _merge(z: Array, r: Array) -> tuple[Array, ...]:
    """The pre-activation of the gate, and z and r of the new state, which f parts; each (*batch, H)."""
    (z_forget, z_new), (r_forget, r_new) = jnp.split(z, _BLOCKS, axis=-1), jnp.split(r, _BLOCKS, axis=-1)
    return z_forget + r_forget, z_new, r_new


def _gates(
    params: AffineParams,
    forget: Array,
    z_new: Array,
    r_new: Array,
    h: Array,
    *,
    gate_fn: Callable[..., Any] = jax.nn.sigmoid,
    activation_fn: Callable[..., Any] = jnp.tanh,
) -> Array:
    """Next h (*batch, H)."""
    del params
    f = gate_fn(forget)
    new = activation_fn(z_new + f * r_new)
    return new + f * (h - new)


def _gates_without_reset(
    params: AffineParams,
    a: Array,
    h: Array,
    *,
    gate_fn: Callable[..., Any] = jax.nn.sigmoid,
    activation_fn: Callable[..., Any] = jnp.tanh,
) -> Array:
    """Next h (*batch, H) from the pre-activations a (*batch, 2H)."""
    del params
    forget, new = jnp.split(a, _BLOCKS, axis=-1)
    new = activation_fn(new)
    return new + gate_fn(forget) * (h - new)


def mgu_of(gate_fn: Callable[..., Any], activation_fn: Callable[..., Any], *, reset_gate: bool = True) -> Cell:
    """`jr.mgu` or `jr.mgu_without_reset` with gate_fn in place of σ and activation_fn in place of tanh."""
    cell, gates, merge = (
        (mgu, _gates, _merge) if reset_gate else (mgu_without_reset, _gates_without_reset, sum_of_z_and_r)
    )
    return with_functions(cell, gates, _BLOCKS, gate_fn, activation_fn, mgu_of.__doc__, merge=merge)


mgu = named(affine_cell(_gates, _BLOCKS, merge=_merge), "jaxrnn.mgu", __doc__)
mgu_without_reset = named(
    affine_cell(_gates_without_reset, _BLOCKS, merge=sum_of_z_and_r), "jaxrnn.mgu_without_reset", __doc__
)
