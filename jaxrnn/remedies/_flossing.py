"""Gradient flossing: Lyapunov exponents near zero, so that gradients neither vanish nor explode."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from .._core.cell import Cell, Params, State, Step
from ..dynamics import lyapunov_spectrum


def floss(
    step: Cell | Step,
    params: Params,
    state: State,
    xs: Any,
    k: int,
    warmup: int = 0,
    *,
    every: int = 1,
    length: int | None = None,
) -> Array:
    """The sum of the squares of the k largest Lyapunov exponents: a loss before training, or a term of it during.

        floss = Σ_{i≤k} λ_i²        λ = dynamics.lyapunov_spectrum(step, params, state, xs, k, warmup)

    At exponents of 0 k directions of the state carry gradients over any number of steps, neither shrunk nor grown.

    Args:
      step, params, state, xs, warmup, every, length: see `dynamics.lyapunov_spectrum`; a batch is a `jax.vmap`.
      k: how many exponents, up to the real numbers in the state; the paper takes some, not all.

    Returns:
      A scalar, to be differentiated by params; inf where an exponent is -inf, as of a direction that is lost at once.

    Raises:
      ValueError, TypeError: as `dynamics.lyapunov_spectrum`.

    Source: Engelken 2023, arXiv:2312.17306.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import remedies
    >>> params = jr.rnn.init(jax.random.key(0), 3, 8)
    >>> xs = jax.random.normal(jax.random.key(1), (50, 3))
    >>> value, grads = jax.value_and_grad(lambda params: remedies.floss(jr.rnn, params, jnp.zeros(8), xs, 4))(params)
    >>> bool(value > 0), grads.weight_hh.shape
    (True, (8, 8))
    """
    return jnp.sum(lyapunov_spectrum(step, params, state, xs, k, warmup, every=every, length=length) ** 2)
