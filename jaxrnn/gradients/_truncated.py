"""Truncated back-propagation through time, on a ring of the last steps."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._cell import Params, State
from .._checks import check_int
from ._problem import Problem, local_step, loss_gradient, split, with_recurrent


class TBPTTCarry(NamedTuple):
    """What truncated BPTT remembers: of the last k2 steps, step t in entry t mod k2."""

    state: State
    time: Array  # steps taken, or fewer by a multiple of k1 and k2: a stream may be endless
    states: State  # (k2, ...) before each step
    xs: Any  # (k2, ...)
    cotangents: list[Array]  # (k2, ...) ∂l/∂s after each step, 0 once it has been propagated


def check_truncation(k1: Any, k2: Any) -> None:
    """1 <= k1 <= k2."""
    check_int("k1", k1)
    check_int("k2", k2)
    if k1 > k2:
        raise ValueError(f"k1 must be at most k2, or the loss of some steps would reach no parameter, got {k1} > {k2}")


def tbptt_init(k2: int, params: Params, state: State, x: Any, key: Array | None = None) -> TBPTTCarry:
    """An empty ring."""
    del params, key
    ring = functools.partial(jax.tree.map, lambda a: jnp.broadcast_to(a, (k2, *jnp.shape(a))))
    reals = jax.tree.map(jnp.zeros_like, split(state)[0])
    return TBPTTCarry(state, jnp.zeros((), jnp.int32), ring(state), ring(x), ring(reals))


def tbptt_update(
    problem: Problem, k1: int, k2: int, params: Params, carry: TBPTTCarry, x: Any, y: Any
) -> tuple[TBPTTCarry, Array, Params]:
    """One step; after each k1 of them the losses since are propagated."""
    function, weights, reals = local_step(problem, params, carry.state, x)
    _, following = function(weights, reals)
    value, direct, cotangent = loss_gradient(problem, params, following, y)

    def put(ring: Any, entry: Any) -> Any:
        return jax.tree.map(lambda a, b: a.at[carry.time % k2].set(b), ring, entry)

    carry = TBPTTCarry(
        following,
        _next(carry.time, math.lcm(k1, k2)),
        put(carry.states, carry.state),
        put(carry.xs, x),
        put(carry.cotangents, cotangent),
    )
    recurrent = lax.cond(
        carry.time % k1 == 0,
        lambda: _propagate(problem, params, carry),
        lambda: [jnp.zeros_like(weight) for weight in weights],
    )
    carry = carry._replace(cotangents=[jnp.where(carry.time % k1 == 0, 0, ring) for ring in carry.cotangents])
    return carry, value, with_recurrent(problem, params, direct, recurrent)


def _next(time: Array, period: int) -> Array:
    return jnp.where(time + 1 < 2 * period, time + 1, period)


def tbptt_rest(problem: Problem, params: Params, carry: TBPTTCarry) -> Params:
    """The gradient of the losses since the last propagation."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    return with_recurrent(problem, params, zeros, _propagate(problem, params, carry))


def _propagate(problem: Problem, params: Params, carry: TBPTTCarry) -> list[Array]:
    """Σ λ_t ∂s_t/∂θ over the ring, from the newest step to the oldest."""
    k2 = len(jax.tree.leaves(carry.states)[0])

    def back(inner: tuple[list[Array], list[Array]], age: Array) -> tuple[tuple[list[Array], list[Array]], None]:
        cotangent, sums = inner
        state, x, direct = jax.tree.map(
            lambda ring: ring[(carry.time - 1 - age) % k2], (carry.states, carry.xs, carry.cotangents)
        )
        cotangent = jax.tree.map(jnp.add, cotangent, direct)
        # What is left of the ring before it has filled up holds the first state: nothing may come back from there.
        cotangent = [jnp.where(age < carry.time, a, jnp.zeros_like(a)) for a in cotangent]
        function, weights, reals = local_step(problem, params, state, x)
        _, pull, _ = jax.vjp(function, weights, reals, has_aux=True)
        more, cotangent = pull(cotangent)
        return (cotangent, jax.tree.map(jnp.add, sums, more)), None

    weights = split(problem.select(params))[0]
    zeros = ([jnp.zeros_like(a[0]) for a in carry.cotangents], [jnp.zeros_like(weight) for weight in weights])
    (_, sums), _ = lax.scan(back, zeros, jnp.arange(k2, dtype=jnp.int32))
    return sums
