"""Gradient algorithms measured against exact back-propagation through time."""

import functools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .._core.cell import Params, State
from .._core.checks import check_int, check_optional_key, check_tree_like, describe, is_real_number
from .._core.compat import temporary_bytes
from .._reports.comparison import Agreement, Comparison, Cost, Measured
from ._algorithms.bptt import bptt
from ._learner import Gradient
from ._leaves import concrete, ravel, slices, split
from ._norms import nonzero, norm, unit
from ._problem import Problem, check_arguments, check_problem, starting_state
from ._signature import takes_key

_SECONDS, _CALLS = 0.3, range(3, 30)  # a call is timed again for this long, so many times


def compare(
    problem: Problem,
    params: Params,
    state: State,
    xs: Any,
    ys: Any,
    algorithms: Mapping[str, Callable[..., Gradient]],
    *,
    key: Array | None = None,
    repeats: int = 100,
) -> Comparison:
    """Each algorithm against exact back-propagation through time: error, bias, variance, time and memory.

        relative error |e - g|/|g|        bias |mean e - g|/|g| ± √(variance/repeats)        variance E|e - E e|²/|g|²

    Per parameter tensor, and for all as one vector. An algorithm is called with a key if its signature takes one that
    is not bound yet, `repeats` times with independent keys, in one compiled scan whose memory does not depend on how
    many. All algorithms get the same keys, so what one shows does not depend on which others are there.

    Args:
      problem, params, state, xs, ys: see `bptt`; values, so not inside `jax.jit`.
      algorithms: name -> (problem, params, state, xs, ys, *, key=None) -> (value, grads, state), made of JAX
        operations: the algorithms here, their arguments bound by `functools.partial`, or your own.
      key: for the stochastic ones; may be left out if there are none.
      repeats: draws of each stochastic algorithm; with 1, variance and what follows from it are None.

    Returns:
      A `Comparison`: print it, `.plot()` it, or take `.to_dict()`.

    Raises:
      ValueError: repeats < 1, no algorithms, no key for a stochastic one, a gradient that is unlike params, a value
        that is not the loss; as `bptt`.
      TypeError: an algorithm that cannot be called so, or returns no (value, grads, state), by name; repeats is no int;
        as `bptt`.

    >>> import functools, jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(jr.rnn, loss=lambda params, h, y: jnp.sum(h))
    >>> params = jr.rnn.init(jax.random.key(0), 3, 8)
    >>> algorithms = {"snap1": functools.partial(gradients.snap, order=1), "uoro": gradients.uoro}
    >>> report = gradients.compare(
    ...     problem, params, jnp.zeros(8), jnp.ones((5, 3)), None, algorithms, key=jax.random.key(1), repeats=10)
    >>> report.algorithms["snap1"].total.cosine > 0.9, report.algorithms["uoro"].tensors[".weight_hh"].variance > 0.1
    (True, True)
    """
    check_problem(problem)
    steps = check_arguments(params, state, xs, ys)
    check_int("repeats", repeats)
    stochastic = _check_algorithms(algorithms, key)
    args = concrete(
        (params, state, xs, ys),
        "compare measures time and counts draws, so it needs values: it cannot run inside jax.jit",
    )
    (value, exact, _), cost = _measure(functools.partial(bptt, problem), *args)
    vector, names = _flat(exact), _names(exact)
    measured = {}
    for name, algorithm in algorithms.items():
        call = functools.partial(_call, name, algorithm, problem)
        found, measured[name] = _measured(call, key if stochastic[name] else None, repeats, args, vector, names)
        _check_value(name, found, value)
    total, *norms = (float(norm(vector[where])) for where in names.values())
    return Comparison(steps, repeats, cost, total, dict(zip(list(names)[1:], norms, strict=True)), measured)


def _check_algorithms(algorithms: Any, key: Array | None) -> dict[str, bool]:
    """Which of them are stochastic."""
    if not isinstance(algorithms, Mapping):
        raise TypeError(f"algorithms must be a dict, name -> function, got {type(algorithms).__name__}")
    if not algorithms:
        raise ValueError("algorithms is empty, expected at least one name -> function")
    stochastic = {name: _is_stochastic(name, algorithm) for name, algorithm in algorithms.items()}
    check_optional_key("key", key)
    if key is None and any(stochastic.values()):
        names = ", ".join(name for name, takes in stochastic.items() if takes)
        raise ValueError(
            f"compare needs a key for the stochastic algorithms ({names}), as from jax.random.key(0), got None"
        )
    return stochastic


def _is_stochastic(name: Any, algorithm: Any) -> bool:
    """Whether it takes a key that is not bound yet; an error if it cannot be called at all."""
    if not isinstance(name, str):
        raise TypeError(f"algorithms must have names as keys, got {name!r} of type {type(name).__name__}")
    return takes_key(algorithm, f"algorithms[{name!r}]")


def _call(
    name: str, algorithm: Callable, problem: Problem, params: Params, state: State, xs: Any, ys: Any, **key: Array
) -> Gradient:
    """What the algorithm gives, looked at while it is traced."""
    try:
        result = algorithm(problem, params, state, xs, ys, **key)
    except Exception as error:
        error.add_note(f"This is from algorithms[{name!r}], as compare called it.")
        raise
    if not isinstance(result, tuple) or len(result) != 3:
        raise TypeError(f"algorithms[{name!r}] returned {describe(result)}, expected (value, grads, state)")
    value, grads, new_state = result
    if not is_real_number(value):
        raise TypeError(f"algorithms[{name!r}] returned the value {describe(value)}, expected one real number")
    check_tree_like(f"the gradient that algorithms[{name!r}] returned", grads, params, "as params")
    start = jax.eval_shape(functools.partial(starting_state, problem), params, state)
    check_tree_like(f"the state that algorithms[{name!r}] returned", new_state, start, "as the first state")
    return Gradient(value, grads, new_state)


