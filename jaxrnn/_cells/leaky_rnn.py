"""Leaky units: a continuous-time recurrent network in steps of Euler's method (Jaeger et al. 2007,
doi:10.1016/j.neunet.2007.04.016; as a remedy for long delays Bengio et al. 2013, arXiv:1212.0901).

    τ dh/dt = −h + tanh(W_ih x + b_ih + W_hh h + b_hh)
    h′ = h + α (tanh(W_ih x + b_ih + W_hh h + b_hh) − h)        α = Δt/τ
"""

import dataclasses
import functools

import jax.numpy as jnp
from jax import Array

from .._core.cell import Cell, named
from .._core.checks import check_number
from .affine import AffineParams, affine_cell, sum_of_z_and_r


def leaky_rnn(rate: float) -> Cell:
    """A cell of leaky units, a continuous-time network in steps of Euler's method.

        h′ = h + α (tanh(W_ih x + b_ih + W_hh h + b_hh) − h)        α = Δt/τ

    Args:
      rate: α in (0, 1], the step in units of the time constant: without input a unit forgets in about 1/α steps. With
        1 it is `jr.rnn`.

    Returns:
      A `jr.Cell`, the same for an equal rate. Parameters: weight_ih (H, I), weight_hh (H, H), bias_ih (H,), bias_hh
      (H,). State and output: h (*batch, H).

    Raises:
      ValueError: rate is not in (0, 1].
      TypeError: rate is no number.

    Source: Jaeger et al. 2007, doi:10.1016/j.neunet.2007.04.016; Bengio et al. 2013, arXiv:1212.0901.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> leaky = jr.leaky_rnn(0.1)
    >>> h, ys = jr.unroll(leaky, leaky.init(jax.random.key(0), 3, 8), jnp.ones((5, 2, 3)))
    >>> ys.shape, bool((jnp.abs(ys[0]) <= 0.1).all())
    ((5, 2, 8), True)
    """
    check_number("rate", rate, lambda rate: 0 < rate <= 1, "in (0, 1]")
    return _leaky_rnn(float(rate))


@functools.cache
def _leaky_rnn(rate: float) -> Cell:
    return named(affine_cell(_Gates(rate), 1, merge=sum_of_z_and_r), f"jaxrnn.leaky_rnn({rate})", leaky_rnn.__doc__)


@dataclasses.dataclass(frozen=True)
class _Gates:
    rate: float

    def __call__(self, params: AffineParams, a: Array, h: Array) -> Array:
        """Next h (*batch, H) from the pre-activation a (*batch, H)."""
        del params
        return h + self.rate * (jnp.tanh(a) - h)
