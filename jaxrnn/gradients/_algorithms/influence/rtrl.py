"""Real-time recurrent learning: the exact gradient, forward in time."""

from typing import Any

from ...._core.cell import Params, State
from ...._core.checks import check_int
from ..._learner import Gradient, Learner, sequence_gradient
from ..._problem import Problem, check_problem
from .influence import BUDGET, influence_learner


def rtrl(problem: Problem, params: Params, state: State, xs: Any, ys: Any, *, budget: int = BUDGET) -> Gradient:
    """Real-time recurrent learning: the exact gradient, forward in time.

        dL/dθ = Σ_t ∂l_t/∂θ + ∂l_t/∂s_t J_t        J_t = ∂s_t/∂s_{t-1} J_{t-1} + ∂s_t/∂θ        J_0 = 0

    Memory does not depend on T: n P numbers twice over, for n numbers in the state and P parameters that the step sees.
    Time O(n² P) a step. ∂s_t/∂θ, n P numbers too, is not formed: its rows that share no parameter, as those of a
    layer's units, come out of one vector-Jacobian product together and are added in place. An LSTM with 64 inputs and
    units takes 33 MB so, and 65 MB with a dense ∂s_t/∂θ; with 128, 261 and 646 MB, 183 and 314 ms a step on two cores.

    What overflows in J meets the losses that see it, and no others: where a loss does not depend on a number of the
    state, its row of J has no part in the gradient, and where ∂s_t/∂s_{t-1} is 0, as at the beginning of an episode, J
    begins anew.

    Args:
      problem, params, state, xs, ys: see `bptt`.
      budget: bytes that J may take; if it would take more, an error comes before anything is allocated.

    Returns:
      `Gradient`: L, its gradient, equal to `bptt`'s, and the last state.

    Raises:
      ValueError: J would be larger than the budget; as `bptt`.
      TypeError: as `bptt`.

    Source: Williams and Zipser 1989, "A learning algorithm for continually running fully recurrent neural networks".

    >>> import jax.numpy as jnp
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(lambda w, h, x: w * h + x, loss=lambda w, h, y: y * h)
    >>> value, gradient, state = gradients.rtrl(problem, 3., 0., jnp.ones(3), jnp.array([0., 0., 1.]))
    >>> float(value), float(gradient)                               # L = h_3 = w² + w + 1
    (13.0, 7.0)
    """
    learner = rtrl_learner(problem, budget=budget)
    return sequence_gradient(learner, params, state, xs, ys)


def rtrl_learner(problem: Problem, *, budget: int = BUDGET) -> Learner:
    """Real-time recurrent learning, see `jaxrnn.gradients.rtrl`.

    Args:
      problem: step, loss and select.
      budget: bytes that the influence matrix may take; `init` raises a ValueError before it would make a larger one.

    Raises:
      TypeError: problem is no Problem.
    """
    check_problem(problem)
    check_int("budget", budget)
    return influence_learner(problem, None, budget)
