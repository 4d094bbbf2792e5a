"""What a report measures on a network: gradient flow, exponents, singular values over lag, fixed points, weights."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import dynamics, gradients
from jaxrnn.dynamics import FixedPoints

from .. import _memory
from .subject import Subject

EXPONENTS = 64  # at most
NOISE = 0.1  # of candidates for fixed points, in standard deviations of the states
ENOUGH = 4  # sequences, or blocks of one, for a standard error
SURVIVES = 0.1  # of its length, what a direction keeps that is told to survive
COARSEST = 1e-5  # rounding of states whose fixed points are sought
STILL = 1e-3  # of the largest standard deviation of a number of the state, below which it does not move


class Effort(NamedTuple):
    """How much is done for a network, so that none takes more than a few minutes."""

    windows: int  # in which singular values are measured
    longest: int  # lag
    candidates: int  # for fixed points
    iterations: int  # of the search from each


def effort(size: int) -> Effort:
    """The more numbers in the state, the less."""
    if size <= 64:
        return Effort(16, 128, 256, 1000)
    return Effort(4, 128, 64, 300) if size <= 256 else Effort(1, 64, 32, 200)


class Refused(NamedTuple):
    """In place of a measurement: why there is none."""

    why: str


class Spectrum(NamedTuple):
    """The k largest Lyapunov exponents, means over sequences.

    Fields:
      exponents: (k,) nats per step; -inf for what is lost.
      standard_errors: (k,), nan if they cannot be told.
      dimension, entropy: Kaplan and Yorke's; of the entropy the bound; nan if k does not suffice.
      warmup, steps: not counted, and counted of each sequence.
    """

    exponents: np.ndarray
    standard_errors: np.ndarray
    dimension: float
    entropy: float
    warmup: int
    steps: int


class Lag(NamedTuple):
    """The singular values of ∂s_t/∂s_{t-lag}, over windows.

    Fields:
      lag: steps.
      values: (windows, n), the largest first; nan where they are no more than rounding of the largest one.
    """

    lag: int
    values: np.ndarray

    @property
    def largest(self) -> float:
        """The geometric mean over windows; 0 if nothing is felt."""
        return _geometric_mean(self.values[:, 0])

    @property
    def median(self) -> float:
        """The same of the median direction; nan if that is lost in rounding."""
        return _geometric_mean(self.values[:, (self.values.shape[1] - 1) // 2])

    @property
    def surviving(self) -> float:
        """Directions that keep a tenth of their length, the mean over windows."""
        return float(np.mean(np.sum(np.nan_to_num(self.values) >= SURVIVES, axis=1)))


def _geometric_mean(values: np.ndarray) -> float:
    with np.errstate(divide="ignore"):
        return float(np.exp(np.mean(np.log(values))))


class Points(NamedTuple):
    """Fixed points, the trajectories to draw them among, and the input that was held."""

    found: FixedPoints
    trajectories: np.ndarray  # (N, T, n)
    held: str


class Weights(NamedTuple):
    """A recurrent matrix of one gate."""

    path: str
    gate: int
    radius: float
    norm: float


class Activity(NamedTuple):
    """What the numbers of the state do: how many there are, and how many never move."""

    size: int
    still: int
    largest: float  # magnitude


class Measured(NamedTuple):
    """All of it, of one network."""

    subject: Subject
    flows: list[gradients.Flow] | Refused  # of each sequence
    spectrum: Spectrum | Refused
    lags: list[Lag] | Refused
    points: Points | Refused
    weights: list[Weights] | Refused
    activity: Activity


def check_memory(subject: Subject) -> None:
    """An error if the gradients or the Jacobians would not fit."""
    size, steps, of = subject.size, subject.steps, effort(subject.size)
    states = 4 * 4 * subject.sequences * steps * size
    frames = 4 * 6 * subject.sequences * min(size, EXPONENTS) * size
    maps = min(steps, 1000)
    flow = 4 * size * (2 * steps + 4 * maps) + 16 * maps**2
    products = 4 * 4 * of.windows * of.longest * size**2
    points = 4 * size * (25 * of.candidates + 4 * 64 * size)
    _memory.check_bytes(
        "the number of steps in xs, or take a smaller network", states + max(flow, frames, products, points)
    )


def measure(subject: Subject, seed: int, told: Callable[[str], None]) -> Measured:
    """All measurements; `told` hears what comes next. What cannot be measured says why."""

    def attempt(what: str, function: Callable[[], Any]) -> Any:
        told(what)
        try:
            return function()
        except ValueError as error:
            return Refused(str(error).splitlines()[0])

    states = subject.states()
    flat = np.asarray(_flat(states))
    if not np.isfinite(flat).all():
        sequence, step = np.argwhere(~np.isfinite(flat).all(axis=-1))[0]
        unmeasured = Refused(f"the state is not finite from step {step + 1} of sequence {sequence + 1} on")
        activity = Activity(subject.size, 0, math.inf)
        weights = attempt("weights", lambda: _weights(subject))
        return Measured(subject, unmeasured, unmeasured, unmeasured, unmeasured, weights, activity)
    return Measured(
        subject,
        attempt("gradient flow", lambda: _flows(subject)),
        attempt("Lyapunov exponents", lambda: _spectrum(subject)),
        attempt("singular values", lambda: _lags(subject, states)),
        attempt("fixed points", lambda: _points(subject, states, flat, seed)),
        attempt("weights", lambda: _weights(subject)),
        _activity(flat),
    )


def _flat(states: Any) -> Array:
    """(N, T, n) as jaxrnn.dynamics flattens a state: its real numbers, leaf by leaf."""
    parts = [a.reshape(*a.shape[:2], -1).astype(jnp.float32) for a in gradients.reals(states)]
    return jnp.concatenate(parts, axis=-1)


def _flows(subject: Subject) -> list[gradients.Flow]:
    problem = subject.problem
    if problem is None:
        raise ValueError("there is no loss")
    of = functools.partial(gradients.flow, problem, subject.params, subject.state)
    return [of(*subject.sequence(index)) for index in range(subject.sequences)]


def _spectrum(subject: Subject) -> Spectrum:
    """Without a warm-up where sequences are short: there the transient is all that the network does."""
    warmup = subject.steps // 5 if subject.steps >= 20 else 0
    k = min(subject.size, EXPONENTS)

    def of_sequence(xs: Any) -> Any:
        found = dynamics.lyapunov(subject.step, subject.selected, subject.state, xs, k, warmup)
        return found.exponents, found.standard_errors

    exponents, errors = map(np.asarray, jax.jit(jax.vmap(of_sequence))(subject.xs))
    if np.isnan(exponents).any():
        raise ValueError("small changes of the state do not stay finite on these sequences")
    mean = exponents.mean(axis=0)
    if subject.sequences >= ENOUGH:
        with np.errstate(invalid="ignore"):
            error = exponents.std(axis=0, ddof=1) / subject.sequences**0.5
    elif subject.steps - warmup >= 10 * ENOUGH:
        error = np.sqrt(np.mean(errors**2, axis=0) / subject.sequences)
    else:
        error = np.full_like(mean, np.nan)
    return Spectrum(
        mean,
        np.where(np.isfinite(mean), error, np.nan),
        float(dynamics.kaplan_yorke_dimension(jnp.asarray(mean), subject.size)),
        float(dynamics.entropy_rate(jnp.asarray(mean), subject.size)),
        warmup,
        subject.steps - warmup,
    )


def _lags(subject: Subject, states: Any) -> list[Lag]:
    """At lags of 1, 2, 4, …, over windows that begin at times spread over all sequences."""
    of = effort(subject.size)
    longest = 1 << (min(of.longest, subject.steps).bit_length() - 1)
    beginnings = subject.steps - longest + 1
    places = np.linspace(0, subject.sequences * beginnings - 1, of.windows).round().astype(int)
    sequences, times = np.unravel_index(np.unique(places), (subject.sequences, beginnings))
    starts = jax.tree.map(lambda a: a[sequences, times], _before(subject.state, states))
    inputs = jax.tree.map(lambda a: a[sequences[:, None], times[:, None] + np.arange(longest)], subject.xs)
    matrices = jax.jit(jax.vmap(functools.partial(dynamics.jacobians, subject.step, subject.selected)))(starts, inputs)
    epsilon = float(jnp.finfo(matrices.dtype).eps) * subject.size**0.5
    product, found = np.eye(subject.size), []
    for lag, now in enumerate(np.moveaxis(np.asarray(matrices, float), 1, 0), start=1):
        product = now @ product
        if lag.bit_count() == 1:
            values = np.linalg.svd(product, compute_uv=False)
            known = (values > epsilon * values[:, :1]) | (values[:, :1] == 0)
            found.append(Lag(lag, np.where(known, values, np.nan)))
    return found


def _before(first: Any, states: Any) -> Any:
    """The states that steps begin from, (N, T, ...) per leaf."""

    def before(first: Any, after: Array) -> Array:
        firsts = jnp.broadcast_to(first, (len(after), 1, *after.shape[2:])).astype(after.dtype)
        return jnp.concatenate([firsts, after[:, :-1]], axis=1)

    return jax.tree.map(before, first, states)


def _points(subject: Subject, states: Any, flat: np.ndarray, seed: int) -> Points:
    """From states of the sequences, with noise."""
    dtypes = [a.dtype for a in jax.tree.leaves(states)]
    if not all(jnp.issubdtype(dtype, jnp.inexact) for dtype in dtypes):
        raise ValueError("the state holds numbers that are not floating-point, which no search can move")
    if any(jnp.finfo(dtype).eps > COARSEST for dtype in dtypes):
        raise ValueError("the state is of low precision, in which rounding makes a point many: take float32")
    x, held = subject.x or _mean_input(subject.xs)
    rng, of = np.random.default_rng(seed), effort(subject.size)
    sequences, times = (rng.integers(stop, size=of.candidates) for stop in (subject.sequences, subject.steps))
    spread = NOISE * float(flat.std(axis=(0, 1)).mean())

    def noisy(a: Array) -> Array:
        chosen = a[sequences, times]
        return (chosen + spread * rng.normal(size=chosen.shape)).astype(a.dtype)

    candidates = jax.tree.map(noisy, states)
    found = dynamics.fixed_points(subject.step, subject.selected, x, candidates, iterations=of.iterations)
    return Points(found, flat, held)


def _mean_input(xs: Any) -> tuple[Any, str]:
    if not all(jnp.issubdtype(a.dtype, jnp.inexact) for a in jax.tree.leaves(xs)):
        raise ValueError("the inputs are no floating-point numbers, of which a mean could be held: give x")
    return jax.tree.map(
        lambda a: jnp.mean(a, axis=(0, 1), dtype=jnp.float32).astype(a.dtype), xs
    ), "the mean of the inputs"


def _weights(subject: Subject) -> list[Weights]:
    radii, norms = dynamics.spectral_radii(subject.selected), dynamics.spectral_norms(subject.selected)
    return [
        Weights(path, gate, float(radius), float(norms[path][gate]))
        for path, found in radii.items()
        for gate, radius in enumerate(found)
    ]


def _activity(flat: np.ndarray) -> Activity:
    deviations = flat.std(axis=(0, 1))
    still = int(np.sum(deviations <= STILL * max(float(deviations.max()), 1e-30)))
    return Activity(flat.shape[-1], still, float(np.abs(flat).max()))
