"""A test for a step function of one's own: are its derivatives those of its values?"""

import functools
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .._core.cell import Cell, Params, State, Step, as_step
from .._core.checks import check_function, describe, dtype_of
from .._core.compat import has_no_forward_mode
from ._algorithms.bptt import bptt
from ._algorithms.influence.rtrl import rtrl
from ._leaves import at, concrete, is_complex, is_differentiated, is_real, split
from ._problem import Problem, check_arguments, check_differentiable

DTYPES = (jnp.bfloat16, jnp.float32, jnp.float64)
DIRECTIONS = 2  # random ones, for each leaf
DIFFERENCES = (1e-4, 1e-6)  # of the leaf's size: where one straddles a kink, or is lost in rounding, the other is not
ELEMENTS = 256  # looked at one by one in a leaf that is wrong
EXAMPLES = 3  # of a batch
BUDGET = 2**28  # bytes of RTRL's influence matrix: beyond it the test takes minutes
TOLERANCE = 1e-5  # of finite differences
EXACT = 1e-8  # of what differs by rounding alone


class _Run(NamedTuple):
    """The step along the sequence, in float64."""

    step: Cell | Step
    arguments: tuple[Params, State, Any]  # params, state, xs
    names: list[str]  # of the arguments' real leaves
    states: State  # (T, ...) per leaf
    ys: list[Array]  # (T, ...) per real leaf of the state: its weights in L


class _Slopes(NamedTuple):
    """L around the arguments."""

    value: Callable[[list[np.ndarray]], Array]  # of other real leaves
    reals: list[np.ndarray]
    gradient: list[np.ndarray]  # by vjp
    rounding: float  # of L


def check_gradient(step: Cell | Step, params: Params, state: State, xs: Any) -> None:
    """Compare a step's derivatives with its values, and with each other; every disagreement is reported.

    All numbers are float64, whatever the arguments are. L is a random linear function of the states after every step,

        L = Σ_t ⟨y_t, s_t⟩        s_t = step(θ, s_{t-1}, x_t)        t = 1 … T

    and these are compared, for every real leaf of params, state and xs:

      dtype                 the state's structure, shapes and dtypes before and after a step, in bfloat16, float32 and
                            float64
      finite differences    (L(θ + εd) - L(θ - εd)) / 2ε with the vjp, along random d; of a leaf that is off, the worst
                            of at most 256 elements is named
      jvp against vjp       forward with reverse mode
      run                   of a `jr.Cell` that has one, which `jr.unroll` uses: L by it with L by `step`
      RTRL against BPTT     of the parameters; left out, with a warning, above n P = 2²⁵ numbers
      batch                 `jax.vmap` of the step, and of a `jr.Cell` also a direct call, with a loop over examples

    Take few units and few steps: there are some hundred passes over the sequence. At a kink (relu at 0 exactly) there
    is no derivative to agree with, so keep away from those.

    Args:
      step: a `jr.Cell`, or a function (params, state, x) -> state with any pytree as state.
      params: what the step gets, real floating-point.
      state: s_0, unbatched. Leaves that are integers, bools or keys are carried along.
      xs: (T, ...) per leaf.

    Raises:
      AssertionError: with a line or two for each disagreement: which comparison, which leaf and element, both numbers.
      ValueError: xs has no time steps.
      TypeError: step is no function, params are not floating-point, state has no floating-point leaf, inside jit.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients
    >>> xs = jax.random.normal(jax.random.key(1), (5, 3))
    >>> gradients.check_gradient(jr.gru, jr.gru.init(jax.random.key(0), 3, 4), jnp.zeros(4), xs)
    >>> def step(w, h, x):
    ...     return jnp.tanh(w * jax.lax.stop_gradient(h) + x)                           # left over from an experiment
    >>> gradients.check_gradient(step, 0.5, 0.1, jnp.array([1.]))
    Traceback (most recent call last):
    AssertionError: check_gradient found an error:
      finite differences: dL/dstate is 0 by vjp, 0.0244406 by finite differences: a stop_gradient left in?
    """
    check_function("step", as_step(step), "params, state, x", "state")
    check_arguments(params, state, xs, None)
    check_differentiable(params, state)
    concrete(
        (params, state, xs),
        "check_gradient compares numbers, which are not known inside a jitted function: call it outside",
    )
    findings = {dtype: _dtype_findings(step, params, state, xs, dtype) for dtype in _dtypes((params, state, xs))}
    if not findings[jnp.float64]:  # or there is no sequence to run
        findings["numbers"] = _number_findings(step, params, state, xs)
    told = list(itertools.chain.from_iterable(findings.values()))
    if told:
        count = "an error" if len(told) == 1 else f"{len(told)} errors"
        raise AssertionError("\n  ".join([f"check_gradient found {count}:", *told]))