def _measure(call: Callable, *args: Any, **key: Array) -> tuple[Any, Cost]:
    """What a call returns, and what it costs."""
    compiled = jax.jit(call).lower(*args, **key).compile()
    result = jax.block_until_ready(compiled(*args, **key))
    seconds = []
    while len(seconds) < _CALLS.start or (len(seconds) < _CALLS.stop and sum(seconds) < _SECONDS):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*args, **key))
        seconds.append(time.perf_counter() - start)
    return result, Cost(statistics.median(seconds), temporary_bytes(compiled))


def _flat(grads: Params) -> Array:
    """All tensors as one vector."""
    return ravel(split(grads)[0])


def _names(grads: Params) -> dict[str, slice]:
    """Where each tensor is in that vector, by its path; before them the total."""
    found = slices(grads)
    return {"": slice(0, found[-1][1].stop)} | {jax.tree_util.keystr(path) or "params": where for path, where in found}


def _check_value(name: str, found: Array, exact: Array) -> None:
    """The loss is the same to rounding, as every algorithm runs the same steps."""
    allowed = float(jnp.finfo(exact.dtype).eps) ** 0.5
    if not np.allclose(float(found), float(exact), rtol=allowed, atol=allowed, equal_nan=True):
        raise ValueError(
            f"algorithms[{name!r}] returned the value {found:.6g}, expected the loss {exact:.6g}, as bptt's"
        )


def _measured(
    call: Callable,
    key: Array | None,
    repeats: int,
    args: tuple[Params, State, Any, Any],
    exact: Array,
    names: dict[str, slice],
) -> tuple[Array, Measured]:
    """The value of one algorithm, stochastic if there is a key, and what there is to say of it."""
    wheres = tuple(names.values())
    keys = {} if key is None else {"key": key}
    (value, grads, _), cost = _measure(call, *args, **keys)
    if key is not None:
        draws = jax.jit(functools.partial(_draws, call, wheres))
        agreements = _spreads(draws(args, exact, jax.random.split(key, repeats)), exact, wheres, repeats)
    else:
        agreements = [Agreement(*map(float, row)) for row in _agreements(_flat(grads), exact, wheres)]
    zero = [not float(jnp.max(jnp.abs(exact[where]), initial=0)) for where in wheres]
    agreements = [Agreement() if z else agreement for z, agreement in zip(zero, agreements, strict=True)]
    tensors = dict(zip(list(names)[1:], agreements[1:], strict=True))
    return value, Measured(key is not None, cost, agreements[0], tensors)


class _Sums(NamedTuple):
    """Of the draws so far (Welford 1962), in units of the exact gradient's largest entry."""

    drawn: Array
    mean: Array  # (P,)
    squares: Array  # (P,), of deviations from the mean
    agreements: Array  # (1 + tensors, 3), the mean


def _draws(call: Callable, wheres: tuple[slice, ...], args: tuple, exact: Array, keys: Array) -> _Sums:
    """One draw for each key, summed up as they come."""
    largest = unit(exact)

    def draw(sums: _Sums, key: Array) -> tuple[_Sums, None]:
        estimate = _flat(call(*args, key=key)[1])
        drawn, away = sums.drawn + 1, estimate / largest - sums.mean
        mean = sums.mean + away / drawn
        squares = sums.squares + away * (estimate / largest - mean)
        more = (_agreements(estimate, exact, wheres) - sums.agreements) / drawn
        return _Sums(drawn, mean, squares, sums.agreements + more), None

    zeros = jnp.zeros_like(exact)
    start = _Sums(jnp.zeros((), exact.dtype), zeros, zeros, jnp.zeros((len(wheres), 3), exact.dtype))
    return lax.scan(draw, start, keys)[0]


def _spreads(sums: _Sums, exact: Array, wheres: tuple[slice, ...], repeats: int) -> list[Agreement]:
    """The means over draws, with bias and variance."""
    scaled = exact / unit(exact)
    found = []
    for where, row in zip(wheres, sums.agreements, strict=True):
        size = float(nonzero(norm(scaled[where])))
        bias = float(norm(sums.mean[where] - scaled[where])) / size
        variance = float(jnp.sum(sums.squares[where])) / (repeats - 1) / size**2 if repeats > 1 else None
        error = None if variance is None else (variance / repeats) ** 0.5
        ratio = 1 / variance if variance else None
        cosine, norm_ratio, relative_error = map(float, row)
        found.append(Agreement(cosine, norm_ratio, relative_error, bias, error, variance, ratio))
    return found


def _agreements(estimate: Array, exact: Array, wheres: tuple[slice, ...]) -> Array:
    """Cosine, norm ratio and relative error of each tensor."""
    return jnp.stack([_agreement(estimate[where], exact[where]) for where in wheres])


def _agreement(estimate: Array, exact: Array) -> Array:
    """(3,); of an exact gradient of 0, what is never shown."""
    size, length = nonzero(norm(exact)), norm(estimate)
    cosine = (estimate / nonzero(length)) @ (exact / size)
    return jnp.stack([cosine, length / size, norm(estimate - exact) / size])
