"""Fixed and slow points of a step under a constant input, and how they move with that input."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .._core.cell import Cell, Params, State, Step
from .._core.checks import check_arrays, check_int, shown
from .._reports.fixed_points import FixedPoints
from ..gradients import reals
from ..gradients._leaves import at, concrete, ravel, split, unravel
from ..gradients._norms import nonzero, norm
from ..gradients._problem import check_sequences
from ._system import advanced, check_system, jacobian, linearised

_NEWTON = 20  # steps at most
_BATCH = 64  # states whose Jacobians are in memory at once
_SLOW = 0.1  # of a state's length
_ENDS = "fixed points are reported as values: they cannot be looked for inside jax.jit"


def fixed_points(
    step: Cell | Step,
    params: Params,
    x: Any,
    candidates: State,
    *,
    tolerance: float | None = None,
    distance: float = 1e-3,
    iterations: int = 1000,
) -> FixedPoints:
    """The states that a step leaves where they are, or nearly so, found from many candidates at once.

        q(s) = ½ |step(θ, s, x) - s|²,  minimised from each candidate        fixed: q = 0;  slow: another minimum of q

    At a slow point a step moves the state by no more than a tenth of its length, or of 1 if that is more.
    L-BFGS (Optax) minimises; from where it ends Newton's method goes on, as long as it halves √q, and counts if it
    arrives at a fixed point. A candidate that comes to neither a fixed nor a slow point has -1 in `of_candidates`.
    Needs Optax: `pip install 'jaxrnn[dynamics]'`.

    Args:
      step: a `jr.Cell`, or a function (params, state, x) -> state.
      params: θ.
      x: the constant input; None for a system without input.
      candidates: states to begin from, (C, ...) per leaf, such as those of trajectories with some noise.
      tolerance: the q up to which a point is fixed; None for n ε^(3/2) / 2, where ε is the rounding of the state's
        numbers: n 2e-11 in float32, n 2e-24 in float64.
      distance: up to which two points are the same one, relative to their length where that is above 1.
      iterations: of L-BFGS, at most.

    Returns:
      `FixedPoints`: the different points, with speed, eigenvalues and modes; print it, or `.plot()` it.

    Raises:
      ValueError: candidates do not all begin with the same C >= 1, or are not finite; tolerance or distance is not
        above 0; the step changes the state's structure, a shape or a dtype.
      TypeError: step is no step, or params, x or candidates have a leaf that is no array; inside `jax.jit`.
      ImportError: Optax is not installed.

    Source: Sussillo and Barak 2013, Neural Computation 25.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import dynamics
    >>> step = lambda w, h, x: jnp.tanh(w * h + x)                        # two stable states, an unstable one between
    >>> found = dynamics.fixed_points(step, 2., 0., jnp.linspace(-1, 1, 7)[:, None])
    >>> for point, stable in sorted(zip(found.points.ravel().tolist(), found.stable.tolist())):
    ...     print(round(point, 4), stable)
    -0.9575 True
    0.0 False
    0.9575 True
    """
    check_int("iterations", iterations)
    for name, value in (("tolerance", tolerance), ("distance", distance)):
        _check_positive(name, value)
    params, x, candidates = _checked_states("candidates", step, params, x, candidates)
    epsilon, enough = _tolerance(candidates, tolerance)
    found = _search(_minimiser(), step, iterations, enough, params, x, candidates)
    vectors, speeds, slopes = map(np.asarray, found)
    is_fixed = speeds <= enough
    is_slow = (slopes <= epsilon**0.25) & (speeds <= _slow_speed(vectors))  # nan is neither
    of_candidates, chosen = _distinct(vectors, speeds, is_fixed, is_fixed | is_slow, distance)
    points = jax.tree.map(lambda a: a[chosen], _states(candidates, vectors))
    eigenvalues, modes = _modes(_jacobians(step, params, x, points))
    return FixedPoints(
        jax.tree.map(np.asarray, points),
        vectors[chosen],
        speeds[chosen],
        is_fixed[chosen],
        eigenvalues,
        modes,
        of_candidates,
    )


class Continued(NamedTuple):
    """Fixed points that were followed along a path of inputs.

    Fields:
      points: (T, P, ...) per leaf; nan from where a point was lost on.
      speeds: (T, P) q.
      eigenvalues: (T, P, n), of the largest magnitude first.
      converged: (T, P) whether a point is still followed.
    """

    points: State
    speeds: np.ndarray
    eigenvalues: np.ndarray
    converged: np.ndarray

    @property
    def stable(self) -> np.ndarray:
        """(T, P): still followed, and all eigenvalues within the unit circle."""
        return self.converged & (np.abs(self.eigenvalues[..., 0]) < 1)


def continuation(
    step: Cell | Step, params: Params, xs: Any, points: State, *, tolerance: float | None = None
) -> Continued:
    """Fixed points as the input moves along a path: where they go, and whether they stay stable.

        s*(x_t) = step(θ, s*(x_t), x_t),  by Newton's method from s*(x_{t-1})        t = 1 … T

    A point is followed as long as each of Newton's steps halves |step(θ, s, x) - s| until that is within tolerance;
    where two points meet and vanish, both are lost. Take smaller steps of x where one is lost too early.

    Args:
      step, params, tolerance: see `fixed_points`.
      xs: inputs (T, ...) per leaf; the first is the one that the points are of, or near to it.
      points: states (P, ...) per leaf, such as `points` of what `fixed_points` found.

    Returns:
      `Continued`: points, speeds, eigenvalues, and which are still followed.

    Raises:
      ValueError, TypeError: as `fixed_points`, of points.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import dynamics
    >>> step = lambda w, h, x: jnp.tanh(w * h + x)              # at x = -0.533 the upper point meets the unstable one
    >>> path = dynamics.continuation(step, 2., jnp.linspace(0, -1, 101), jnp.array([[0.9575], [-0.9575]]))
    >>> path.converged.sum(axis=0).tolist()
    [54, 101]
    """
    _check_positive("tolerance", tolerance)
    check_sequences(xs, ())
    params, xs, points = _checked_states("points", step, params, xs, points)
    enough = _tolerance(points, tolerance)[1]
    vectors, speeds, converged = map(np.asarray, _follow(step, enough, params, xs, points))
    paths = jax.vmap(functools.partial(_states, points))(vectors)
    matrices = jax.vmap(lambda x, states: _jacobians(step, params, x, states))(xs, paths)
    return Continued(jax.tree.map(np.asarray, paths), speeds, _modes(matrices)[0], converged)


def _minimiser() -> Callable:
    """That of `_descent`, taken when it is asked for: Optax may not be installed."""
    try:
        from ._descent import minimised
    except ModuleNotFoundError as error:
        if error.name != "optax":
            raise
        raise ImportError("fixed_points needs Optax: pip install 'jaxrnn[dynamics]'") from error
    return minimised


def _check_positive(name: str, value: Any) -> None:
    if value is not None and not (isinstance(value, float | int | np.number) and value > 0):
        raise ValueError(f"{name} must be a number above 0, got {shown(value)}")


def _checked_states(name: str, step: Any, params: Params, x: Any, states: State) -> tuple[Params, Any, State]:
    """Params, x and the states as arrays."""
    check_system(step, params, states, name)
    check_arrays("x", x)
    params, x, states = concrete((params, x, states), _ENDS)
    shapes = [(jax.tree_util.keystr(path), leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(states)]
    for path, shape in shapes:
        if not shape or not shape[0] or shape[0] != shapes[0][1][0]:
            raise ValueError(f"{name}{path} has shape {shape}, expected the same number of states first everywhere")
    return params, x, states


def _tolerance(states: State, given: float | None) -> tuple[float, float]:
    """ε, and q up to which a point is fixed."""
    like = reals(at(states, 0))
    epsilon = max(float(jnp.finfo(a.dtype).eps) for a in like)
    return epsilon, sum(a.size for a in like) * epsilon**1.5 / 2 if given is None else float(given)


@dataclasses.dataclass(frozen=True)
class _Motion:
    """What a step adds to a state, F(s) - s, on flat vectors (n,) of states like this one."""

    step: Cell | Step
    params: Params
    x: Any
    like: State

    def state(self, vector: Array) -> State:
        """s."""
        return _state(self.like, vector)

    def __call__(self, vector: Array) -> Array:
        """F(s) - s."""
        after = advanced(self.step, self.params, self.state(vector), self.x)
        return ravel(reals(after), vector.dtype) - vector

    def speed(self, vector: Array) -> Array:
        """q."""
        return jnp.sum(self(vector) ** 2) / 2

    def jacobian(self, vector: Array) -> Array:
        """∂F/∂s (n, n)."""
        return jacobian(linearised(self.step, self.params, self.state(vector), self.x))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _search(
    minimised: Callable, step: Cell | Step, iterations: int, enough: Array, params: Params, x: Any, candidates: State
) -> tuple[Array, Array, Array]:
    """Of every candidate where it came to (C, n), q there, and how far ∇q is from 0: |∇q| / √2q."""

    def search(candidate: State) -> tuple[Array, Array, Array]:
        motion, start = _Motion(step, params, x, candidate), ravel(reals(candidate))
        arrived = minimised(motion.speed, start, iterations, jnp.asarray(enough, start.dtype))
        polished = _newton(motion, arrived)
        found = jnp.where(motion.speed(polished) <= enough, polished, arrived)
        slope = norm(jax.grad(motion.speed)(found)) / nonzero(norm(motion(found)))
        return found, motion.speed(found), slope

    return lax.map(search, candidates, batch_size=_BATCH)


def _newton(motion: _Motion, start: Array) -> Array:
    """Where Newton's method arrives from start (n,), with steps that each halve |F(s) - s|.

    Whether it goes on is carried, not computed by the loop's condition: under `jax.vmap` that is computed twice, and
    two roundings of it that differ would keep the loop going for ever.
    """

    def advance(carry: tuple) -> tuple:
        count, _, vector = carry
        steady = motion.jacobian(vector) - jnp.eye(len(vector), dtype=vector.dtype)
        moved = vector - jnp.linalg.solve(steady, motion(vector))
        before, after = norm(motion(vector)), norm(motion(moved))
        halves = 2 * after <= before
        return count + 1, halves & (after > 0), jnp.where(halves, moved, vector)

    def goes_on(carry: tuple) -> Array:
        count, halves, _ = carry
        return (count < _NEWTON) & halves

    return lax.while_loop(goes_on, advance, (0, jnp.array(True), start))[2]


@functools.partial(jax.jit, static_argnums=0)
def _follow(step: Cell | Step, enough: Array, params: Params, xs: Any, points: State) -> tuple[Array, Array, Array]:
    """(T, P, n), q (T, P), and which are still followed (T, P)."""

    def corrected(x: Any, like: State, vector: Array) -> tuple[Array, Array]:
        motion = _Motion(step, params, x, like)
        moved = _newton(motion, vector)
        return moved, motion.speed(moved)

    def advance(carry: tuple[Array, Array], x: Any) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
        vectors, follows = carry
        moved, speeds = jax.vmap(functools.partial(corrected, x))(points, vectors)
        follows = follows & (speeds <= enough)
        vectors, speeds = jnp.where(follows[:, None], moved, jnp.nan), jnp.where(follows, speeds, jnp.nan)
        return (vectors, follows), (vectors, speeds, follows)

    start = jax.vmap(lambda state: ravel(reals(state)))(points)
    return lax.scan(advance, (start, jnp.ones(len(start), bool)), xs)[1]


@jax.jit
def _states(like: State, vectors: Array) -> State:
    """The states (N, ...) of flat vectors (N, n), with what else is in those that they are like."""

    return jax.vmap(_state)(like, vectors)


def _state(like: State, vector: Array) -> State:
    given, rebuild = split(like)
    return rebuild(unravel(vector, given))


@functools.partial(jax.jit, static_argnums=0)
def _jacobians(step: Cell | Step, params: Params, x: Any, states: State) -> Array:
    """(N, n, n)."""
    return lax.map(lambda state: jacobian(linearised(step, params, state, x)), states)


def _slow_speed(vectors: np.ndarray) -> np.ndarray:
    """(C,) the most that q may be at a slow point."""
    return (_SLOW * np.maximum(1, np.linalg.norm(vectors, axis=1))) ** 2 / 2


def _distinct(
    vectors: np.ndarray, speeds: np.ndarray, is_fixed: np.ndarray, converged: np.ndarray, distance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Of each candidate its point, -1 for none, and of each point the candidate that came nearest to it.

    Fixed points come before slow ones, and then those that more candidates came to.
    """
    chosen: list[int] = []
    of_candidates = np.full(len(vectors), -1)
    for index in np.lexsort((speeds, ~is_fixed)):
        if converged[index]:
            allowed = distance * max(1, float(np.linalg.norm(vectors[index])))
            same = np.linalg.norm(vectors[chosen] - vectors[index], axis=1) <= allowed
            of_candidates[index] = same.argmax() if same.any() else len(chosen)
            chosen += [] if same.any() else [int(index)]
    counts = np.bincount(of_candidates[converged], minlength=len(chosen))
    order = np.lexsort((-counts, ~is_fixed[chosen]))
    places = np.append(np.argsort(order), -1)
    return places[of_candidates], np.array(chosen, int)[order]


def _modes(matrices: Array) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (..., n), of the largest magnitude first, and as columns their right eigenvectors (..., n, n).

    nan of matrices that are not finite.
    """
    found = np.asarray(matrices, float)
    is_finite = np.asarray(np.isfinite(found).all(axis=(-2, -1)))
    values, vectors = np.linalg.eig(np.where(is_finite[..., None, None], found, 0))
    order = np.argsort(-np.abs(values), axis=-1, kind="stable")
    values = np.where(is_finite[..., None], np.take_along_axis(values, order, -1), np.nan)
    return values.astype(complex), np.take_along_axis(vectors, order[..., None, :], -1).astype(complex)
