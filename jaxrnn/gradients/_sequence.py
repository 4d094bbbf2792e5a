"""The algorithms over a whole sequence."""

from typing import Any

from jax import Array

from .._core.cell import Params, State
from . import online
from ._learner import sequence_gradient
from ._problem import Problem, check_sequences
from ._truncated import check_truncation


def tbptt(
    problem: Problem, params: Params, state: State, xs: Any, ys: Any, *, k1: int, k2: int
) -> tuple[Array, Params]:
    """Truncated back-propagation through time: at times k1, 2 k1, … and T, the losses since, k2 steps back.

        λ_t = ∂l_t/∂s_t [t is since the last such time] + λ_{t+1} ∂s_{t+1}/∂s_t, from τ back to τ - k2 + 1; 0 before

    The value is that of the full loss, each term counted once. k2 >= T is exact. Biased otherwise: what lies further
    back than k2 has no part in it. Time O(T k2/k1), memory O(k2).

    Args:
      problem, params, state, xs, ys: see `bptt`.
      k1: how many steps apart losses are propagated.
      k2: how many steps back they are, k1 <= k2.

    Returns:
      L and the approximate gradient.

    Raises:
      ValueError: k1 < 1 or k1 > k2; as `bptt`.
      TypeError: k1 or k2 is no int; as `bptt`.

    Source: Williams and Peng 1990, "An efficient gradient-based algorithm for on-line training of recurrent network
    trajectories", there BPTT(h; h') with h = k2, h' = k1.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(lambda w, h, x: w * h + x, loss=lambda w, h, y: y * h)
    >>> y = jnp.array([0., 0., 1.])                                 # L = h_3 = w² + w + 1, dL/dw = h_2 + w h_1
    >>> value, gradient = gradients.tbptt(problem, 3., 0., jnp.ones(3), y, k1=1, k2=1)
    >>> float(value), float(gradient)                               # h_2 alone
    (13.0, 4.0)
    """
    check_truncation(k1, k2)
    steps = check_sequences(xs, ys)
    learner = online.tbptt(problem, k1=min(k1, steps), k2=min(k2, steps))
    return sequence_gradient(learner, params, state, xs, ys)


def rtrl(
    problem: Problem, params: Params, state: State, xs: Any, ys: Any, *, budget: int = online.BUDGET
) -> tuple[Array, Params]:
    """Real-time recurrent learning: the exact gradient, forward in time.

        dL/dθ = Σ_t ∂l_t/∂θ + ∂l_t/∂s_t J_t        J_t = ∂s_t/∂s_{t-1} J_{t-1} + ∂s_t/∂θ        J_0 = 0

    Memory does not depend on T: n P numbers twice over, for n numbers in the state and P parameters that the step sees.
    Time O(n² P) a step. ∂s_t/∂θ, n P numbers too, is not formed: its rows that share no parameter, as those of a
    layer's units, come out of one vector-Jacobian product together and are added in place. An LSTM with 64 inputs and
    units takes 33 MB so, and 65 MB with a dense ∂s_t/∂θ; with 128, 261 and 646 MB, 183 and 314 ms a step on two cores.

    Args:
      problem, params, state, xs, ys: see `bptt`.
      budget: bytes that J may take; if it would take more, an error comes before anything is allocated.

    Returns:
      L and its gradient, equal to `bptt`'s.

    Raises:
      ValueError: J would be larger than the budget; as `bptt`.
      TypeError: as `bptt`.

    Source: Williams and Zipser 1989, "A learning algorithm for continually running fully recurrent neural networks".

    >>> import jax.numpy as jnp
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(lambda w, h, x: w * h + x, loss=lambda w, h, y: y * h)
    >>> value, gradient = gradients.rtrl(problem, 3., 0., jnp.ones(3), jnp.array([0., 0., 1.]))
    >>> float(value), float(gradient)                               # L = h_3 = w² + w + 1
    (13.0, 7.0)
    """
    learner = online.rtrl(problem, budget=budget)
    return sequence_gradient(learner, params, state, xs, ys)


def snap(
    problem: Problem, params: Params, state: State, xs: Any, ys: Any, *, order: int = 1, budget: int = online.BUDGET
) -> tuple[Array, Params]:
    """SnAp-n: real-time recurrent learning that keeps the influence on what a parameter reaches within n steps.

        J_t = M ⊙ (∂s_t/∂s_{t-1} J_{t-1} + ∂s_t/∂θ)        M = pattern of Σ_{k<n} (∂s/∂s)^k ∂s/∂θ

    The pattern M is found from the step's structure (its jaxpr), not from numbers. SnAp-1 keeps, of a dense cell, each
    unit's own weights: as many numbers as parameters, times the state's leaves. It is exact for cells whose units do
    not see each other. An order that reaches everything is `rtrl`, for a dense cell 2. Biased otherwise.
    Time O(K² P) and memory O(K P) beside ∂s/∂s (n² numbers, n vector-Jacobian products), K the kept rows a parameter.
    Where many parameters keep sets of rows of many sizes, compiling takes longer: each size is a product of its own.

    Args:
      problem, params, state, xs, ys: see `bptt`.
      order: n.
      budget: bytes that J may take; if it would take more, an error comes before it is allocated.

    Returns:
      L and the approximate gradient.

    Raises:
      ValueError: order < 1; J would be larger than the budget; as `bptt`.
      TypeError: order is no int; as `bptt`.

    Source: Menick et al. 2020, arXiv:2006.07232.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(jr.rnn, loss=lambda params, h, y: jnp.sum(h))
    >>> params = jr.rnn.init(jax.random.key(0), 3, 8)
    >>> value, grads = gradients.snap(problem, params, jnp.zeros(8), jnp.ones((5, 3)), None)
    >>> grads.weight_hh.shape
    (8, 8)
    """
    learner = online.snap(problem, order=order, budget=budget)
    return sequence_gradient(learner, params, state, xs, ys)


def uoro(
    problem: Problem, params: Params, state: State, xs: Any, ys: Any, *, key: Array | None = None, samples: int = 1
) -> tuple[Array, Params]:
    """Unbiased online recurrent optimisation: the influence matrix as a random outer product, right on average.

        J_t ≈ a_t ⊗ b_t        a_t = ρ₀ ∂s_t/∂s_{t-1} a_{t-1} + ρ₁ ν        b_t = b_{t-1}/ρ₀ + ν ∂s_t/∂θ / ρ₁

        ν of random signs        ρ₀ = √(|b_{t-1}| / |∂s_t/∂s_{t-1} a_{t-1}|)        ρ₁ = √(|ν ∂s_t/∂θ| / |ν|)

    Its mean is the exact gradient, its variance grows with the size of the state. Time O(1) forward and backward steps
    and memory O(n + P) a sample, whatever T.

    Args:
      problem, params, state, xs, ys: see `bptt`.
      key: for the signs.
      samples: how many independent estimates are averaged.

    Returns:
      L and the estimate of its gradient.

    Raises:
      ValueError: samples < 1, no key; as `bptt`.
      TypeError: samples is no int; as `bptt`.

    Source: Tallec and Ollivier 2017, arXiv:1702.05043.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(jr.rnn, loss=lambda params, h, y: jnp.sum(h))
    >>> params = jr.rnn.init(jax.random.key(0), 3, 8)
    >>> value, grads = gradients.uoro(
    ...     problem, params, jnp.zeros(8), jnp.ones((5, 3)), None, key=jax.random.key(1), samples=64)
    >>> grads.weight_hh.shape
    (8, 8)
    """
    learner = online.uoro(problem, samples=samples)
    return sequence_gradient(learner, params, state, xs, ys, key)
