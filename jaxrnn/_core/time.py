"""Sequences cut along time, which is axis 0, and masked where they have ended."""

import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.export import is_symbolic_dim

from .cell import State
from .compat import varying_axes

Run = Callable[[State, Any], tuple[State, Any]]  # (state, (T, ...) per leaf) -> (state, (T, ...) per leaf)


def split_time(tree: Any, length: int) -> Any:
    """Leaf by leaf (T, ...) as (T/length, length, ...)."""
    return jax.tree.map(lambda a: a.reshape(a.shape[0] // length, length, *a.shape[1:]), tree)


def join_time(tree: Any) -> Any:
    """The inverse of `split_time`."""
    return jax.tree.map(lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:]), tree)


def nearest_divisor(steps: int, length: int) -> int:
    """The divisor of `steps` nearest to `length` if one is between half and twice of it, else `length`."""
    divisors = [n for n in range(1 + length // 2, 2 * length) if steps % n == 0]
    return min(divisors, key=lambda n: abs(n - length), default=length)


def are_known(*sizes: Any) -> bool:
    """Whether all are numbers; in a program that is exported for any size there are symbols."""
    return not any(map(is_symbolic_dim, sizes))


def square_root(steps: int) -> int:
    """About √steps, and a divisor if there is one nearby: a rest would cost a copy of xs."""
    return nearest_divisor(steps, math.isqrt(steps - 1) + 1)


def whole_and_rest(whole: Run, rest: Run, length: int, state: State, xs: Any, *, reverse: bool) -> tuple[State, Any]:
    """`whole` over as many steps as `length` divides and `rest` over those left at the end, as one run."""
    steps = jax.tree.leaves(xs)[0].shape[0]
    border = steps - steps % length
    runs = [(whole, slice(0, border)), (rest, slice(border, steps))]
    runs = [(run, part) for run, part in runs if part.start < part.stop]
    outputs = []
    for run, part in reversed(runs) if reverse else runs:
        state, ys = run(state, jax.tree.map(operator.itemgetter(part), xs))
        outputs.append(ys)
    return state, jax.tree.map(lambda *ys: jnp.concatenate(ys), *(reversed(outputs) if reverse else outputs))


def is_active(lengths: Array, steps: int) -> Array:
    """(T, *batch): whether step t counts for a sequence."""
    time = lax.broadcasted_iota(jnp.int32, (steps, *lengths.shape), 0)
    return time < jnp.broadcast_to(lengths, time.shape)


def masked(mask: Array | None, yes: Any, no: Any = None) -> Any:
    """Leaf by leaf `yes` where `mask`, over the leading axes, holds, else `no`, or zeros; all of it without a mask."""
    if mask is None:
        return yes

    def select(path: Any, yes: Array, no: Array) -> Array:
        if yes.shape[: mask.ndim] != mask.shape:
            raise ValueError(
                f"lengths need the batch axes {mask.shape} first in every leaf of the state, "
                f"got shape {yes.shape} at state{jax.tree_util.keystr(path)}"
            )
        return jnp.where(lax.expand_dims(mask, range(mask.ndim, yes.ndim)), yes, no)

    return jax.tree_util.tree_map_with_path(select, yes, jax.tree.map(jnp.zeros_like, yes) if no is None else no)


def vary_with(state: State, others: Any) -> State:
    """Under `shard_map`, the state as one that differs between devices if anything else does: a scan's carry must."""
    axes = frozenset().union(*map(varying_axes, jax.tree.leaves((state, others))))
    if not axes:
        return state
    return jax.tree.map(lambda a: lax.pcast(a, tuple(axes - varying_axes(a)), to="varying"), state)
