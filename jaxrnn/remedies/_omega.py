"""Pascanu's regulariser: gradients that keep their length on their way back."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._core.cell import Params, State, as_step
from .._scan.loops import scan
from ..gradients import Problem, reals, state_gradients, step_derivatives
from ..gradients._leaves import at, ravel
from ..gradients._norms import nonzero, norm
from ..gradients._problem import checked_start


def omega(problem: Problem, params: Params, state: State, xs: Any, ys: Any) -> Array:
    """Ω: how much the gradient's length changes from state to state, to be added to a loss with a factor.

        Ω = Σ_k (|λ_{k+1} ∂s_{k+1}/∂s_k| / |λ_{k+1}| − 1)²        λ_k = dL/ds_k,  k = 1 … T−1

    Its gradient by params is the paper's: through the parameters in ∂s_{k+1}/∂s_k alone, at states and λ that are taken
    as they are. Where no gradient arrives, λ_{k+1} = 0, there is no term. `gradients.flow` reports the same number.

    Args:
      problem, params, state, xs, ys: of one sequence, as in `gradients.bptt`; a batch is a `jax.vmap`.

    Returns:
      A scalar; nan where a gradient is not finite.

    Raises:
      ValueError, TypeError: as `gradients.bptt`.

    Source: Pascanu et al. 2013, arXiv:1211.5063.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients, remedies
    >>> problem = gradients.Problem(jr.rnn, loss=lambda params, h, y: jnp.sum((h - y) ** 2))
    >>> given = jnp.zeros(8), jnp.ones((20, 3)), jnp.ones((20, 8))
    >>> params = jr.rnn.init(jax.random.key(0), 3, 8)
    >>> value, grads = jax.value_and_grad(lambda params: remedies.omega(problem, params, *given))(params)
    >>> bool(jnp.isclose(value, gradients.flow(problem, params, *given).omega, rtol=1e-4)), grads.weight_hh.shape
    (True, (8, 8))
    """
    return _omega(problem, params, state, xs, ys, state_gradients(problem, params, state, xs, ys))


@functools.partial(jax.jit, static_argnames="problem")
def _omega(problem: Problem, params: Params, state: State, xs: Any, ys: Any, cotangents: Any) -> Array:
    """At module level, so that an eager call traces once."""

    def forward(selected: Params, state: State, x: Any) -> tuple[State, State]:
        return as_step(problem.step)(selected, state, x), state

    start = checked_start(problem, params, state, at(xs, 0))
    steps = len(jax.tree.leaves((xs, ys))[0])
    _, before = scan(forward, problem.select(params), start, xs, length=steps)
    cotangents = reals(jax.tree.map(jnp.conj, cotangents))  # of a complex leaf, JAX's is the conjugate of what pulls
    fixed = lax.stop_gradient((before, cotangents))
    later = jax.tree.map(lambda a: a[1:], (*fixed, xs))
    return jnp.sum(jax.vmap(lambda arguments: _term(problem, params, *arguments))(later))


def _term(problem: Problem, params: Params, state: State, cotangent: list[Array], x: Any) -> Array:
    """(|λ ∂s′/∂s| / |λ| − 1)² at one step."""
    length = norm(ravel(cotangent))
    unit = [(a.astype(length.dtype) / nonzero(length)).astype(a.dtype) for a in cotangent]
    _, arrived = step_derivatives(problem, params, state, x).pull(unit)
    return jnp.where(length == 0, 0, (norm(ravel(arrived)) - 1) ** 2)
