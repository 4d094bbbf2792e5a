"""What a state still tells of the inputs before it, and how long it feels a change of a state before it."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._core.cell import Cell, Params, State, Step
from .._core.checks import check_array, check_int
from .._core.time import split_time
from ..gradients import reals
from ..gradients._leaves import ravel
from ..gradients._norms import nonzero
from ._jacobians import log_product_norms
from ._system import advanced, checked_sequence, jacobian, linearised, size_of, states_before


def memory_capacity(step: Cell | Step, params: Params, state: State, xs: Array, delays: int, warmup: int = 0) -> Array:
    """Linear memory: how much of the input some steps ago a linear read-out of the state can tell.

        MC_k = 1 - (1 - R²_k) (T - 1) / (T - r - 1),  R²_k of x_{t-k} by least squares from s_t and 1,  k = 0 … K-1

    It is the squared correlation of Jaeger, less what r numbers of the state (those that rounding tells apart) would
    reach by chance in T times. For inputs that are independent in time the sum over k is at most n.

    Args:
      step, params, state: see `jacobians`.
      xs: inputs (T, I), each column a signal; independent random numbers.
      delays: K.
      warmup: first steps, which the state needs to forget where it began; K - 1 at least are left out.

    Returns:
      (K, I): 1 if all of x_{t-k} is known, about 0 (to chance also below) if nothing is.

    Raises:
      ValueError: xs has another shape, or T leaves no more times than n + 1; else as `jacobians`.
      TypeError: as `jacobians`.

    Source: Jaeger 2001, GMD report 152.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import dynamics
    >>> shift = lambda w, h, x: jnp.concatenate([x, h[:-1]])                      # remembers five inputs
    >>> xs = jax.random.normal(jax.random.key(0), (1000, 1))
    >>> curve = dynamics.memory_capacity(shift, (), jnp.zeros(5), xs, delays=7)[:, 0]
    >>> [round(value, 1) for value in abs(curve).tolist()]
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    """
    check_array("xs", xs)
    if xs.ndim != 2:
        raise ValueError(f"xs has shape {xs.shape}, expected (T, I)")
    state, inputs = checked_sequence(step, params, state, xs, None)
    check_int("delays", delays)
    check_int("warmup", warmup, minimum=0)
    skipped = max(warmup, delays - 1)
    if len(xs) - skipped <= size_of(state) + 1:
        raise ValueError(
            f"xs has T = {len(xs)} time steps, of which warmup and delays leave {len(xs) - skipped}: expected more "
            f"than n + 1 = {size_of(state) + 1}, as many numbers are fitted"
        )
    return _capacity(step, params, state, inputs, delays, skipped)


@functools.partial(jax.jit, static_argnames=("step", "delays", "skipped"))
def _capacity(
    step: Cell | Step, params: Params, state: State, inputs: tuple[Array, Array], delays: int, skipped: int
) -> Array:
    def advance(state: State, now: tuple[Array, Array]) -> tuple[State, Array]:
        state = advanced(step, params, state, now[0])
        return state, ravel(reals(state))

    states = lax.scan(advance, state, inputs)[1][skipped:]
    centred = states - jnp.mean(states, axis=0, keepdims=True)
    basis, sizes, _ = jnp.linalg.svd(centred, full_matrices=False)
    known = sizes > len(states) ** 0.5 * jnp.finfo(sizes.dtype).eps * sizes[:1]
    times = jnp.arange(skipped, skipped + len(states))
    basis = jnp.where(known[None], basis, 0)
    unexplained = jnp.stack([_unexplained(basis, inputs[0][times - k]) for k in range(delays)])
    freedom = (len(states) - 1 - jnp.sum(known)).astype(sizes.dtype)
    return 1 - unexplained * (len(states) - 1) / freedom


def _unexplained(basis: Array, signal: Array) -> Array:
    """The fraction of the variance of a signal (T, I) at right angles to the columns of the basis (T, n)."""
    centred = signal - jnp.mean(signal, axis=0, keepdims=True)
    rest = centred - basis @ (basis.T @ centred)
    return jnp.sum(rest**2, axis=0) / jnp.sum(centred**2, axis=0)


class Decay(NamedTuple):
    """How the influence of a state on later ones fades.

    Fields:
      norms: (K,) |∂s_t/∂s_{t-k}|₂, k = 1 … K, the geometric mean over stretches of the trajectory.
      log_norms: (K,) their logarithms, -inf of 0.
      time_constant: τ of norms ~ exp(-k/τ), in steps, by least squares of the logarithms; negative if they grow, inf
        if they stay, 0 if nothing is felt.
    """

    norms: Array
    log_norms: Array
    time_constant: Array


def influence_decay(
    step: Cell | Step,
    params: Params,
    state: State,
    xs: Any,
    lags: int,
    warmup: int = 0,
    *,
    length: int | None = None,
) -> Decay:
    """How long a state feels a change of a state before it, with the time constant.

        |∂s_t/∂s_{t-k}|₂ ~ exp(-k/τ)        k = 1 … K

    After the warm-up the trajectory is cut into stretches of K steps, as many as there are whole ones, each of which
    gives one product of Jacobians for each k; what is left at the end is not used.

    Args:
      step, params, state, xs, length: see `jacobians`.
      lags: K, at least 2.
      warmup: first steps, in which the state finds its attractor.

    Returns:
      `Decay`: the norms, their logarithms, and τ.

    Raises:
      ValueError: fewer than K steps are left after the warm-up; else as `jacobians`.
      TypeError: as `jacobians`.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import dynamics
    >>> step = lambda w, h, x: w * h + x
    >>> decay = dynamics.influence_decay(step, jnp.array([0.9, 0.5]), jnp.zeros(2), jnp.zeros(100), lags=20)
    >>> round(float(decay.time_constant), 2)                                                # -1 / log 0.9
    9.49
    """
    state, inputs = checked_sequence(step, params, state, xs, length)
    check_int("lags", lags, minimum=2)
    check_int("warmup", warmup, minimum=0)
    steps = len(inputs[1])
    if steps - warmup < lags:
        raise ValueError(f"T is {steps}, of which warmup={warmup} leaves {max(steps - warmup, 0)}, below lags = {lags}")
    return _decay(step, params, state, inputs, lags, warmup)


@functools.partial(jax.jit, static_argnames=("step", "lags", "warmup"))
def _decay(step: Cell | Step, params: Params, state: State, inputs: tuple[Any, Array], lags: int, warmup: int) -> Decay:
    stop = warmup + (len(inputs[1]) - warmup) // lags * lags
    before = states_before(step, params, state, inputs)
    stretches = split_time(jax.tree.map(lambda a: a[warmup:stop], (before, inputs[0])), lags)

    def of_stretch(stretch: tuple[State, Any]) -> Array:
        matrices = jax.vmap(lambda state, x: jacobian(linearised(step, params, state, x)))(*stretch)
        return log_product_norms(matrices)

    logs = jnp.mean(lax.map(of_stretch, stretches), axis=0)
    return Decay(jnp.exp(logs), logs, _time_constant(logs))


def _time_constant(logs: Array) -> Array:
    """-1 / the slope over 1 … K."""
    lags = jnp.arange(len(logs), dtype=logs.dtype) - (len(logs) - 1) / 2
    slope = jnp.sum(lags * logs) / jnp.sum(lags**2)
    return jnp.where(jnp.any(jnp.isneginf(logs)), 0, jnp.where(slope == 0, jnp.inf, -1 / nonzero(slope)))
