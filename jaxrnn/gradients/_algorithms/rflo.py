"""Random-feedback local online learning."""

from typing import Any

from jax.typing import ArrayLike

from ..._core.cell import Params, State
from .._learner import Gradient, Learner, sequence_gradient
from .._problem import Problem
from .eligibility import eligibility_learner


def rflo(
    problem: Problem,
    params: Params,
    state: State,
    xs: Any,
    ys: Any,
    *,
    feedback: str | ArrayLike = "symmetric",
    seed: int = 0,
) -> Gradient:
    """Random-feedback local online learning: influence that leaks away in its own unit, errors by weights of their own.

        P_t = ∂gates/∂s P_{t-1} + ∂s_t/∂θ        P_0 = 0        dL/dθ ≈ Σ_t ∂l_t/∂θ + λ_t P_t

        λ_t = ∂l_t/∂s_t, or ∂output/∂s_t B e_t with random B, e = ∂l/∂output

    ∂gates/∂s holds r = W_hh h + b_hh fixed: of a leaky cell h′ = (1 - α) h + α tanh(z + r) it is 1 - α, so that P is a
    leaky sum of α tanh′(a_i) h_j, the paper's rule; of any other affine cell, what a unit keeps by itself. What W_hh
    would carry on is left out: biased, and exact for W_hh = 0. The paper's own setting is `feedback="random"`: what
    comes out then need not be near the gradient, training aligns the two. Time and memory O(P) a step, beside ∂gates/∂s
    (n² numbers), for gates that see each unit by itself.

    Args:
      problem, params, state, xs, ys: see `bptt`; the step is a `jr.Cell` with `affine`.
      feedback: "symmetric", by the derivative of the loss; "random", by B from N(0, 1/outputs), which `seed` decides;
        or B itself, (hidden units, outputs). All but the first need `problem.loss` to be an `OutputLoss`. The read-out
        itself gets its exact gradient.
      seed: of the random B, the same one at every call.

    Returns:
      `Gradient`: L, the approximate gradient and the last state.

    Raises:
      ValueError: a step without affine parts, an unknown feedback, one of another shape, a loss without parts for it;
        as `bptt`.
      TypeError: feedback is no array; as `bptt`.

    Source: Murray 2019, doi:10.7554/eLife.43299.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients
    >>> leaky = jr.affine_cell(lambda params, z, r, h: 0.9 * h + 0.1 * jnp.tanh(z + r), blocks=1)
    >>> loss = gradients.OutputLoss(lambda params, h: h[:2], lambda output, y: jnp.sum((output - y) ** 2))
    >>> problem = gradients.Problem(leaky, loss)
    >>> params = leaky.init(jax.random.key(0), 3, 8)
    >>> value, grads, state = gradients.rflo(
    ...     problem, params, jnp.zeros(8), jnp.ones((5, 3)), jnp.ones((5, 2)), feedback="random")
    >>> grads.weight_hh.shape
    (8, 8)
    """
    return sequence_gradient(rflo_learner(problem, feedback=feedback, seed=seed), params, state, xs, ys)


def rflo_learner(problem: Problem, *, feedback: str | ArrayLike = "symmetric", seed: int = 0) -> Learner:
    """Random-feedback local online learning, see `jaxrnn.gradients.rflo`.

    Args:
      problem: step, loss and select; the step is a `jr.Cell` with `affine`.
      feedback: "symmetric", "random" or B, (hidden units, outputs); the same array again gives the same learner.
      seed: of the random B.

    Raises:
      ValueError: a step without affine parts, an unknown feedback, a loss without parts for it.
      TypeError: problem is no Problem, feedback is no array.
    """
    return eligibility_learner("rflo", problem, feedback, seed)
