"""Recurrent weights that are orthogonal whatever is learnt, by the matrix exponential (Lezcano-Casado and
Martínez-Rubio 2019, arXiv:1901.08428).

    W_hh = exp(W − Wᵀ)
"""

import functools

import jax
from jax import Array
from jax.scipy.linalg import expm

from .._core.cell import Cell, check_cell, named
from .._core.numerics import narrowed, widened
from .parametrised import parametrised


def orthogonal_cell(cell: Cell) -> Cell:
    """The same cell, whose recurrent weights stay orthogonal while they are learnt.

        W_hh = exp(W − Wᵀ), gate by gate        W, of any values, is weight_hh

    All singular values of W_hh are 1: what vanishes or explodes is left to the gates alone. `jr.unroll` builds W_hh
    once for a sequence, and runs it in the cell's own way; `step` builds it at each step, n³ operations, and so do
    algorithms that go step by step. It has no affine record, as weight_hh is not what it multiplies by: algorithms
    that need one raise their ValueError. Its own `init` gives rotations by up to about two radians.

    Args:
      cell: one whose parameters are a NamedTuple with weight_hh (G*H, H), as `jr.rnn`, `jr.gru`, `jr.lstm` and those of
        `jr.affine_cell`.

    Returns:
      A `jr.Cell`, the same object for an equal cell, with the cell's parameters, state and output.

    Raises:
      ValueError: from its functions, weight_hh has no square blocks, as with a projection.
      TypeError: cell is no Cell; from its functions, params have no weight_hh.

    Source: Lezcano-Casado and Martínez-Rubio 2019, arXiv:1901.08428.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> cell = jr.orthogonal_cell(jr.rnn)
    >>> params = cell.init(jax.random.key(0), 3, 8)._replace(bias_ih=jnp.zeros(8), bias_hh=jnp.zeros(8))
    >>> jacobian = jax.jacobian(lambda h: cell.step(params, h, jnp.zeros(3)))(jnp.zeros(8))
    >>> bool(jnp.allclose(jacobian @ jacobian.T, jnp.eye(8), atol=1e-5))
    True
    >>> jr.unroll(cell, params, jnp.ones((5, 2, 3)))[1].shape
    (5, 2, 8)
    """
    check_cell("cell", cell)
    return _orthogonal_cell(cell)


@functools.cache
def _orthogonal_cell(cell: Cell) -> Cell:
    return named(parametrised(cell, _rotation), f"jaxrnn.orthogonal_cell({cell!r})", orthogonal_cell.__doc__)


@jax.jit  # whose trace an eager step finds again; that of `expm` it would not
def _rotation(weight: Array) -> Array:
    """exp(W − Wᵀ), of W (G, H, H); in float32 or wider, as LAPACK has nothing for fewer bits."""
    wide = widened(weight)
    return narrowed(expm(wide - wide.mT), weight)
