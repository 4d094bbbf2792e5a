"""Anticipated reweighted truncated back-propagation: cut at random, and made up for."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from ..._core.cell import Params, State, as_step
from ..._core.checks import check_arrays, check_key, dtype_of, shown
from ..._core.compat import is_concrete
from .._learner import Gradient
from .._leaves import at, split, steps_of
from .._problem import Problem, check_arguments, check_parts, check_problem
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
@jax.named_scope("jaxrnn.gradients.artbp")
def _artbp(problem: Problem, params: Params, state: State, xs: Any, ys: Any, key: Array, cut: ArrayLike) -> Gradient:
    """At module level, so that an eager call traces once."""
    check_parts(problem, params, state, at(xs, 0))
    cut = jnp.broadcast_to(jnp.asarray(cut, jnp.result_type(float)), steps_of(xs, ys) - 1)
    kept = jax.random.bernoulli(key, 1 - cut)
    weights = jnp.where(kept, 1 / (1 - cut), 0)
    weights = jnp.where((cut >= 0) & (cut < 1), weights, jnp.nan)  # a traced cut is not checked before
    weights = jnp.concatenate([jnp.ones(1, cut.dtype), weights])

    def step(selected: Params, state: State, inputs: tuple[Any, Array]) -> State:
        x, weight = inputs
        return as_step(problem.step)(selected, _weighted(state, weight), x)

    cut_problem = problem._replace(step=step)
    total = functools.partial(total_loss, cut_problem, state=state, xs=(xs, weights), ys=ys)
    (value, final), grads = jax.value_and_grad(total, has_aux=True)(params)
    return Gradient(value, grads, final)


def _weighted(state: State, weight: Array) -> State:
    """The same state, whose cotangent is multiplied by the weight on its way back."""
    reals, with_reals = split(state)
    return with_reals([_scaled_on_the_way_back(a, weight.astype(a.dtype)) for a in reals])


@jax.custom_jvp
def _scaled_on_the_way_back(a: Array, weight: Array) -> Array:
    del weight
    return a


@_scaled_on_the_way_back.defjvp
def _scaled_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return primals[0], primals[1] * tangents[0]
