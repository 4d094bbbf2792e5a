"""How a gradient flows back through the states: its norms at every time, whole and for each loss by itself."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .._core.cell import Cell, Params, State, as_step
from .._reports.flow import Flow, rate_of
from .._scan.loops import scan
from ._leaves import at, concrete, ravel, slices, split, steps_of, unravel
from ._local import local_step, loss_gradient, push_of
from ._norms import Scaled, nonzero, norm, scaled
from ._problem import Problem, check_arguments, check_parts, check_problem, starting_state

MAP = 1000  # longer sequences are subsampled to at most as many times
_KRYLOV = 32  # directions in which the norm of a larger Jacobian is sought


def flow(problem: Problem, params: Params, state: State, xs: Any, ys: Any) -> Flow:
    """The norms of dL/ds_t and of dL_t/ds_k, and whether gradients vanish or explode on their way back.

        λ_t = dL/ds_t = ∂l_t/∂s_t + λ_{t+1} ∂s_{t+1}/∂s_t        dL_t/ds_k = ∂l_t/∂s_t ∂s_t/∂s_{t-1} … ∂s_{k+1}/∂s_k

        Ω = Σ_k (|λ_{k+1} ∂s_{k+1}/∂s_k| / |λ_{k+1}| - 1)²,  k = 1 … T-1, where λ_{k+1} ≠ 0

    The gradient is scaled on its way back, so that it neither overflows nor underflows: norms are float64 numbers for
    states of any dtype, beyond 1.8e308 inf and below 4.9e-324 0, which are counted. The rate is the slope of
    log|dL_t/ds_k| over the lag t - k, by least squares with an intercept for each t, norms beyond that range included;
    what is left out is where a state is not finite, or no gradient arrives. From it the verdict: "vanishing" or
    "exploding" if over T steps it makes a factor of more than 10, else "neither". The map of |dL_t/ds_k| has all times
    up to T = 1000, and of longer sequences every 2nd, 3rd, … one, back from T.

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
    state = starting_state(problem, params, state)
    args = concrete((params, state, xs, ys), "flow reports on values: it cannot run inside jax.jit")
    stride = -(-steps // MAP)
    found = jax.tree.map(np.asarray, _flow(problem, stride, *args))
    of = "jacobian" if _slope(problem) is None else "weight_hh"
    times = np.arange(steps, 0, -stride)[::-1]
    paths = (jax.tree_util.keystr(path) or "state" for path, _ in slices(args[1]))
    norms = dict(zip(paths, found.norms.value().T, strict=True))
    rate, numbers = rate_of(times, found.map.log()), (float(found.omega), float(found.bound))
    return Flow(found.total.value(), norms, times, found.map.value(), rate, *numbers, of)


class _Norms(NamedTuple):
    """number · 2^exponent, as a gradient over many steps may be beyond what a float32 or float64 holds."""

    number: Array
    exponent: Array

    def value(self) -> np.ndarray:
        """In float64; beyond that 0 or inf."""
        with np.errstate(over="ignore", under="ignore"):
            return np.ldexp(np.asarray(self.number, float), self.exponent)

    def log(self) -> np.ndarray:
        """Its natural logarithm, -inf of 0."""
        with np.errstate(divide="ignore"):
            return np.log(np.asarray(self.number, float)) + np.asarray(self.exponent) * np.log(2)


class _Found(NamedTuple):
    """What the passes give, of R times in the map."""

    norms: _Norms  # (T, state leaves)
    total: _Norms  # (T,)
    omega: Array
    map: _Norms  # (R, R)
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
) -> tuple[_Norms, _Norms, Array]:
    """|λ_t| by leaf and in total, and Ω."""
    first = at(after, 0)
    reals, leaves_at = split(first)[0], [where for _, where in slices(first)]

    def backward(carry: tuple[Scaled, _Norms], inputs: tuple) -> tuple[tuple[Scaled, _Norms], tuple]:
        cotangent, previous = carry
        state, new_state, x, y = inputs
        arrived = jnp.ldexp(norm(cotangent.vector), jnp.clip(cotangent.exponent - previous.exponent, -9999, 9999))
        term = jnp.where(previous.number == 0, 0, arrived / nonzero(previous.number) - 1) ** 2
        cotangent = cotangent.plus(scaled(ravel(loss_gradient(problem, params, new_state, y)[2])))
        leaves = jnp.stack([norm(cotangent.vector[where]) for where in leaves_at])
        total = _norm_of(cotangent)
        return (_back(_pull(problem, params, state, x), reals, cotangent), total), (leaves, total, term)

    zero = scaled(jnp.zeros_like(ravel(reals)))
    start = (zero, _norm_of(zero))
    _, (norms, total, terms) = lax.scan(backward, start, (before, after, xs, ys), reverse=True)
    return _Norms(norms, total.exponent[:, None]), total, jnp.sum(terms)


def _back(pull: Any, reals: list[Array], cotangent: Scaled) -> Scaled:
    """λ ∂s′/∂s."""
    return scaled(ravel(pull(unravel(cotangent.vector, reals)), cotangent.vector.dtype), cotangent.exponent)


def _pull(problem: Problem, params: Params, state: State, x: Any) -> Any:
    """λ -> λ ∂s′/∂s at one step."""
    function, weights, reals = local_step(problem, params, state, x)
    _, pull, _ = jax.vjp(functools.partial(function, weights), reals, has_aux=True)
    return lambda cotangent: pull(cotangent)[0]


def _map(problem: Problem, stride: int, params: Params, before: State, after: State, xs: Any, ys: Any) -> _Norms:
    """|dL_t/ds_k| for every stride-th t (rows) and k (columns), back from T; 0 for k > t."""
    steps = steps_of(after)
    first, rows = (steps - 1) % stride, -(-steps // stride)
    sampled_states, sampled_ys = jax.tree.map(lambda a: a[first::stride], (after, ys))
    reals = at(split(after)[0], 0)
    direct = jax.vmap(lambda state, y: scaled(ravel(loss_gradient(problem, params, state, y)[2])))(
        sampled_states, sampled_ys
    )
    between = jax.tree.map(lambda a: a[first + 1 :].reshape(rows - 1, stride, *a.shape[1:]), (before, xs))

    def joined(cotangents: Scaled, row: Array) -> Scaled:
        """The loss of one more time, in its row."""
        return jax.tree.map(lambda a, more: a.at[row].set(more[row]), cotangents, direct)

    def step_back(cotangents: Scaled, inputs: tuple[State, Any]) -> tuple[Scaled, None]:
        return jax.vmap(functools.partial(_back, _pull(problem, params, *inputs), reals))(cotangents), None

    def column(cotangents: Scaled, inputs: tuple) -> tuple[Scaled, _Norms]:
        row, segment = inputs
        cotangents = joined(cotangents, row)
        return lax.scan(step_back, cotangents, segment, reverse=True)[0], jax.vmap(_norm_of)(cotangents)

    zeros = jax.vmap(scaled)(jnp.zeros_like(direct.vector))
    cotangents, columns = lax.scan(column, zeros, (jnp.arange(1, rows), between), reverse=True)
    first_column = jax.vmap(_norm_of)(joined(cotangents, jnp.zeros((), int)))
    return jax.tree.map(lambda a, others: jnp.concatenate([a[None], others]).T, first_column, columns)


def _norm_of(vector: Scaled) -> _Norms:
    return _Norms(norm(vector.vector), vector.exponent)


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
    pull, reals = _pull(problem, params, state, x), split(state)[0]
    push = push_of(pull, reals)
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
