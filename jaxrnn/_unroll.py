"""A sequence on one `lax.scan`."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from ._cell import Cell, Params, State, check_cell
from ._checks import check_array, check_bool, check_int, check_tree_like, is_concrete

Checkpoint: TypeAlias = int | Literal["sqrt"] | None


def unroll(
    cell: Cell,
    params: Params,
    xs: Array,
    state: State = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    checkpoint: Checkpoint = None,
    return_states: bool = False,
) -> tuple[State, Any]:
    """Run a cell over a sequence.

        s_t = step(params, s_{t-1}, x_t)        y_t = output(s_t)        t = 1 … T

    Args:
      cell: any `jr.Cell`.
      params: its parameters.
      xs: (T, *batch, I), time first, any number of batch axes, T >= 1.
      state: s_0, as from `cell.initial_state(params, batch)`, which is the default.
      lengths: (*batch) integers in [0, T], in any order: how many steps of each sequence count. Outputs past a
        sequence's end are 0, the final state is the one at its end (s_0 for length 0), xs past the end is not looked
        at. Every leaf of the state must then begin with the batch axes. Under a transformation the values are not
        known: those outside [0, T] then act as clamped.
      reverse: run from the last step to the first, with lengths from each sequence's own last step; y_t stays at t.
      checkpoint: back-propagate in less memory: keep the states at the ends of segments of this many steps and
        compute each segment again in the backward pass. "sqrt" takes segments of √T steps, O(√T) memory for one
        more forward pass. None keeps every step.
      return_states: give all states, (T, *batch, ...) per leaf, in place of the outputs.

    On a mesh, shard xs over batch axes: under `jax.shard_map`, or under `jax.jit` with Auto axes
    (`axis_types=(AxisType.Auto,)`). Under the Explicit axes that `jax.make_mesh` makes by default, give a state sharded
    as xs is: the default one is not, and `lax.scan` raises a TypeError about its carry.

    Returns:
      The final state, and ys (T, *batch, R) or all states.

    Raises:
      ValueError: T=0, wrong shapes or dtypes of xs, state or lengths, lengths out of range, unknown checkpoint.
      TypeError: cell is no Cell, xs is no array, lengths are no integers.

    Example:

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> params = jr.gru.init(jax.random.key(0), 3, 8)
    >>> xs = jnp.ones((5, 2, 3))                                # T=5, batch 2, 3 features
    >>> h, ys = jr.unroll(jr.gru, params, xs, lengths=jnp.array([5, 2]))
    >>> h.shape, ys.shape
    ((2, 8), (5, 2, 8))
    >>> bool((ys[1, 1] == h[1]).all()), bool((ys[2:, 1] == 0).all())
    (True, True)
    """
    check_cell("cell", cell)
    check_sequence("xs", xs)
    check_checkpoint(checkpoint)
    check_bool("reverse", reverse)
    check_bool("return_states", return_states)
    lengths = None if lengths is None else check_lengths(lengths, xs.shape[0], xs.shape[1:-1])
    return _unroll(
        cell, params, xs, state, lengths, reverse=reverse, checkpoint=checkpoint, return_states=return_states
    )


def check_sequence(name: str, xs: Any) -> None:
    """`xs` is (T, *batch, I) with T >= 1."""
    check_array(name, xs)
    if xs.ndim < 2:
        raise ValueError(f"{name} has shape {xs.shape}, expected (T, *batch, features)")
    if xs.shape[0] == 0:
        raise ValueError(f"{name} has shape {xs.shape}: it has no time steps, expected T >= 1")


def check_checkpoint(checkpoint: Any) -> None:
    """None, "sqrt" or a positive int."""
    if isinstance(checkpoint, str):
        if checkpoint != "sqrt":
            raise ValueError(f'checkpoint must be None, an int of steps or "sqrt", got {checkpoint!r}')
    elif checkpoint is not None:
        check_int("checkpoint", checkpoint)


def check_lengths(lengths: Any, steps: int, batch_shape: tuple[int, ...]) -> Array:
    """The lengths as int32 of the batch's shape; looks at the values where they are known."""
    values = np.asarray(lengths) if is_concrete(lengths) else lengths
    if values.size == 0 and isinstance(lengths, list | tuple):
        values = values.astype(int)  # an empty list has no dtype of its own
    if not jnp.issubdtype(values.dtype, jnp.integer):
        raise TypeError(f"lengths must be integers, got dtype {values.dtype}")
    if values.shape != batch_shape:
        raise ValueError(f"lengths has shape {values.shape}, expected {batch_shape}, the batch axes of the input")
    if not isinstance(values, np.ndarray):
        return jnp.clip(values, 0, min(steps, jnp.iinfo(values.dtype).max)).astype(jnp.int32)
    outside = values[(values < 0) | (values > steps)]
    if outside.size:
        raise ValueError(f"lengths must lie in [0, {steps}], the number of time steps, got {outside[0]}")
    return jnp.asarray(values, jnp.int32)


