"""E-prop: eligibility traces forward in time, and a learning signal for each unit."""

from typing import Any

from jax.typing import ArrayLike

from ..._core.cell import Params, State
from .._learner import Gradient, Learner, sequence_gradient
from .._problem import Problem
from .eligibility import eligibility_learner


def eprop(
    problem: Problem,
    params: Params,
    state: State,
    xs: Any,
    ys: Any,
    *,
    feedback: str | ArrayLike = "symmetric",
    seed: int = 0,
) -> Gradient:
    """E-prop: eligibility traces forward in time, and a learning signal for each unit at the present step.

        ε_t = ∂s_t/∂s_{t-1} ε_{t-1} + ∂s_t/∂θ, at fixed observables h_{t-1}        e_t = ∂h_t/∂s_t ε_t

        dL/dθ = Σ_t dL/dh_t e_t, and dL/dh_t, of all losses to come, ≈ Λ_t = ∂l_t/∂h_t, or B ∂l_t/∂output

    That is e-prop 1. What other units see of a unit is h, what goes through W_hh, so ε holds r = W_hh h + b_hh fixed:
    of an LSTM ε is f ε + ∂c/∂θ, along c. The traces are `rflo`'s, for a leaky cell the same rule, here with the paper's
    three learning signals. With the symmetric one it is the gradient of `snap(order=1)` for cells without
    self-connections (zeros on the diagonal of each block of W_hh), which SnAp-1 keeps, and exact for W_hh = 0; biased
    otherwise. Time and memory O(P) a step, beside ∂s/∂s (n² numbers), for gates that see each unit by itself.

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

    Source: Bellec et al. 2019, arXiv:1901.09049; the same authors 2020, doi:10.1038/s41467-020-17236-y.

    >>> import operator, jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients
    >>> read = jr.Linear(8, 2)
    >>> loss = gradients.OutputLoss(
    ...     lambda params, state: read.apply(params["out"], state.h), lambda output, y: jnp.sum((output - y) ** 2))
    >>> problem = gradients.Problem(jr.lstm, loss, operator.itemgetter("cell"))
    >>> params = {"cell": jr.lstm.init(jax.random.key(0), 3, 8), "out": read.init(jax.random.key(1))}
    >>> args = params, jr.lstm.initial_state(params["cell"]), jnp.ones((5, 3)), jnp.ones((5, 2))
    >>> symmetric, random = (gradients.eprop(problem, *args, feedback=how).grads for how in ("symmetric", "random"))
    >>> given = gradients.eprop(problem, *args, feedback=params["out"]["weight"].T).grads
    >>> bool(jnp.allclose(given["cell"].weight_hh, symmetric["cell"].weight_hh, atol=1e-6))
    True
    >>> bool(jnp.allclose(random["cell"].weight_hh, symmetric["cell"].weight_hh, atol=1e-6))
    False
    """
    return sequence_gradient(eprop_learner(problem, feedback=feedback, seed=seed), params, state, xs, ys)


def eprop_learner(problem: Problem, *, feedback: str | ArrayLike = "symmetric", seed: int = 0) -> Learner:
    """E-prop, see `jaxrnn.gradients.eprop`.

    Args:
      problem: step, loss and select; the step is a `jr.Cell` with `affine`.
      feedback: "symmetric", "random" or B, (hidden units, outputs); the same array again gives the same learner.
      seed: of the random B.

    Raises:
      ValueError: a step without affine parts, an unknown feedback, a loss without parts for it.
      TypeError: problem is no Problem, feedback is no array.
    """
    return eligibility_learner("eprop", problem, feedback, seed)
