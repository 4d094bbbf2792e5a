"""Lyapunov exponents: the rates at which small changes of the state grow or shrink along a trajectory."""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .._core.cell import Cell, Params, State, Step
from .._core.checks import check_array, check_int
from .._core.compat import is_concrete
from .._core.time import split_time
from ..gradients import reals
from ..gradients._leaves import ravel
from ..gradients._norms import nonzero, norm
from ._system import checked_sequence, linearised, size_of

_ROUNDING = 2  # times √n ε, of the longest column: what products and QR leave of a column that depends on others


class Lyapunov(NamedTuple):
    """Lyapunov exponents of a trajectory, and what follows from them.

    Fields:
      exponents: (k,) nats per step, the largest first.
      standard_errors: (k,) of each, from blocks of the trajectory; nan of fewer than two, or where it is -inf.
      dimension: `kaplan_yorke_dimension`.
      entropy: `entropy_rate`.
      state: the state after the last step.
    """

    exponents: Array
    standard_errors: Array
    dimension: Array
    entropy: Array
    state: State


def lyapunov_spectrum(
    step: Cell | Step,
    params: Params,
    state: State,
    xs: Any,
    k: int | None = None,
    warmup: int = 0,
    *,
    every: int = 1,
    length: int | None = None,
) -> Array:
    """The k largest Lyapunov exponents along a trajectory, in nats per step.

        J_t Q_{t-1} = Q_t R_t        λ_i = mean_t log|R_t[i, i]|        t = warmup + 1 … T

    Works inside `jax.jit`, by `jax.vmap` on an ensemble, and can be differentiated, also through QR. `lyapunov` gives
    the same with standard errors.

    Args:
      step, params, state, xs, k, warmup, every, length: see `lyapunov`.

    Returns:
      (k,), the largest first.

    Raises:
      ValueError, TypeError: as `lyapunov`.

    Source: Benettin et al. 1980, Meccanica 15; Engelken et al. 2020, arXiv:2006.02427.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import dynamics
    >>> step = lambda w, h, x: w @ h + x
    >>> w = jnp.diag(jnp.array([0.5, 2.]))
    >>> found = dynamics.lyapunov_spectrum(step, w, jnp.zeros(2), jnp.zeros(99), warmup=50)
    >>> [round(value, 4) for value in found.tolist()]
    [0.6931, -0.6931]
    """
    return lyapunov(step, params, state, xs, k, warmup, every=every, length=length).exponents


def lyapunov(
    step: Cell | Step,
    params: Params,
    state: State,
    xs: Any,
    k: int | None = None,
    warmup: int = 0,
    *,
    every: int = 1,
    blocks: int = 10,
    length: int | None = None,
) -> Lyapunov:
    """The k largest Lyapunov exponents along a trajectory, with standard errors, dimension and entropy rate.

        J_t Q_{t-1} = Q_t R_t        λ_i = mean_t log|R_t[i, i]|        t = warmup + 1 … T

    Q_0 has k random orthonormal columns, the same in every call. A step takes k Jacobian-vector products and a QR
    decomposition, O(k n² + n k²); no Jacobian is formed. With k=1 there is no QR, but one vector and its length: the
    cheap way to the largest exponent.

    Where a column is no more than rounding of the longest one, the exponent is -inf: a rank is lost, or a direction
    shrinks by more than the numbers can tell, 1e-6 in float32. Inside `jax.jit` or `jax.vmap` all exponents of a
    trajectory that leaves the finite numbers are nan, outside it is an error.

    Args:
      step: a `jr.Cell`, or a function (params, state, x) -> state.
      params: θ.
      state: s_0, any pytree, without a batch axis; `linearise` says how it is flattened.
      xs: inputs, (T, ...) per leaf, data or noise; None for a system without input.
      k: how many exponents, up to n, the real numbers in the state; None for all n.
      warmup: first steps, in which the state finds its attractor and Q its directions, and nothing is counted.
      every: steps between two QR decompositions; the more, the faster, up to where products of so many Jacobians lose
        the smaller directions in rounding.
      blocks: of successive steps, whose means give the standard errors; right if they are longer than the
        trajectory's correlations.
      length: T, if xs is None.

    Returns:
      `Lyapunov`: exponents, standard errors, dimension, entropy rate, and the state after the last step.

    Raises:
      ValueError: k is above n; T is no more than warmup, not known or not the same everywhere; the state is not finite,
        or a later one; the step changes the state's structure, a shape or a dtype.
      TypeError: step is no step, or params, state or xs have a leaf that is no array.

    Source: Benettin et al. 1980, Meccanica 15; Engelken et al. 2020, arXiv:2006.02427.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import dynamics
    >>> def henon(params, state, x):
    ...     return {"x": 1 - 1.4 * state["x"] ** 2 + state["y"], "y": 0.3 * state["x"]}
    >>> found = dynamics.lyapunov(henon, (), {"x": 0.1, "y": 0.1}, None, warmup=100, length=5000)
    >>> bool(abs(found.exponents[0] - 0.41922) < 4 * found.standard_errors[0]), round(float(found.dimension), 1)
    (True, 1.3)
    """
    state, inputs = checked_sequence(step, params, state, xs, length)
    steps, size = len(inputs[1]), size_of(state)
    for name, value, minimum in (("warmup", warmup, 0), ("every", every, 1), ("blocks", blocks, 2)):
        check_int(name, value, minimum)
    if warmup >= steps:
        raise ValueError(f"warmup is {warmup}, of T = {steps} steps: none is left to measure")
    k = size if k is None else k
    check_int("k", k)
    if k > size:
        raise ValueError(f"k is {k}, above n = {size}, the real numbers in the state")
    found, failed = _lyapunov(step, params, state, inputs, k=k, warmup=warmup, every=every, blocks=blocks)
    if is_concrete(failed) and failed < steps:
        raise ValueError(
            f"the state, or what becomes of small changes of it, is not finite by step {failed + 1} of T = {steps}"
        )
    return found


