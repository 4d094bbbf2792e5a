"""The minimisation of a speed by Optax, which nothing else here needs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax


def minimised(function: Callable[[Array], Array], start: Array, iterations: int, enough: Array) -> Array:
    """Where L-BFGS arrives from start (n,), when the value falls no more, or is enough, or after so many iterations."""
    optimizer = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(function)

    def advance(carry: tuple) -> tuple:
        count, _, value, vector, state = carry
        value, gradient = value_and_grad(vector, state=state)
        updates, state = optimizer.update(gradient, state, vector, value=value, grad=gradient, value_fn=function)
        return count + 1, value, optax.tree.get(state, "value"), optax.apply_updates(vector, updates), state

    def goes_on(carry: tuple) -> Array:
        count, before, value, *_ = carry
        return (count < iterations) & (value < before) & (value > enough)

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # Optax fails under the strict ones
        value = function(start)
        carry = 0, jnp.full_like(value, jnp.inf), value, start, optimizer.init(start)
        return lax.while_loop(goes_on, advance, carry)[3]
