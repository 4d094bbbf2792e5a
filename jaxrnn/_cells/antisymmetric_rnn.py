"""Antisymmetric network: a stable system in steps of Euler's method (Chang et al. 2019, arXiv:1902.09689).

h′ = h + ε tanh(W_ih x + b_ih + (W − Wᵀ − γ I) h + b_hh)
"""

import dataclasses
import functools

import jax.numpy as jnp
from jax import Array

from .._core.cell import Cell, named
from .._core.checks import check_number
from .affine import AffineParams, affine_cell, sum_of_z_and_r
from .parametrised import parametrised


def antisymmetric_rnn(step_size: float = 0.1, damping: float = 0.01) -> Cell:
    """A cell whose Jacobian has eigenvalues near 1: a stable ordinary differential equation in steps of Euler's method.

        h′ = h + ε tanh(W_ih x + b_ih + (W − Wᵀ − γ I) h + b_hh)        W is weight_hh

    The eigenvalues of W − Wᵀ are imaginary: nothing grows or shrinks but by the damping, which keeps Euler's steps
    stable. `jr.unroll` builds W − Wᵀ − γ I once for a sequence, `step` at each step. It has no affine record, as
    weight_hh is not what it multiplies by: algorithms that need one raise their ValueError.

    Args:
      step_size: ε > 0.
      damping: γ >= 0.

    Returns:
      A `jr.Cell`, the same for equal arguments. Parameters: weight_ih (H, I), weight_hh (H, H), bias_ih (H,), bias_hh
      (H,). State and output: h (*batch, H).

    Raises:
      ValueError: step_size is not above 0, or damping below it.
      TypeError: one of them is no number.

    Source: Chang et al. 2019, arXiv:1902.09689.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> cell = jr.antisymmetric_rnn(0.1, damping=0.0)
    >>> params = cell.init(jax.random.key(0), 3, 8)
    >>> jacobian = jax.jacobian(lambda h: cell.step(params, h, jnp.zeros(3)))(jnp.zeros(8))
    >>> bool((jnp.abs(jnp.linalg.det(jacobian) - 1) < 0.1).all()), jr.unroll(cell, params, jnp.ones((5, 2, 3)))[1].shape
    (True, (5, 2, 8))
    """
    check_number("step_size", step_size, lambda size: size > 0, "above 0")
    check_number("damping", damping, lambda damping: damping >= 0, "of at least 0")
    return _antisymmetric_rnn(float(step_size), float(damping))


@functools.cache
def _antisymmetric_rnn(step_size: float, damping: float) -> Cell:
    cell = affine_cell(_Gates(step_size), 1, merge=sum_of_z_and_r)
    name = f"jaxrnn.antisymmetric_rnn({step_size}, {damping})"
    return named(parametrised(cell, _Damped(damping)), name, antisymmetric_rnn.__doc__)


@dataclasses.dataclass(frozen=True)
class _Gates:
    step_size: float

    def __call__(self, params: AffineParams, a: Array, h: Array) -> Array:
        """Next h (*batch, H) from the pre-activation a (*batch, H)."""
        del params
        return h + self.step_size * jnp.tanh(a)


@dataclasses.dataclass(frozen=True)
class _Damped:
    damping: float

    def __call__(self, weight: Array) -> Array:
        """W − Wᵀ − γ I, of W (G, H, H)."""
        identity = jnp.broadcast_to(jnp.eye(weight.shape[-1], dtype=weight.dtype), weight.shape)
        return weight - weight.mT - self.damping * identity