def _dtypes(tree: Any) -> list[Any]:
    """All of them; where there are complex numbers, those that have complex numbers of their own."""
    has_complex = any(map(is_complex, jax.tree.leaves(tree)))
    return [dtype for dtype in DTYPES if not has_complex or jnp.dtype(dtype).itemsize >= 4]


def _converted(tree: Any, dtype: Any) -> Any:
    """All real leaves in this dtype, integers in one that is enabled."""
    return jax.tree.map(functools.partial(_converted_leaf, dtype=dtype), tree)


def _converted_leaf(leaf: Any, dtype: Any) -> Array:
    if jnp.issubdtype(dtype_of(leaf), jax.dtypes.prng_key):
        return leaf
    if is_complex(leaf):
        dtype = jnp.complex128 if dtype == jnp.float64 else jnp.complex64
    return jnp.asarray(leaf, dtype if is_differentiated(leaf) else jax.dtypes.canonicalize_dtype(dtype_of(leaf)))


def _leaf_names(name: str, tree: Any) -> list[str]:
    return [name + jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def _real_names(name: str, tree: Any) -> list[str]:
    """Of what is differentiated, as `split` has it."""
    names = []
    for leaf, a in zip(_leaf_names(name, tree), jax.tree.leaves(tree), strict=True):
        names += [f"{leaf}.real", f"{leaf}.imag"] if is_complex(a) else [leaf] if is_real(a) else []
    return names


def _raised(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def _dtype_findings(step: Cell | Step, params: Params, state: State, xs: Any, dtype: Any) -> list[str]:
    """What a step makes of a state in this dtype."""
    check = f"dtype: in {jnp.dtype(dtype).name}"
    with jax.enable_x64(dtype == jnp.float64 or jax.config.read("jax_enable_x64")):
        params, state, xs = _converted((params, state, xs), dtype)
        try:
            new_state = jax.eval_shape(as_step(step), params, state, at(xs, 0))
        except Exception as error:
            return [f"{check} the step raises {_raised(error)}"]
        if jax.tree.structure(new_state) != jax.tree.structure(state):
            return [f"{check} the state goes in as {describe(state)} and comes out as {describe(new_state)}"]
        leaves = zip(_leaf_names("state", state), jax.tree.leaves(state), jax.tree.leaves(new_state), strict=True)
        return [
            f"{check} {name} goes in as {describe(a)} and comes out as {describe(b)}"
            for name, a, b in leaves
            if (a.shape, a.dtype) != (b.shape, b.dtype)
        ]


def _number_findings(step: Cell | Step, params: Params, state: State, xs: Any) -> list[str]:
    """All that takes numbers, in float64."""
    with jax.enable_x64(True):
        run = _start(step, *_converted((params, state, xs), jnp.float64))
        if findings := _not_finite(run):
            return findings
        findings = _guarded("batch", _batch_findings, run)
        try:
            slopes = _slopes(run)
        except Exception as error:
            return [*findings, f"vjp raises {_raised(error)}"]
        for name, check in (
            ("finite differences", _difference_findings),
            ("jvp against vjp", _forward_findings),
        ):
            findings += _guarded(name, check, run, slopes)
        return findings + _guarded("RTRL against BPTT", _rtrl_findings, run)


def _guarded(name: str, check: Callable[..., Iterator[str]], *arguments: Any) -> list[str]:
    """The findings of a check, one of which may be that it cannot be made."""
    try:
        return list(check(*arguments))
    except Exception as error:
        return [f"{name}: raises {_raised(error)}"]


def _start(step: Cell | Step, params: Params, state: State, xs: Any) -> _Run:
    names = _real_names("params", params) + _real_names("state", state) + _real_names("xs", xs)
    states = jax.jit(functools.partial(_states, step))(params, state, xs)
    rng = np.random.default_rng(0)
    ys = [jnp.asarray(rng.normal(size=a.shape)) for a in split(states)[0]]
    return _Run(step, (params, state, xs), names, states, ys)


def _states(step: Cell | Step, params: Params, state: State, xs: Any) -> State:
    """(T, ...) per leaf."""

    def advance(state: State, x: Any) -> tuple[State, State]:
        new_state = as_step(step)(params, state, x)
        return new_state, new_state

    return lax.scan(advance, state, xs)[1]


def _projection(params: Params, states: State, ys: list[Array]) -> Array:
    """L of all the states, or its part of one step."""
    del params
    return sum((jnp.vdot(y, a) for y, a in zip(ys, split(states)[0], strict=True)), jnp.zeros((), ys[0].dtype))


def _not_finite(run: _Run) -> list[str]:
    """The first time at which a leaf of the state is nan or inf."""
    findings = []
    for name, a in zip(_real_names("state", run.states), split(run.states)[0], strict=True):
        finite = np.isfinite(np.asarray(a)).reshape(len(a), -1).all(axis=1)
        if not finite.all():
            findings.append(f"value: {name} is not finite after step {int(finite.argmin()) + 1} of {len(a)}")
    return findings


def _slopes(run: _Run) -> _Slopes:
    reals, rebuild = split(run.arguments)

    def value(reals: list[Array]) -> Array:
        return _projection(None, _states(run.step, *rebuild(reals)), run.ys)

    terms = [np.abs(np.asarray(y) * np.asarray(a)).sum() for y, a in zip(run.ys, split(run.states)[0], strict=True)]
    gradient = jax.jit(jax.grad(value))(reals)
    rounding = float(np.finfo(np.float64).eps * sum(terms))
    return _Slopes(jax.jit(value), list(map(np.asarray, reals)), list(map(np.asarray, gradient)), rounding)


def _size(leaf: np.ndarray) -> float:
    """Its root mean square, or 1."""
    return float(np.sqrt(np.mean(leaf**2))) or 1.0


def _directions(slopes: _Slopes) -> Iterator[tuple[int, np.ndarray]]:
    """Random ones of each leaf's size, with the leaf's index."""
    rng = np.random.default_rng(1)
    for index, leaf in enumerate(slopes.reals):
        if leaf.size:
            for _ in range(DIRECTIONS):
                yield index, _size(leaf) * rng.normal(size=leaf.shape)


def _along(slopes: _Slopes, index: int, direction: np.ndarray, distance: float) -> float:
    reals = list(slopes.reals)
    reals[index] = reals[index] + distance * direction
    return float(slopes.value(reals))


def _product(slopes: _Slopes, index: int, direction: np.ndarray) -> tuple[float, float]:
    """Of the gradient and a direction in one leaf, and how large it would be if its terms had random signs."""
    terms = (slopes.gradient[index] * direction)[direction != 0]  # not nan times 0
    return float(terms.sum()), float(np.linalg.norm(terms))


def _difference(slopes: _Slopes, index: int, direction: np.ndarray) -> tuple[float, float, bool]:
    """The slope along a direction in one leaf: by vjp, by the finite difference nearest to it, whether they agree."""
    by_vjp, scale = _product(slopes, index, direction)
    differences = []
    for distance in DIFFERENCES:
        ends = [_along(slopes, index, direction, sign * distance) for sign in (1.0, -1.0)]
        found = (ends[0] - ends[1]) / (2 * distance)
        allowed = TOLERANCE * max(scale, abs(found)) + 10 * slopes.rounding / distance
        differences.append((by_vjp, found, abs(found - by_vjp) <= allowed))
    return min(differences, key=lambda difference: (not difference[2], abs(difference[0] - difference[1])))


def _difference_findings(run: _Run, slopes: _Slopes) -> Iterator[str]:
    found: set[int] = set()
    for index, direction in _directions(slopes):
        if index not in found and not _difference(slopes, index, direction)[2]:
            found.add(index)
            yield f"finite differences: {_worst_difference(run.names[index], slopes, index)}"


def _worst_difference(name: str, slopes: _Slopes, index: int) -> str:
    """What the element says that is furthest off."""
    shape, size = slopes.reals[index].shape, slopes.reals[index].size
    elements = np.random.default_rng(2).permutation(size)[:ELEMENTS]
    scale = _size(slopes.reals[index])
    units = [scale * (np.arange(size) == element).reshape(shape) for element in elements]
    pairs = np.array([_difference(slopes, index, unit)[:2] for unit in units]) / scale
    worst = int(np.nan_to_num(np.abs(pairs[:, 0] - pairs[:, 1]), nan=np.inf).argmax())
    by_vjp, found = pairs[worst]
    among = f", the worst of {len(elements)} of its {size:,} elements" if len(elements) < size else ""
    at = name + _place(elements[worst], shape)
    return f"dL/d{at} is {by_vjp:.6g} by vjp, {found:.6g} by finite differences{among}{_hint(by_vjp, found)}"


def _place(element: int, shape: tuple[int, ...]) -> str:
    """[i, j] of an element of a raveled array."""
    index = [int(i) for i in np.unravel_index(element, shape)]
    return str(index) if index else ""


def _hint(by_vjp: float, found: float) -> str:
    if by_vjp == 0:
        return ": a stop_gradient left in?"
    if np.isnan(by_vjp) and np.isfinite(found):
        return ": a jnp.where, whose other branch has no finite derivative there?"
    return ""


def _forward_findings(run: _Run, slopes: _Slopes) -> Iterator[str]:
    push = jax.jit(lambda direction: jax.jvp(slopes.value, (slopes.reals,), (direction,))[1])
    found: set[int] = set()
    try:
        for index, direction in _directions(slopes):
            zeros = [np.zeros_like(leaf) for leaf in slopes.reals]
            pushed = float(push([*zeros[:index], direction, *zeros[index + 1 :]]))
            pulled, scale = _product(slopes, index, direction)
            if index not in found and not _agree(
                pushed, pulled, EXACT * max(scale, abs(pushed)) + 100 * slopes.rounding
            ):
                found.add(index)
                yield f"jvp against vjp: along a random direction in {run.names[index]} {pushed:.6g} and {pulled:.6g}"
    except TypeError as error:
        if not has_no_forward_mode(error):
            raise
        yield (
            "jvp against vjp: the step has none, as of a custom_vjp: jax.jvp, jax.jacfwd and jax.hessian fail; a "
            "custom_jvp in its place has both"
        )


def _agree(a: float, b: float, allowed: float) -> bool:
    return abs(a - b) <= allowed or (np.isnan(a) and np.isnan(b))


def _rtrl_findings(run: _Run) -> Iterator[str]:
    params, state, xs = run.arguments
    numbers = sum(a.size for a in split(params)[0]) * sum(a.size for a in split(state)[0])
    if 8 * numbers > BUDGET:
        reason = f"its influence matrix would have {numbers:,} numbers; check fewer units"
        warnings.warn(f"check_gradient leaves out RTRL against BPTT: {reason}", stacklevel=5)
        return
    problem = Problem(run.step, _projection)
    value, exact, _ = bptt(problem, params, state, xs, run.ys)
    expected = _projection(None, run.states, run.ys)
    if not _agree(float(value), float(expected), EXACT * float(jnp.abs(expected)) + 1e-12):
        yield f"run: L is {value:.6g} by run, {expected:.6g} by step, which must have the same numbers"
        return
    _, forward, _ = rtrl(problem, params, state, xs, run.ys, budget=BUDGET)
    for name, ours, theirs in zip(_leaf_names("params", params), *map(jax.tree.leaves, (forward, exact)), strict=True):
        if worst := _worst(ours, theirs):
            yield f"RTRL against BPTT: dL/d{name}{worst}"


def _worst(ours: Array, theirs: Array) -> str:
    """Where two arrays are furthest apart, and both numbers; empty if that is rounding, or nan in both."""
    a, b = np.asarray(ours), np.asarray(theirs)
    distance = np.where(np.isnan(a) & np.isnan(b), 0, np.nan_to_num(np.abs(a - b), nan=np.inf))
    if not a.size or distance.max() <= EXACT * np.nanmax(np.abs(b), initial=1e-6):
        return ""
    at = int(distance.argmax())
    return f"{_place(at, a.shape)}: {a.ravel()[at]:.6g} and {b.ravel()[at]:.6g}"


def _batch_findings(run: _Run) -> Iterator[str]:
    """The first steps of the sequence at once, and one by one."""
    params, state, xs = run.arguments
    step, states, inputs = jax.jit(as_step(run.step)), [state], []
    for t in range(EXAMPLES):
        inputs.append(jax.tree.map(lambda a, t=t: a[t % len(a)], xs))
        states.append(step(params, states[-1], inputs[-1]))
    before, after, x = (
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) for trees in (states[:-1], states[1:], inputs)
    )
    ways = {"jax.vmap of the step": jax.jit(jax.vmap(step, (None, 0, 0)))}
    if isinstance(run.step, Cell):
        ways["a step with a batch axis"] = step
    for way, together in ways.items():
        yield from _guarded(f"batch: {way}", _batch_differences, way, together, (params, before, x), after)


def _batch_differences(
    way: str, together: Callable[..., State], arguments: tuple[Params, State, Any], expected: State
) -> Iterator[str]:
    found = together(*arguments)
    if describe(found) != describe(expected):
        yield f"batch: {way} gives {describe(found)}, expected {describe(expected)}"
        return
    for name, ours, theirs in zip(_real_names("state", expected), split(found)[0], split(expected)[0], strict=True):
        if worst := _worst(ours, theirs):
            yield f"batch: {way} and a loop over examples give for {name}{worst}"
