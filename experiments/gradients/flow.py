"""The gradient along a sequence."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

import jaxrnn as jr
from jaxrnn.gradients import Problem


def flow(problem: Problem, params: Any, state: Any, xs: Any, ys: Any) -> Any:
    """‖dL/ds_t‖ for t = 1 … T: of each leaf of the state, (T,).

    The derivative with respect to a state within the sequence is that with respect to something added to it: zeros are
    added at every step, and one backward pass gives all of them.
    """
    step = problem.step.step if isinstance(problem.step, jr.Cell) else problem.step

    def total(perturbations: Any) -> Array:
        def advance(state: Any, inputs: tuple[Any, Any, Any]) -> tuple[Any, Array]:
            x, y, perturbation = inputs
            following = jax.tree.map(jnp.add, step(problem.select(params), state, x), perturbation)
            return following, problem.loss(params, following, y)

        return jnp.sum(lax.scan(advance, state, (xs, ys, perturbations))[1])

    steps = len(jax.tree.leaves((xs, ys))[0])
    zeros = jax.tree.map(lambda a: jnp.zeros((steps, *a.shape), a.dtype), state)
    return jax.tree.map(lambda a: jnp.linalg.norm(a.reshape(steps, -1), axis=1), jax.grad(total)(zeros))
