"""Independently recurrent network: each unit sees itself alone (Li et al. 2018, arXiv:1803.04831).

    h′ = max(0, W_ih x + b_ih + w_hh ⊙ h + b_hh)

∂h_t/∂h_{t-k} is diagonal, at most |w_hh|ᵏ, so that what vanishes or explodes is known of each unit by itself. To see
across units, stack two or more. Parameters: weight_ih (H, I), weight_hh (H,), bias_ih (H,), bias_hh (H,). `init` draws
weight_hh from U(0, 1): memories of all lengths; the paper keeps |w_hh| below 2^(1/T) by clipping it after each update.
State and output: h (*batch, H).

>>> import jax, jax.numpy as jnp, jaxrnn as jr
>>> params = jr.indrnn.init(jax.random.key(0), 100, 20)
>>> params.weight_ih.shape, params.weight_hh.shape
((20, 100), (20,))
>>> h = jr.indrnn.initial_state(params, (3,))
>>> jr.indrnn.step(params, h, jnp.ones((3, 100))).shape
(3, 20)
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from .._core.cell import Cell, named
from .._core.numerics import spread
from .._scan.steps import run_steps
from .affine import (
    AffineParams,
    check_affine_params,
    check_step,
    init_affine,
    project,
    same_state,
    state_leaf,
    zero_state,
)


def _init(
    key: Array, input_size: int, hidden_size: int, *, bias: bool = True, dtype: DTypeLike = jnp.float32
) -> AffineParams:
    """weight_hh (H,) from U(0, 1), the others from U(-1/sqrt(H), 1/sqrt(H)); biases (H,), or None for bias=False."""
    params = init_affine(key, input_size, hidden_size, blocks=1, bias=bias, dtype=dtype)
    return params._replace(weight_hh=jax.random.uniform(jax.random.fold_in(key, 1), (hidden_size,), dtype))


def _check(params: AffineParams) -> None:
    check_affine_params(params, 1, lambda size: (size,))


def _state(params: AffineParams, batch_shape: tuple[int, ...]) -> Any:
    return state_leaf(params, batch_shape, params.weight_hh.shape[0])


def _initial_state(params: AffineParams, batch_shape: tuple[int, ...] = ()) -> Array:
    """Zeros (*batch, H)."""
    _check(params)
    return zero_state(_state, params, batch_shape)


def _step(params: AffineParams, state: Array, x: Array) -> Array:
    """Next h (*batch, H) of h (*batch, H) and x (*batch, I)."""
    _check(params)
    check_step(params, state, x, _state)
    return _gates(params, state, project(params, x))


def _gates(params: AffineParams, h: Array, z: Array) -> Array:
    """Next h (*batch, H) of h (*batch, H) and the projected input z (*batch, H)."""
    r = spread(params.weight_hh, h.shape) * h
    return jax.nn.relu(z + r if params.bias_hh is None else z + r + spread(params.bias_hh, h.shape))


def _run(
    params: AffineParams,
    state: Array,
    xs: Array,
    active: Array | None,
    /,
    *,
    reverse: bool,
    return_states: bool,
) -> tuple[Array, Array]:
    """Inputs are projected for all steps at once; what is left in the loop is elementwise."""
    jax.eval_shape(_step, params, state, xs[0])  # its checks
    zs = project(params, xs)
    return run_steps(_gates, same_state, params, state, zs, active, reverse=reverse, return_states=return_states)


indrnn = named(Cell(_init, _initial_state, _step, same_state, run=_run), "jaxrnn.indrnn", __doc__)
