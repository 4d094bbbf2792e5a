"""Anticipated reweighted truncated back-propagation: cut at random, and made up for."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from ..._core.cell import Params, State, as_step
from ..._core.checks import check_arrays, check_key, dtype_of, shown
from ..._core.compat import is_concrete
from .._learner import Gradient
from .._leaves import at, split, steps_of
from .._problem import Problem, check_arguments, check_problem, checked_start, starting_state
from .bptt import total_loss

_REAL = (jnp.floating, jnp.integer)


def artbp(
    problem: Problem, params: Params, state: State, xs: Any, ys: Any, *, key: Array | None = None, cut: ArrayLike = 0.1
) -> Gradient:
    """Back-propagation that is cut at random between steps, and weighted so that its mean is the exact gradient.

        λ_t = ∂l_t/∂s_t + w_t λ_{t+1} ∂s_{t+1}/∂s_t        w_t = 0 with probability c_t, else 1/(1 - c_t)

    Unbiased for any c; its variance grows with c and with T. Where it is cut nothing further back is needed, so with a
    constant c the mean reach is 1/c steps. Here all steps are kept and differentiated none the less, as shapes are
    fixed: time and memory O(T), as `bptt`.

    Args:
      problem, params, state, xs, ys: see `bptt`.
      key: for the cuts.
      cut: c, in [0, 1): one number, or (T - 1,) for the cuts after steps 1 … T-1. Under a transformation its values
        are not known: those outside then give NaN.

    Returns:
      `Gradient`: L, the estimate of its gradient and the last state.

    Raises:
      ValueError: cut outside [0, 1) or of another shape, no key; as `bptt`.
      TypeError: cut is no real number, key is no key; as `bptt`.

    Source: Tallec and Ollivier 2017, arXiv:1705.08209.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(jr.rnn, loss=lambda params, h, y: jnp.sum(h))
    >>> params = jr.rnn.init(jax.random.key(0), 3, 8)
    >>> key = jax.random.key(1)
    >>> value, grads, state = gradients.artbp(problem, params, jnp.zeros(8), jnp.ones((5, 3)), None, key=key)
    >>> grads.weight_hh.shape
    (8, 8)
    """
    check_problem(problem)
    steps = check_arguments(params, state, xs, ys)
    if key is None:
        raise ValueError("artbp cuts at random: it needs a key, as from jax.random.key(0), got None")
    check_key("key", key)
    check_arrays("cut", cut)
    if not jax.tree_util.all_leaves([cut]) or not any(jnp.issubdtype(dtype_of(cut), kind) for kind in _REAL):
        raise TypeError(f"cut must be a real number, or one between any two steps, got {shown(cut)}")
    if is_concrete(cut) and not (np.all(np.asarray(cut) >= 0) and np.all(np.asarray(cut) < 1)):
        raise ValueError(f"cut must lie in [0, 1), got {shown(cut)}")
    if jnp.shape(cut) not in ((), (steps - 1,)):
        raise ValueError(f"cut has shape {jnp.shape(cut)}, expected () or {(steps - 1,)}: one between any two steps")
    return _artbp(problem, params, state, xs, ys, key, cut)


@functools.partial(jax.jit, static_argnames="problem")
def _artbp(problem: Problem, params: Params, state: State, xs: Any, ys: Any, key: Array, cut: ArrayLike) -> Gradient:
    """At module level, so that an eager call traces once."""
    cut = jnp.broadcast_to(jnp.asarray(cut, jnp.result_type(float)), steps_of(xs, ys) - 1)
    is_valid = (cut >= 0) & (cut < 1)  # a traced cut is not checked before
    kept = jax.random.bernoulli(key, 1 - cut) | ~is_valid
    return with_cuts(problem, params, state, xs, ys, kept, jnp.where(is_valid, 1 / (1 - cut), jnp.nan))


@jax.named_scope("jaxrnn.gradients.artbp")
def with_cuts(
    problem: Problem, params: Params, state: State, xs: Any, ys: Any, kept: Array, weights: Array
) -> Gradient:
    """The gradient with the cuts where `kept` (T - 1,) is False, and weights (T - 1,) where it is not.

    A weight of 1/(1 - c) is no number of few bits, and rounded at every step it would be biased in their product. So
    what goes back is not λ_t but μ_t = λ_t / p_t, with p_t the product of the weights from t on to the next cut, in
    float32: losses are divided by it, gradients of parameters multiplied, and between steps there is no weight.

        μ_t = ∂l_t/∂s_t / p_t + μ_{t+1} ∂s_{t+1}/∂s_t [kept]        dL/dθ = Σ_t ∂l_t/∂θ + p_t μ_t ∂s_t/∂θ
    """
    checked_start(problem, params, state, at(xs, 0))
    products = _products(kept, weights)
    before = jnp.concatenate([jnp.ones(1, bool), kept])  # whether λ passes on to the step before

    def total(params: Params) -> tuple[Array, State]:
        start = starting_state(problem, params, state)
        start = _reals(lambda a: _scaled_on_the_way_back(a, products[0]), start)
        return total_loss(_weighted(problem), params, start, (xs, before, products), (ys, products))

    (value, final), grads = jax.value_and_grad(total, has_aux=True)(params)
    return Gradient(value, grads, final)


def _products(kept: Array, weights: Array) -> Array:
    """p_t (T,), back from the last step, 1 after which there is none."""

    def back(product: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        kept, weight = step
        product = jnp.where(kept, product * weight, 1)
        return product, product

    last = jnp.ones((), weights.dtype)
    return jnp.append(lax.scan(back, last, (kept, weights), reverse=True)[1], last)


@functools.lru_cache
def _weighted(problem: Problem) -> Problem:
    """The problem whose cotangents are weighted on their way back, and cut."""
    step, loss = functools.partial(_weighted_step, problem), functools.partial(_weighted_loss, problem)
    return problem._replace(step=step, loss=loss, initial_state=None)


def _weighted_step(problem: Problem, selected: Params, state: State, inputs: tuple[Any, Array, Array]) -> State:
    x, is_kept, product = inputs
    state = _reals(lambda a: jnp.where(is_kept, a, lax.stop_gradient(a)), state)
    return as_step(problem.step)(_reals(lambda a: _scaled_on_the_way_back(a, product), selected), state, x)


def _weighted_loss(problem: Problem, params: Params, state: State, inputs: tuple[Any, Array]) -> Array:
    y, product = inputs
    return problem.loss(params, _reals(lambda a: _scaled_on_the_way_back(a, 1 / product), state), y)


def _reals(function: Callable[[Array], Array], tree: Any) -> Any:
    """The tree with what is differentiated of it replaced."""
    reals, rebuild = split(tree)
    return rebuild(list(map(function, reals)))


@jax.custom_jvp
def _scaled_on_the_way_back(a: Array, weight: Array) -> Array:
    """a, whose cotangent is multiplied by the weight, in the weight's dtype, and rounded once."""
    del weight
    return a


@_scaled_on_the_way_back.defjvp
def _scaled_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    a, weight = primals
    return a, (weight * tangents[0].astype(weight.dtype)).astype(a.dtype)
