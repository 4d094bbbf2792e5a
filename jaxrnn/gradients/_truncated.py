"""Truncated back-propagation through time, on a ring of the last steps."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._core.cell import Params, State
from .._core.checks import check_int
from ._problem import Problem, add_up, local_step, loss_gradient, narrowed, split, steps_of, with_recurrent, zero_sums


class TBPTTCarry(NamedTuple):
    """What truncated BPTT remembers of the last k2 steps: a ring."""

    state: State
    slot: Array  # the entry that the next step goes into
    filled: Array  # entries in use
    since: Array  # steps since the last propagation
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
    zero = jnp.zeros((), jnp.int32)
    return TBPTTCarry(state, zero, zero, zero, ring(state), ring(x), ring(reals))


def tbptt_update(
    problem: Problem, k1: int, k2: int, params: Params, carry: TBPTTCarry, x: Any, y: Any
) -> tuple[TBPTTCarry, Array, Params]:
    """One step; after each k1 of them the losses since are propagated."""
    function, weights, reals = local_step(problem, params, carry.state, x)
    _, following = function(weights, reals)
    value, direct, cotangent = loss_gradient(problem, params, following, y)

    def put(ring: Any, entry: Any) -> Any:
        return jax.tree.map(lambda a, b: a.at[carry.slot].set(b), ring, entry)

    is_time = carry.since + 1 == k1
    carry = TBPTTCarry(
        following,
        (carry.slot + 1) % k2,
        jnp.minimum(carry.filled + 1, k2),
        jnp.where(is_time, 0, carry.since + 1),
        put(carry.states, carry.state),
        put(carry.xs, x),
        put(carry.cotangents, cotangent),
    )
    recurrent = lax.cond(
        is_time,
        lambda: _propagate(problem, params, carry),
        lambda: [jnp.zeros_like(weight) for weight in weights],
    )
    carry = carry._replace(cotangents=[jnp.where(is_time, 0, ring) for ring in carry.cotangents])
    return carry, value, with_recurrent(problem, params, direct, recurrent)


def tbptt_rest(problem: Problem, params: Params, carry: TBPTTCarry) -> Params:
    """The gradient of the losses since the last propagation."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    return with_recurrent(problem, params, zeros, _propagate(problem, params, carry))


def _propagate(problem: Problem, params: Params, carry: TBPTTCarry) -> list[Array]:
    """Σ λ_t ∂s_t/∂θ over the ring, from the newest step to the oldest."""
    k2 = steps_of(carry.states)

    def back(inner: tuple[list[Array], list[Array]], age: Array) -> tuple[tuple[list[Array], list[Array]], None]:
        cotangent, sums = inner
        state, x, direct = jax.tree.map(
            lambda ring: ring[(carry.slot - 1 - age) % k2], (carry.states, carry.xs, carry.cotangents)
        )
        cotangent = jax.tree.map(jnp.add, cotangent, direct)
        # What is left of the ring before it has filled up holds the first state: nothing may come back from there.
        cotangent = [jnp.where(age < carry.filled, a, jnp.zeros_like(a)) for a in cotangent]
        function, weights, reals = local_step(problem, params, state, x)
        _, pull, _ = jax.vjp(function, weights, reals, has_aux=True)
        more, cotangent = pull(cotangent)
        return (cotangent, add_up(sums, more)), None

    weights = split(problem.select(params))[0]
    start = [jnp.zeros_like(a[0]) for a in carry.cotangents], zero_sums(weights)
    (_, sums), _ = lax.scan(back, start, jnp.arange(k2, dtype=jnp.int32))
    return narrowed(sums, weights)
