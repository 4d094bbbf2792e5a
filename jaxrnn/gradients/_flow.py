"""How a gradient flows back through the states: its norms at every time, whole and for each loss by itself."""

import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .._core.cell import Cell, Params, State, as_step
from .._reports.flow import Flow, rate_of
from .._scan.loops import scan
from ._leaves import at, concrete, is_real, ravel, split, steps_of, unravel
from ._local import local_step, loss_gradient
from ._norms import nonzero, norm
from ._problem import Problem, check_arguments, check_parts, check_problem

MAP = 1000  # longer sequences are subsampled to at most as many times
_KRYLOV = 32  # directions in which the norm of a larger Jacobian is sought


def flow(problem: Problem, params: Params, state: State, xs: Any, ys: Any) -> Flow:
    """The norms of dL/ds_t and of dL_t/ds_k, and whether gradients vanish or explode on their way back.

        λ_t = dL/ds_t = ∂l_t/∂s_t + λ_{t+1} ∂s_{t+1}/∂s_t        dL_t/ds_k = ∂l_t/∂s_t ∂s_t/∂s_{t-1} … ∂s_{k+1}/∂s_k

        Ω = Σ_k (|λ_{k+1} ∂s_{k+1}/∂s_k| / |λ_{k+1}| - 1)²,  k = 1 … T-1, where λ_{k+1} ≠ 0

    The rate is the slope of log|dL_t/ds_k| over the lag t - k, by least squares with an intercept for each t; what is 0
    or not finite is left out, and counted. From it the verdict: "vanishing" or "exploding" if over T steps it makes a
    factor of more than 10, else "neither". The map of |dL_t/ds_k| has all times up to T = 1000, and of longer sequences
    every 2nd, 3rd, … one, back from T.

    The bound is γ|W_hh|₂ for cells that declare a slope γ, as `jr.rnn` and `jr.rnn_relu` do, 1 for tanh and relu: below
    1 it is sufficient for vanishing, above 1 necessary for exploding. For any other step it is sup_t |∂s_t/∂s_{t-1}|₂
    along this sequence, of the flattened state, of which no Jacobian is formed: exact up to 32 numbers in the state,
    above that by 32 steps of Golub and Kahan, from below.

    States are kept for all times; each loss of the map is propagated by itself, all side by side: time and memory are
    those of a batch of as many. The step is a `jr.Cell` or a function, and is called as it is.

    Args:
      problem, params, state, xs, ys: see `bptt`; values, so not inside `jax.jit`.

    Returns:
      A `Flow`: print it, or `.plot()` it.

    Raises:
      ValueError, TypeError: as `bptt`.

    Source: Pascanu et al. 2013, arXiv:1211.5063, eq. 9 for Ω, section 2 for the bounds.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(lambda w, h, x: w * h + x, loss=lambda w, h, y: y * h)
    >>> y = jnp.zeros(100).at[-1].set(1)                            # L = h_100, dL/dh_t = w^(100 - t)
    >>> flow = gradients.flow(problem, 0.9, 0., jnp.ones(100), y)
    >>> flow.verdict, round(flow.rate, 4), round(float(flow.total[-3]), 4)
    ('vanishing', -0.1054, 0.81)
    """
    check_problem(problem)
    steps = check_arguments(params, state, xs, ys)
    args = concrete((params, state, xs, ys), "flow reports on values: it cannot run inside jax.jit")
    stride = -(-steps // MAP)
    found = jax.tree.map(np.asarray, _flow(problem, stride, *args))
    of = "jacobian" if _slope(problem) is None else "weight_hh"
    times = np.arange(steps, 0, -stride)[::-1]
    norms = dict(zip(_paths(state), found.norms.T, strict=True))
    rate = rate_of(times, found.map)
    return Flow(found.total, norms, times, found.map, rate, float(found.omega), float(found.bound), of)


def _paths(state: State) -> list[str]:
    """Of the leaves that are differentiated."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return [jax.tree_util.keystr(path) or "state" for path, leaf in leaves if is_real(leaf)]


class _Found(NamedTuple):
    """What the passes give, of R times in the map."""

    norms: Array  # (T, state leaves)
    total: Array  # (T,)
    omega: Array
    map: Array  # (R, R)
    bound: Array


@functools.partial(jax.jit, static_argnames=("problem", "stride"))
def _flow(problem: Problem, stride: int, params: Params, state: State, xs: Any, ys: Any) -> _Found:
    """At module level, so that a second call does not trace again."""
    check_parts(problem, params, state, at(xs, 0))

    def forward(selected: Params, state: State, x: Any) -> tuple[State, tuple[State, State]]:
        new_state = as_step(problem.step)(selected, state, x)
        return new_state, (state, new_state)

    _, (before, after) = scan(forward, problem.select(params), state, xs, length=steps_of(xs, ys))
    norms, total, omega = _totals(problem, params, before, after, xs, ys)
    by_loss = _map(problem, stride, params, before, after, xs, ys)
    return _Found(norms, total, omega, by_loss, _bound(problem, params, before, xs))


def _totals(
    problem: Problem, params: Params, before: State, after: State, xs: Any, ys: Any
) -> tuple[Array, Array, Array]:
    """|λ_t| by leaf and in total, and Ω."""

    def backward(carry: tuple[list[Array], Array], inputs: tuple) -> tuple[tuple[list[Array], Array], tuple]:
        cotangent, previous = carry
        state, new_state, x, y = inputs
        arrived = norm(ravel(cotangent))
        term = jnp.where(previous == 0, 0, arrived / nonzero(previous) - 1) ** 2
        cotangent = jax.tree.map(operator.add, cotangent, loss_gradient(problem, params, new_state, y)[2])
        total = norm(ravel(cotangent))
        leaves = jnp.stack([norm(ravel([leaf])).astype(total.dtype) for leaf in cotangent])
        return (_pull(problem, params, state, x)(cotangent), total), (leaves, total, term)

    zeros = jax.tree.map(lambda a: jnp.zeros_like(a[0]), split(after)[0])
    start = (zeros, jnp.zeros((), ravel(zeros).dtype))
    _, (norms, total, terms) = lax.scan(backward, start, (before, after, xs, ys), reverse=True)
    return norms, total, jnp.sum(terms)


def _pull(problem: Problem, params: Params, state: State, x: Any) -> Any:
    """λ -> λ ∂s′/∂s at one step."""
    function, weights, reals = local_step(problem, params, state, x)
    _, pull, _ = jax.vjp(functools.partial(function, weights), reals, has_aux=True)
    return lambda cotangent: pull(cotangent)[0]


def _map(problem: Problem, stride: int, params: Params, before: State, after: State, xs: Any, ys: Any) -> Array:
    """|dL_t/ds_k| for every stride-th t (rows) and k (columns), back from T; 0 for k > t."""
    steps = steps_of(after)
    first, rows = (steps - 1) % stride, -(-steps // stride)
    sampled_states, sampled_ys = jax.tree.map(lambda a: a[first::stride], (after, ys))
    direct = jax.vmap(lambda state, y: loss_gradient(problem, params, state, y)[2])(sampled_states, sampled_ys)
    between = jax.tree.map(lambda a: a[first + 1 :].reshape(rows - 1, stride, *a.shape[1:]), (before, xs))

    def joined(cotangents: list[Array], row: Array) -> list[Array]:
        """The loss of one more time, in its row."""
        return jax.tree.map(lambda a, more: a.at[row].add(more[row]), cotangents, direct)

    def step_back(cotangents: list[Array], inputs: tuple[State, Any]) -> tuple[list[Array], None]:
        return jax.vmap(_pull(problem, params, *inputs))(cotangents), None

    def column(cotangents: list[Array], inputs: tuple) -> tuple[list[Array], Array]:
        row, segment = inputs
        cotangents = joined(cotangents, row)
        return lax.scan(step_back, cotangents, segment, reverse=True)[0], _row_norms(cotangents)

    zeros = jax.tree.map(jnp.zeros_like, direct)
    cotangents, columns = lax.scan(column, zeros, (jnp.arange(1, rows), between), reverse=True)
    return jnp.concatenate([_row_norms(joined(cotangents, jnp.zeros((), int)))[None], columns]).T


def _row_norms(cotangents: list[Array]) -> Array:
    return jax.vmap(lambda leaves: norm(ravel(leaves)))(cotangents)


def _slope(problem: Problem) -> float | None:
    """γ, where the step declares one."""
    affine = problem.step.affine if isinstance(problem.step, Cell) else None
    return affine.slope if affine else None


def _bound(problem: Problem, params: Params, before: State, xs: Any) -> Array:
    """γ|W_hh|₂ where it is known to bound every Jacobian, else the largest norm of one."""
    if (slope := _slope(problem)) is not None:
        return slope * _spectral_norm(problem.select(params).weight_hh)

    def larger(largest: Array, inputs: tuple[State, Any]) -> tuple[Array, None]:
        return jnp.maximum(largest, _jacobian_norm(problem, params, *inputs)), None

    dtype = ravel(at(split(before)[0], 0)).dtype
    return lax.scan(larger, jnp.zeros((), dtype), (before, xs))[0]


def _jacobian_norm(problem: Problem, params: Params, state: State, x: Any) -> Array:
    """|J|₂ on the span of v, JᵀJ v, (JᵀJ)² v, … (Golub and Kahan 1965); on all of the space if it is small."""
    function, weights, reals = local_step(problem, params, state, x)
    _, push = jax.linearize(lambda reals: function(weights, reals)[0], reals)
    pull = _pull(problem, params, state, x)
    size, dtype = ravel(reals).size, ravel(reals).dtype
    count = min(size, _KRYLOV)

    def add(row: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        basis, images, direction = carry
        basis = basis.at[row].set(direction / nonzero(norm(direction)))
        image = push(unravel(basis[row], reals))
        back = ravel(pull(image))
        return basis, images.at[row].set(ravel(image)), _orthogonal(back, basis)

    zeros = jnp.zeros((count, size), dtype)
    start = jax.random.normal(jax.random.key(0), (size,), dtype)
    _, images, _ = lax.fori_loop(0, count, add, (zeros, zeros, start))
    return _spectral_norm(images)


def _spectral_norm(matrix: Array) -> Array:
    """The largest singular value."""
    return jnp.linalg.norm(ravel([matrix]).reshape(matrix.shape), 2)


def _orthogonal(vector: Array, basis: Array) -> Array:
    """What the rows of the basis do not span of it, and 0 if that is rounding errors, as those span anything."""
    rest = vector
    for _ in range(2):  # once leaves rounding errors along the basis, twice is enough
        rest = rest - (basis @ rest) @ basis
    return jnp.where(norm(rest) > vector.size * jnp.finfo(vector.dtype).eps * norm(vector), rest, 0)
