"""`unroll`: checks, masks and memory; how the steps are run is the cell's affair."""

import functools
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import checkify
from jax.typing import ArrayLike

from .._core.cell import Cell, Params, State, check_cell
from .._core.checks import check_array, check_arrays, check_bool, check_int, check_tree_like, describe, shown
from .._core.compat import is_concrete
from .._core.time import are_known, is_active, masked, square_root, vary_with
from .loops import run_segments
from .steps import run_of

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
      xs: (T, *batch, I), time first, any number of batch axes, T >= 1; of a cell with `input_ndim` other than 1,
        as many axes in place of I.
      state: s_0, as from `cell.initial_state(params, batch)`, which is the default.
      lengths: (*batch) integers in [0, T], in any order: how many steps of each sequence count. Outputs past a
        sequence's end are 0, the final state is the one at its end (s_0 for length 0), xs past the end is not looked
        at. Every leaf of the state must then begin with the batch axes. Inside a transformation the values are
        not known: those outside [0, T] then act as clamped, and are an error under `jax.experimental.checkify`.
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
      TypeError: cell is no Cell, or one of functions that take or give something else; params, xs or state has a leaf
        that is no array, lengths are no integers.

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
    check_arrays("params", params)
    check_arrays("state", state)
    check_sequence("xs", xs, cell.input_ndim)
    check_checkpoint(checkpoint)
    check_bool("reverse", reverse)
    check_bool("return_states", return_states)
    if lengths is not None:
        lengths = check_lengths(lengths, xs.shape[0], xs.shape[1 : xs.ndim - cell.input_ndim])
    return _unroll(
        cell, params, xs, state, lengths, reverse=reverse, checkpoint=checkpoint, return_states=return_states
    )


def check_sequence(name: str, xs: Any, input_ndim: int) -> None:
    """`xs` is (T, *batch, *input) with T >= 1."""
    check_array(name, xs)
    if xs.ndim < 1 + input_ndim:
        expected = "features" if input_ndim == 1 else f"{input_ndim} axes of an input"
        raise ValueError(f"{name} has shape {xs.shape}, expected (T, *batch, {expected})")
    if xs.shape[0] == 0:
        raise ValueError(f"{name} has shape {xs.shape}: it has no time steps, expected T >= 1")


def check_checkpoint(checkpoint: Any) -> None:
    """None, "sqrt" or a positive int."""
    if isinstance(checkpoint, str):
        if checkpoint != "sqrt":
            raise ValueError(f'checkpoint must be None, an int of steps or "sqrt", got {shown(checkpoint)}')
    elif checkpoint is not None:
        check_int("checkpoint", checkpoint)


def check_lengths(lengths: Any, steps: int, batch_shape: tuple[int, ...], name: str = "lengths") -> Array:
    """The lengths as int32 of the batch's shape; looks at the values where they are known."""
    values = _values(name, lengths) if is_concrete(lengths) else lengths
    if values.size == 0 and isinstance(lengths, list | tuple):
        values = values.astype(int)  # an empty list has no dtype of its own
    if not jnp.issubdtype(values.dtype, jnp.integer):
        raise TypeError(f"{name} must be integers, got dtype {values.dtype}")
    if values.shape != batch_shape:
        raise ValueError(f"{name} has shape {values.shape}, expected {batch_shape}, the batch axes of the input")
    if not isinstance(values, np.ndarray) or not are_known(steps):
        values = jnp.asarray(values)
        if are_known(steps):  # `jax.export` has no way to serialise a check
            inside = jnp.all((values >= 0) & (values <= steps))
            checkify.debug_check(inside, f"{name} must lie in [0, {steps}], the number of time steps")
        wide = values if jnp.iinfo(values.dtype).bits >= 32 else values.astype(jnp.int32)
        return jnp.clip(wide, 0, steps).astype(jnp.int32)
    outside = values[(values < 0) | (values > steps)]
    if outside.size:
        raise ValueError(f"{name} must lie in [0, {steps}], the number of time steps, got {outside[0]}")
    return jnp.asarray(values, jnp.int32)


def _values(name: str, lengths: Any) -> np.ndarray:
    try:
        return np.asarray(lengths)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be integers, one for each sequence, got {describe(lengths)}") from None


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
    leading = xs.shape[1 : xs.ndim - min(1, cell.input_ndim)]  # batch axes, and those of an image but its channels
    if state is None:
        state = cell.initial_state(params, leading)
        check_arrays("what cell.initial_state returns", state)
    else:
        expected = jax.eval_shape(lambda p: cell.initial_state(p, leading), params)
        check_tree_like("state", state, expected, f"for xs of shape {xs.shape}")
    state = vary_with(state, (params, xs, lengths))
    active = None if lengths is None else is_active(lengths, xs.shape[0])
    xs = masked(active, xs)  # so that padding of NaN or inf reaches no gradient
    run = run_of(cell)

    def run_part(params: Params, state: State, inputs: tuple[Array, Array | None]) -> tuple[State, Any]:
        return run(params, state, *inputs, reverse=reverse, return_states=return_states)

    with jax.named_scope("jaxrnn.unroll"):
        if checkpoint is None:
            return run_part(params, state, (xs, active))
        if not are_known(xs.shape[0]):
            raise ValueError(f"checkpoint must be None where T is a symbol, {xs.shape[0]}, got {shown(checkpoint)}")
        length = square_root(xs.shape[0]) if isinstance(checkpoint, str) else int(checkpoint)
        return run_segments(run_part, params, state, (xs, active), length, reverse=reverse)
