"""Kronecker-factored RTRL: the influence matrix as one random Kronecker product."""

from typing import Any

import jax
from jax import Array

from ..._core.cell import Params, State
from ..._core.checks import check_int
from .._affine import affine_of
from .._learner import Gradient, Learner, sequence_gradient
from .._problem import Problem
from .kronecker import Scheme, kronecker_learner
from .outer import joined


def kf_rtrl(
    problem: Problem, params: Params, state: State, xs: Any, ys: Any, *, key: Array | None = None, samples: int = 1
) -> Gradient:
    """Kronecker-factored RTRL: the influence matrix of an affine cell as a Kronecker product, right on average.

        J_t ≈ u_t ⊗ A_t        u_t = ρ₀ u_{t-1} + ρ₁ ν ĥ_t        A_t = ∂s_t/∂s_{t-1} A_{t-1}/ρ₀ + ν D_t/ρ₁

        ĥ_t = [h_{t-1}; 1; x_t; 1]        D_t = ∂s_t/∂a_t        a = merge(W_ih x + b_ih, W_hh h + b_hh)

        ν = ±1 at random        ρ₀ = √(|∂s_t/∂s_{t-1} A_{t-1}| / |u_{t-1}|)        ρ₁ = √(|D_t| / |ĥ_t|)

    Unbiased; exact for T = 1, as ∂s_t/∂θ is ĥ ⊗ D and one sign stands for all of it, where UORO draws one for each
    number of the state. The paper draws two signs a step, of which only the product matters. For M numbers in a (an
    LSTM's 4H, a GRU's 4H) time O(n² M) a step and memory O(n M), a sample.

    Where the gates see z and r apart, as a GRU's new state does, a holds both, and a parameter's gradient is read off
    its part. Parameters of no Kronecker form (an LSTM's weight_hr, those inside the gates) are estimated as by UORO.

    Args:
      problem, params, state, xs, ys: see `bptt`; the step is a `jr.Cell` with `affine`.
      key: for the signs.
      samples: how many independent estimates are averaged, KF-RTRL-AVG of the paper on OK.

    Returns:
      `Gradient`: L, the estimate of its gradient and the last state.

    Raises:
      ValueError: a step without affine parts, samples < 1, no key; as `bptt`.
      TypeError: samples is no int; as `bptt`.

    Source: Mujika et al. 2018, arXiv:1805.10842.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(jr.rnn, loss=lambda params, h, y: jnp.sum(h))
    >>> params, key = jr.rnn.init(jax.random.key(0), 3, 8), jax.random.key(1)
    >>> args = params, jnp.zeros(8), jnp.ones((1, 3)), None
    >>> value, grads, state = gradients.kf_rtrl(problem, *args, key=key)
    >>> bool(jnp.allclose(grads.weight_ih, gradients.bptt(problem, *args).grads.weight_ih, atol=1e-6))       # T = 1
    True
    """
    return sequence_gradient(kf_rtrl_learner(problem, samples=samples), params, state, xs, ys, key)


def kf_rtrl_learner(problem: Problem, *, samples: int = 1) -> Learner:
    """Kronecker-factored RTRL, see `jaxrnn.gradients.kf_rtrl`; `init` needs a key.

    Args:
      problem: step, loss and select; the step is a `jr.Cell` with `affine`.
      samples: how many independent estimates are averaged.

    Raises:
      ValueError: a step without affine parts, samples < 1; from `init`, no key.
      TypeError: problem is no Problem, samples is no int.
    """
    affine_of("kf_rtrl", problem)
    check_int("samples", samples)
    return kronecker_learner(problem, Scheme("kf_rtrl", samples, samples, _join, 1 / samples))


def _join(inputs: Array, pushed: Array, entering: Array, outward: Array, signs: Array) -> tuple[Array, Array]:
    """Each sample by itself."""

    def one(inputs: Array, pushed: Array, sign: Array) -> tuple[Array, Array]:
        return joined(inputs, pushed, sign * entering, sign * outward)

    return jax.vmap(one)(inputs, pushed, signs)
