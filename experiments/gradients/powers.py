"""1.01³⁶⁵ and 0.99³⁶⁵ as gradients: of a linear recurrence, one unit or many."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import gradients

STEPS = 365
FACTORS = (1.01, 0.99)
UNITS = 64


def norms(factor: float, units: int, seed: int) -> np.ndarray:
    """(T + 1,) ‖dL/dh_t‖ for t = 0 … T, h_t = factor Q h_{t-1}, Q orthogonal (units, units), L = ⟨v, h_T⟩, |v| = 1.

    With one unit Q and v are 1, and the first is dh_T/dh_0 = factor^T.
    """
    with jax.enable_x64(True):
        weight = factor * (jax.random.orthogonal(jax.random.key(seed), units) if units > 1 else jnp.ones((1, 1)))
        v = jnp.ones(units) / units**0.5
        problem = gradients.Problem(_step, _read)
        ys = jnp.zeros((STEPS, units)).at[-1].set(v)
        along = gradients.state_gradients(problem, weight, v, jnp.zeros(STEPS), ys)
        first = jax.grad(lambda h: gradients.bptt(problem, weight, h, jnp.zeros(STEPS), ys)[0])(v)
        return np.concatenate([[np.linalg.norm(first)], np.linalg.norm(along, axis=1)])


def _step(weight: Array, h: Array, x: Any) -> Array:
    del x
    return weight @ h


def _read(weight: Array, h: Array, y: Array) -> Array:
    del weight
    return jnp.vdot(y, h)