@functools.partial(jax.jit, static_argnames=("cell", "reverse", "checkpoint", "return_states"))
def _unroll(
    cell: Cell,
    params: Params,
    xs: Array,
    state: State,
    lengths: Array | None,
    *,
    reverse: bool,
    checkpoint: Checkpoint,
    return_states: bool,
) -> tuple[State, Any]:
    """At module level, so that an eager call traces once."""
    batch_shape = xs.shape[1:-1]
    if state is None:
        state = cell.initial_state(params, batch_shape)
    else:
        expected = jax.eval_shape(lambda p: cell.initial_state(p, batch_shape), params)
        check_tree_like("state", state, expected, f"for xs of shape {xs.shape}")
    state = _vary_with(state, (params, xs, lengths))

    def step(state: State, inputs: tuple[Array, Array | None]) -> tuple[State, Any]:
        x, active = inputs
        following = cell.step(params, state, x)
        check_tree_like("the state that cell.step returns", following, state, "as the state it was given")
        emitted = following if return_states else cell.output(following)
        if active is None:
            return following, emitted
        return _where(active, following, state), _where(active, emitted, jax.tree.map(jnp.zeros_like, emitted))

    active = None if lengths is None else _active(lengths, xs.shape[0])
    if active is not None:
        xs = _where(active, xs, jnp.zeros_like(xs))  # so that padding of NaN or inf reaches no gradient
    if checkpoint is None:
        return lax.scan(step, state, (xs, active), reverse=reverse)
    segment = _root(xs.shape[0]) if isinstance(checkpoint, str) else int(checkpoint)
    return _scan_segments(step, state, (xs, active), segment, reverse)


def _vary_with(state: State, others: Any) -> State:
    """Under `shard_map`, the state as one that differs between devices if anything else does: a scan's carry must."""

    def varying(a: Array) -> frozenset[str]:
        return jax.typeof(a).manual_axis_type.varying

    axes = frozenset().union(*(varying(leaf) for leaf in jax.tree.leaves((state, others))))
    if not axes:
        return state
    return jax.tree.map(lambda a: lax.pcast(a, tuple(axes - varying(a)), to="varying"), state)


def _active(lengths: Array, steps: int) -> Array:
    """(T, *batch): whether step t counts for a sequence."""
    time = lax.broadcasted_iota(jnp.int32, (steps, *lengths.shape), 0)
    return time < jnp.broadcast_to(lengths, time.shape)


def _where(mask: Array, yes: Any, no: Any) -> Any:
    """Leaf by leaf, `mask` over the leading axes."""

    def select(path: Any, yes: Array, no: Array) -> Array:
        if yes.shape[: mask.ndim] != mask.shape:
            raise ValueError(
                f"lengths need the batch axes {mask.shape} first in every leaf of the state, "
                f"got shape {yes.shape} at state{jax.tree_util.keystr(path)}"
            )
        return jnp.where(lax.expand_dims(mask, range(mask.ndim, yes.ndim)), yes, no)

    return jax.tree_util.tree_map_with_path(select, yes, no)


def _root(steps: int) -> int:
    """About √steps, and a divisor if there is one nearby: a rest would cost a copy of xs."""
    root = math.isqrt(steps - 1) + 1
    divisors = [n for n in range(1 + root // 2, 2 * root) if steps % n == 0]
    return min(divisors, key=lambda n: abs(n - root), default=root)


def _scan_segments(step: Callable, state: State, xs: Any, segment: int, reverse: bool) -> tuple[State, Any]:
    """`lax.scan` that keeps, for the backward pass, the states between segments of `segment` steps and no others."""
    # The outer scan keeps a segment apart from its copy in the backward pass: no barrier against CSE is needed.
    run = jax.checkpoint(lambda state, xs: lax.scan(step, state, xs, reverse=reverse), prevent_cse=False)

    def run_all(state: State, xs: Any) -> tuple[State, Any]:
        segments = jax.tree.map(lambda a: a.reshape(whole // segment, segment, *a.shape[1:]), xs)
        state, ys = lax.scan(run, state, segments, reverse=reverse)
        return state, jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), ys)

    steps = jax.tree.leaves(xs)[0].shape[0]
    whole = steps - steps % segment
    parts = [(run_all, slice(0, whole)), (run, slice(whole, steps))]
    outputs = []
    for scan, part in reversed(parts) if reverse else parts:
        if part.start < part.stop:
            state, ys = scan(state, jax.tree.map(operator.itemgetter(part), xs))
            outputs.append(ys)
    return state, jax.tree.map(lambda *ys: jnp.concatenate(ys), *(reversed(outputs) if reverse else outputs))