@functools.partial(jax.jit, static_argnames=("step", "k", "warmup", "every", "blocks"))
def _lyapunov(
    step: Cell | Step,
    params: Params,
    state: State,
    inputs: tuple[Any, Array],
    *,
    k: int,
    warmup: int,
    every: int,
    blocks: int,
) -> tuple[Lyapunov, Array]:
    """With the index of the first step by which something is not finite, T if there is none."""
    counted = len(inputs[1]) - warmup
    early, late = jax.tree.map(lambda a: a[:warmup], inputs), jax.tree.map(lambda a: a[warmup:], inputs)
    carry, warmup_logs = _windows(step, params, (state, _frame(state, k)), early, every)
    (state, _), logs = _windows(step, params, carry, late, every)
    exponents = jnp.sum(logs, axis=0) / counted
    order = jnp.argsort(-exponents)
    found = Lyapunov(
        exponents[order],
        _standard_errors(logs, every, counted, blocks)[order],
        kaplan_yorke_dimension(exponents[order], size_of(state)),
        entropy_rate(exponents[order], size_of(state)),
        state,
    )
    last_steps = np.concatenate([_ends(warmup, every), warmup + _ends(counted, every)]) - 1
    failed = jnp.any(jnp.isnan(jnp.concatenate([warmup_logs, logs])), axis=1)
    return found, jnp.min(jnp.where(failed, last_steps, warmup + counted))


def _frame(state: State, k: int) -> Array:
    """(n, k), orthonormal columns; random, as others may be at right angles to what grows."""
    rows = jax.random.normal(jax.random.key(0), (k, size_of(state)), ravel(reals(state)).dtype)
    return jnp.linalg.qr(rows.T)[0]


