"""SnAp-n: real-time recurrent learning with a part of the influence."""

from typing import Any

from ...._core.cell import Params, State
from ...._core.checks import check_int
from ..._learner import Gradient, Learner, sequence_gradient
from ..._problem import Problem, check_problem
from .influence import BUDGET, Kept, influence_learner
from .pattern import SparsityPattern


def snap(
    problem: Problem,
    params: Params,
    state: State,
    xs: Any,
    ys: Any,
    *,
    order: int = 1,
    budget: int = BUDGET,
    pattern: SparsityPattern | None = None,
) -> Gradient:
    """SnAp-n: real-time recurrent learning that keeps the influence on what a parameter reaches within n steps.

        J_t = M ⊙ (∂s_t/∂s_{t-1} J_{t-1} + ∂s_t/∂θ)        M = pattern of Σ_{k<n} (∂s/∂s)^k ∂s/∂θ

    The pattern M is found from the step's structure (its jaxpr), not from numbers: see `sparsity_pattern`. SnAp-1
    keeps, of a dense cell, each unit's own weights: as many numbers as parameters, times the state's leaves. It is
    exact for cells whose units do not see each other. An order that reaches everything is `rtrl`, for a dense cell 2.
    Biased otherwise. Time O(K² P) and memory O(K P) beside ∂s/∂s (n² numbers, n vector-Jacobian products), K the kept
    rows a parameter. Where parameters keep sets of rows of many sizes, they are padded to a few.

    Args:
      problem, params, state, xs, ys: see `bptt`.
      order: n.
      budget: bytes that J may take; if it would take more, an error comes before it is allocated.
      pattern: of ∂s/∂s and ∂s/∂θ, from which M is made, in place of the one that is found; with order=1 its `params` is
        M itself. What it lacks is left out of J. Where the step has operations without a rule, what its `params` lacks
        is also taken to be zero in ∂s/∂θ.

    Returns:
      `Gradient`: L, the approximate gradient and the last state.

    Raises:
      ValueError: order < 1; J would be larger than the budget; pattern is of another shape; as `bptt`.
      TypeError: order is no int, pattern no `SparsityPattern`; as `bptt`.

    Source: Menick et al. 2020, arXiv:2006.07232.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(jr.rnn, loss=lambda params, h, y: jnp.sum(h))
    >>> params = jr.rnn.init(jax.random.key(0), 3, 8)
    >>> value, grads, state = gradients.snap(problem, params, jnp.zeros(8), jnp.ones((5, 3)), None)
    >>> grads.weight_hh.shape
    (8, 8)
    """
    learner = snap_learner(problem, order=order, budget=budget, pattern=pattern)
    return sequence_gradient(learner, params, state, xs, ys)


def snap_learner(
    problem: Problem, *, order: int = 1, budget: int = BUDGET, pattern: SparsityPattern | None = None
) -> Learner:
    """Sparse n-step approximation of the influence matrix, see `jaxrnn.gradients.snap`.

    Args:
      problem: step, loss and select.
      order: keep the influence of parameters on what they reach within this many steps.
      budget: bytes that what is kept may take; `init` raises a ValueError before it would make more.
      pattern: of the step's Jacobians, in place of the one that is found; `init` raises a ValueError if its shape is
        another.

    Raises:
      ValueError: order < 1.
      TypeError: problem is no Problem, order is no int, pattern is no SparsityPattern.
    """
    check_problem(problem)
    check_int("order", order)
    check_int("budget", budget)
    if not isinstance(pattern, SparsityPattern | None):
        raise TypeError(f"pattern must be a jaxrnn.gradients.SparsityPattern, got {type(pattern).__name__}")
    return influence_learner(problem, Kept(order, pattern), budget)
