"""Unbiased online recurrent optimisation: the influence matrix as one random outer product."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ..._core.cell import Params, State
from ..._core.checks import check_int
from .._keys import as_numbers, next_key
from .._learner import Gradient, Learner, checked_init, checked_update, sequence_gradient
from .._leaves import ravel, unravel, wide_dtype
from .._local import local_step, loss_gradient, push_of, real_shapes, with_traced
from .._problem import Problem, check_problem
from .outer import advanced, begun, contracted


def uoro(
    problem: Problem, params: Params, state: State, xs: Any, ys: Any, *, key: Array | None = None, samples: int = 1
) -> Gradient:
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
      `Gradient`: L, the estimate of its gradient and the last state.

    Raises:
      ValueError: samples < 1, no key; as `bptt`.
      TypeError: samples is no int; as `bptt`.

    Source: Tallec and Ollivier 2017, arXiv:1702.05043.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(jr.rnn, loss=lambda params, h, y: jnp.sum(h))
    >>> params = jr.rnn.init(jax.random.key(0), 3, 8)
    >>> value, grads, state = gradients.uoro(
    ...     problem, params, jnp.zeros(8), jnp.ones((5, 3)), None, key=jax.random.key(1), samples=64)
    >>> grads.weight_hh.shape
    (8, 8)
    """
    learner = uoro_learner(problem, samples=samples)
    return sequence_gradient(learner, params, state, xs, ys, key)


def uoro_learner(problem: Problem, *, samples: int = 1) -> Learner:
    """Unbiased online recurrent optimisation, see `jaxrnn.gradients.uoro`; `init` needs a key.

    Its noise wants a small learning rate, or many samples: both bring the variance of what is learnt down alike.

    Args:
      problem: step, loss and select.
      samples: how many independent estimates are averaged.

    Raises:
      ValueError: samples < 1; from `init`, no key.
      TypeError: problem is no Problem, samples is no int.
    """
    check_problem(problem)
    check_int("samples", samples)
    return _learner(problem, samples)


@functools.lru_cache
def _learner(problem: Problem, samples: int) -> Learner:
    return Learner(
        functools.partial(checked_init, problem, functools.partial(_init, problem, samples)),
        functools.partial(checked_update, functools.partial(_update, problem), UOROCarry),
    )


class UOROCarry(NamedTuple):
    """The state, and for each sample two vectors whose outer product has the influence matrix as its mean."""

    state: State
    key: Array  # (2,) numbers
    left: Array  # (samples, n)
    right: Array  # (samples, P)


def _init(problem: Problem, samples: int, params: Params, state: State, x: Any, key: Array | None = None) -> UOROCarry:
    """No influence yet, but of an initial state that is learnt on itself: I = E ν ⊗ ν."""
    del x
    if key is None:
        raise ValueError("uoro draws random signs: it needs a key, as from jax.random.key(0), got None")
    reals, weights = real_shapes(problem, params, state)
    dtype = wide_dtype([*reals, *weights])
    left, right = (jnp.zeros((samples, sum(a.size for a in leaves)), dtype) for leaves in (reals, weights))
    return UOROCarry(state, *begun(problem, as_numbers(key), left, right))


@jax.named_scope("jaxrnn.gradients.uoro")
def _update(problem: Problem, params: Params, carry: UOROCarry, x: Any, y: Any) -> tuple[UOROCarry, Array, Params]:
    """One step: both vectors go on, and new random signs join them."""
    numbers, now = next_key(carry.key)
    dtype = carry.left.dtype
    signs = jax.random.rademacher(now, carry.left.shape, dtype)
    function, weights, reals = local_step(problem, params, carry.state, x)
    _, pull, new_state = jax.vjp(function, weights, reals, has_aux=True)
    push = push_of(lambda cotangent: pull(cotangent)[1], reals)

    def advance(left: Array, right: Array, signs: Array) -> tuple[Array, Array]:
        pushed, immediate = push(unravel(left, reals)), ravel(pull(unravel(signs, reals))[0], dtype)
        return advanced(ravel(pushed, dtype), right, signs, immediate)

    left, right = jax.vmap(advance)(carry.left, carry.right, signs)
    value, direct, cotangent = loss_gradient(problem, params, new_state, y)
    recurrent = contracted(ravel(cotangent, dtype), left, right)
    grads = with_traced(problem, params, direct, recurrent, reals, weights)
    return UOROCarry(new_state, numbers, left, right), value, grads