def _ends(steps: int, every: int) -> np.ndarray:
    """The number of steps by the end of each window."""
    return np.minimum(every * np.arange(1, -(-steps // every) + 1), steps)


def _windows(
    step: Cell | Step, params: Params, carry: tuple[State, Array], inputs: tuple[Any, Array], every: int
) -> tuple[tuple[State, Array], Array]:
    """The carry after all of the inputs, and the logarithms (windows, k) of how columns grew in each."""
    run = functools.partial(_window, step, params)
    whole = len(inputs[1]) // every * every
    carry, logs = lax.scan(run, carry, split_time(jax.tree.map(lambda a: a[:whole], inputs), every))
    if whole == len(inputs[1]):
        return carry, logs
    carry, last = run(carry, jax.tree.map(lambda a: a[whole:], inputs))
    return carry, jnp.concatenate([logs, last[None]])


def _window(
    step: Cell | Step, params: Params, carry: tuple[State, Array], inputs: tuple[Any, Array]
) -> tuple[tuple[State, Array], Array]:
    """Some steps, and a QR decomposition after them."""

    def advance(carry: tuple[State, Array], now: tuple[Any, Array]) -> tuple[tuple[State, Array], None]:
        state, columns = carry
        local = linearised(step, params, state, now[0])
        return (local.state, jax.vmap(local.push, 1, 1)(columns)), None

    (state, columns), _ = lax.scan(advance, carry, inputs, unroll=len(inputs[1]) == 1)
    frame, lengths = _orthonormal(columns, _epsilon(state))
    is_finite = jnp.all(jnp.isfinite(ravel(reals(state)))) & jnp.all(jnp.isfinite(columns))
    logs = jnp.where(lengths > 0, jnp.log(nonzero(lengths)), -jnp.inf)
    return (state, frame), jnp.where(is_finite, logs, jnp.nan)


def _epsilon(state: State) -> float:
    """The rounding of its numbers, the coarsest."""
    return max(float(jnp.finfo(a.dtype).eps) for a in reals(state))


def _orthonormal(columns: Array, epsilon: float) -> tuple[Array, Array]:
    """Orthonormal columns that span the same, and |R[i, i]|, 0 where it is no more than rounding."""
    if columns.shape[1] == 1:
        length = norm(columns)
        return columns / nonzero(length), length[None]
    frame, triangle = jnp.linalg.qr(columns)
    lengths = jnp.abs(jnp.diagonal(triangle))
    rounding = _ROUNDING * len(columns) ** 0.5 * epsilon * jnp.max(jax.vmap(norm, 1)(columns))
    return frame, jnp.where(lengths > rounding, lengths, 0)


def _standard_errors(logs: Array, every: int, counted: int, blocks: int) -> Array:
    """Of the mean over blocks of windows, which may differ by one window in length."""
    edges = np.linspace(0, len(logs), min(blocks, len(logs)) + 1).astype(int)
    ends = np.concatenate([[0], _ends(counted, every)])
    means = [jnp.sum(logs[a:b], axis=0) / float(ends[b] - ends[a]) for a, b in itertools.pairwise(edges)]
    if len(means) < 2:
        return jnp.full_like(logs[0], jnp.nan)
    return jnp.std(jnp.stack(means), axis=0, ddof=1) / len(means) ** 0.5


def kaplan_yorke_dimension(exponents: Array, size: int) -> Array:
    """The dimension that Lyapunov exponents give an attractor.

        D = j + Σ_{i≤j} λ_i / |λ_{j+1}|,  j the largest with Σ_{i≤j} λ_i ≥ 0;  0 if λ_1 < 0, n if the sum of all is ≥ 0

    Args:
      exponents: (k,), the largest first.
      size: n, how many the system has.

    Returns:
      D; nan if k < n and their sum is not negative, as more of them are needed.

    Raises:
      ValueError: exponents have another shape, or are more than size.
      TypeError: exponents are no array, size is no int.

    Source: Kaplan and Yorke 1979.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import dynamics
    >>> round(float(dynamics.kaplan_yorke_dimension(jnp.array([0.41922, -1.62319]), 2)), 4)    # of the Hénon map
    1.2583
    """
    exponents = _checked_exponents(exponents, size)
    sums = jnp.cumsum(exponents)
    falls = jnp.append(sums < 0, True)
    j = jnp.argmax(falls)
    before = jnp.where(j > 0, sums[jnp.maximum(j, 1) - 1], 0)
    rest = jnp.abs(exponents[jnp.minimum(j, len(exponents) - 1)])
    between = j.astype(exponents.dtype) + before / nonzero(rest)
    beyond = jnp.asarray(size if len(exponents) == size else jnp.nan, exponents.dtype)
    dimension = jnp.where(j < len(exponents), between, beyond)
    return jnp.where(jnp.any(jnp.isnan(exponents)), jnp.nan, dimension)


def entropy_rate(exponents: Array, size: int) -> Array:
    """The rate at which a trajectory gives information on where it began, in nats per step: its upper bound.

        h = Σ max(λ_i, 0)

    Args:
      exponents: (k,), the largest first.
      size: n, how many the system has.

    Returns:
      h; nan if k < n and all of them are positive, as more of them are needed.

    Raises:
      ValueError, TypeError: as `kaplan_yorke_dimension`.

    Source: Ruelle 1978; equal for natural measures, Pesin 1977.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import dynamics
    >>> float(dynamics.entropy_rate(jnp.array([0.5, 0.25, -1.]), 3))
    0.75
    """
    exponents = _checked_exponents(exponents, size)
    is_whole = len(exponents) == size
    return jnp.where(is_whole | (exponents[-1] <= 0), jnp.sum(jnp.maximum(exponents, 0)), jnp.nan)


def _checked_exponents(exponents: Any, size: Any) -> Array:
    check_array("exponents", exponents)
    check_int("size", size)
    if exponents.ndim != 1 or not 1 <= len(exponents) <= size:
        raise ValueError(f"exponents have shape {exponents.shape}, expected (k,) with k from 1 to size = {size}")
    return jnp.asarray(exponents)
