"""The fast scan of a cell that is given in parts: the numbers of stepping it, under all of JAX's transformations.

    a⁰ = merge(project(x_t), 0)                 for a chunk of time steps at once
    a  = a⁰ + merge(0, W_hh h_{t-1} + b_hh)     step by step
    s_t = gates(a, s_{t-1})

Plain differentiation of such a scan adds up dW time step by time step and keeps every intermediate of `gates`. Here the
derivative is written down as what it is, a linear recurrence

    ṡ_t = ∂gates/∂a (ȧ⁰ + merge(0, W_hh ḣ_{t-1})) + ∂gates/∂s ṡ_{t-1}        ȧ⁰ = merge(ẋ, Ẇ) of a chunk at once

whose coefficients come from a and s, which are all that is kept. JAX transposes it to the lean backward pass: one
matmul a step for the state's cotangent, one for each chunk and weight for dW. Being a `custom_jvp` made of ordinary
operations, it has forward mode, reverse mode and all orders of both.

Forward and backward, this many times as fast as a scan of the step (two cores of an AMD EPYC, jax 0.10):
(T, B, I, H) = (128, 32, 128, 128) rnn 1.4, gru 1.3, lstm 1.3; (256, 32, 256, 256) 1.5, 1.1, 1.4; (1024, 4, 32, 32) 3.3,
1.6, 1.9. `experiments.speed` measures all of it. What makes the difference there:

- Every new page of a temporary costs about 2 µs on a virtual machine, at (256, 32, 256, 256) a fifth of the time. So
  dW is added up chunk by chunk, and neither the projections nor their cotangents ever exist for all of T.
- A weight that lies as (inputs, outputs) multiplies up to twice as fast: transposed once, before the scan.
- A loop that reads a slice of a scanned array's slice is not vectorised by XLA:CPU: 65 µs in place of 9 µs for the
  gates of (32, 128) units. So `merge` gives arrays that `gates` reads whole.
"""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from ._affine import Parts, affine, spread, widened
from ._cell import Params, State

_TINY = 2**16  # bytes of pre-activations of the whole sequence


def scan(
    parts: Parts,
    params: Params,
    state: State,
    inputs: tuple[Array, Array | None],
    *,
    reverse: bool,
    return_states: bool,
) -> tuple[State, Any]:
    """`lax.scan` of the cell over xs (T, *batch, I); where active (T, *batch) is False the state stays.

    Returns the final state, and the outputs or all states, zero where not active.
    """
    xs, _ = inputs
    z = jax.eval_shape(parts.project, params, jax.ShapeDtypeStruct(xs.shape[-1:], xs.dtype))
    _check_linear(parts.merge, z)
    chunk = _chunk_length(xs.shape, z)
    whole = xs.shape[0] - xs.shape[0] % chunk

    def run(length: int, state: State, inputs: tuple[Array, Array | None]) -> tuple[State, Any]:
        lengths = _Lengths(length, _forward_length(inputs[0].shape, z, length))
        return _scan(parts, reverse, return_states, lengths, params, state, *inputs)

    runs = [
        (functools.partial(run, chunk), slice(0, whole)),
        (functools.partial(run, xs.shape[0] - whole), slice(whole, xs.shape[0])),
    ]
    return in_turn(runs, state, inputs, reverse)


def in_turn(
    runs: list[tuple[Callable[[State, Any], tuple[State, Any]], slice]], state: State, xs: Any, reverse: bool
) -> tuple[State, Any]:
    """One `run(state, xs)` after the other, each over its part of time, as one; parts without steps are left out."""
    runs = [(run, part) for run, part in runs if part.start < part.stop]
    outputs = []
    for run, part in reversed(runs) if reverse else runs:
        state, ys = run(state, jax.tree.map(operator.itemgetter(part), xs))
        outputs.append(ys)
    return state, jax.tree.map(lambda *ys: jnp.concatenate(ys), *(reversed(outputs) if reverse else outputs))


@functools.lru_cache
def _check_linear(merge: Callable[[Array, Array], tuple[Array, ...]], z: Any) -> None:
    """`merge` can be transposed, as only what is linear can."""
    merged = jax.eval_shape(merge, z, z)
    try:
        jax.eval_shape(lambda cotangents: jax.linear_transpose(merge, z, z)(cotangents), merged)
    except Exception as error:
        raise ValueError("merge must be linear in z and r, JAX cannot transpose it") from error


class _Lengths(NamedTuple):
    """How many time steps make a chunk."""

    derivative: int
    forward: int  # where nothing is differentiated


def _chunk_length(shape: tuple[int, ...], z: Any) -> int:
    """How many time steps are projected at once, and their dW formed at once.

    On a CPU as many as fit the caches, 1 MiB of pre-activations, but not below 512 rows, where the matmul gets slow.
    lstm (256, 32, 256, 256), ms forward and backward: all 256 steps at once 216, 32 steps 185, 16 steps 175, 8 steps
    174; (128, 32, 128, 128): all 39, 32 steps 34, 16 steps 32, 8 steps 34, 4 steps 38. No more than a quarter of the
    sequence, as memory grows with the chunk: rnn (128, 32, 128, 128) all 8.3 in 10.5 MB, a quarter 8.6 in 7.0 MB.
    Below 64 KiB in all it is one chunk. Other platforms have not been measured: 64 MiB there, which bounds memory.
    """
    steps, batch = shape[0], math.prod(shape[1:-1])
    row = z.shape[-1] * z.dtype.itemsize
    if steps * batch * row <= _TINY:
        return steps
    rows = max(512, (2**20 if jax.default_backend() == "cpu" else 2**26) // row)
    length = max(1, min(rows // max(1, batch), steps // 4))
    return nearest_divisor(steps, length)


def nearest_divisor(steps: int, length: int) -> int:
    """The divisor of `steps` nearest to `length` if one is between half and twice of it, else `length`."""
    divisors = [n for n in range(1 + length // 2, 2 * length) if steps % n == 0]
    return min(divisors, key=lambda n: abs(n - length), default=length)


def _forward_length(shape: tuple[int, ...], z: Any, length: int) -> int:
    """The same where nothing is differentiated, so that nothing is kept: all steps at once up to 8 MiB.

    rnn (1024, 4, 32, 32): 1.7 ms, in the chunks of the derivative 2.7. The smallest project step by step, as each
    kernel before the loop costs as much as several steps in it: rnn (50, 1, 1, 16) 21 µs, all at once 57.
    """
    size = math.prod(shape[:-1]) * z.shape[-1] * z.dtype.itemsize
    if size <= _TINY:
        return 1
    return shape[0] if size <= 2**23 else length


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2, 3))
def _scan(
    parts: Parts,
    reverse: bool,
    return_states: bool,
    lengths: _Lengths,
    params: Params,
    state: State,
    xs: Array,
    active: Array | None,
) -> tuple[State, Any]:
    """`scan` in chunks whose lengths divide T."""

    def emit(state: State, merged: Any, active: Array | None) -> Any:
        del merged
        return masked(active, state if return_states else parts.output(state))

    final, (_, ys) = _forward(parts, params, state, xs, active, emit, lengths.forward, reverse)
    return final, jax.tree.map(_batch_first, ys)


def _scan_jvp(
    parts: Parts, reverse: bool, return_states: bool, lengths: _Lengths, primals: tuple, tangents: tuple
) -> tuple[Any, Any]:
    params, state, xs, active = primals
    dparams, dstate, dxs, _ = tangents
    final, (starts, (states, merged)) = _forward(
        parts, params, state, xs, active, lambda state, merged, _: (state, merged), lengths.derivative, reverse
    )
    # Widened, so that dW is added up over chunks in float32.
    dparams = jax.tree.map(widened, _instantiate(params, dparams))
    tangent = functools.partial(_chunk_tangent, parts, reverse, return_states, params, dparams)
    # The backward pass makes the states' shift again, chunk by chunk.
    tangent = jax.checkpoint(tangent, prevent_cse=False)
    dstate = vary_with(_instantiate(state, dstate), (params, state, xs, active))
    dxs = None if isinstance(dxs, SymbolicZero) else dxs
    inputs = (xs, dxs, active, states, merged)
    dfinal, (_, dys) = _scan_chunks(tangent, dstate, inputs, starts, lengths.derivative, reverse)
    ys = masked(active, states if return_states else parts.output(states))
    return (final, jax.tree.map(_batch_first, ys)), (dfinal, dys)


_scan.defjvp(_scan_jvp, symbolic_zeros=True)


def _batch_first(a: Array) -> Array:
    """The same array, with `vmap`'s axis first, where a reshape puts it.

    Under `vmap` JAX takes for granted that a function and its `custom_jvp` rule return the batch on the same axis.
    """
    return lax.reshape(lax.reshape(a, (1, *a.shape)), a.shape)


def _instantiate(primals: Any, tangents: Any) -> Any:
    """The tangents, with zeros in place of symbolic ones."""
    return jax.tree.map(lambda p, t: jnp.zeros_like(p) if isinstance(t, SymbolicZero) else t, primals, tangents)


def _forward(
    parts: Parts,
    params: Params,
    state: State,
    xs: Array,
    active: Array | None,
    emit: Callable[[State, tuple[Array, ...], Array | None], Any],
    length: int,
    reverse: bool,
) -> tuple[State, tuple[State, Any]]:
    """The final state; the states that the chunks start from, and what `emit` gives at each step."""
    weight = params.weight_hh.T

    def step(state: State, inputs: tuple[tuple[Array, ...], Array | None]) -> tuple[State, Any]:
        from_x, active = inputs
        h = parts.output(state)
        r = lax.dot_general(h, weight, (((h.ndim - 1,), (0,)), ((), ())))
        if params.bias_hh is not None:
            r = r + spread(params.bias_hh, r.shape)
        merged = _add(from_x, parts.merge(jnp.zeros_like(r), r))
        following = masked(active, parts.gates(params, *merged, state), state)
        return following, emit(following, merged, active)

    def chunk(start: State, inputs: tuple[Array, Array | None], _: Any) -> tuple[State, tuple[State, Any]]:
        x, active = inputs
        z = parts.project(params, x)
        from_x = (parts.merge(z, jnp.zeros_like(z)), active)
        if length == 1:
            end, emitted = step(start, jax.tree.map(lambda a: a[0], from_x))
            return end, (start, jax.tree.map(lambda a: a[None], emitted))
        end, emitted = lax.scan(step, start, from_x, reverse=reverse)
        return end, (start, emitted)

    return _scan_chunks(chunk, state, (xs, active), None, length, reverse)


def _chunk_tangent(
    parts: Parts,
    reverse: bool,
    return_states: bool,
    params: Params,
    dparams: Params,
    dstart: State,
    inputs: tuple[Array, Array | None, Array | None, State, tuple[Array, ...]],
    start: State,
) -> tuple[State, tuple[None, Any]]:
    """The tangents of a chunk's last state and outputs, linear in those of the parameters, the first state and x."""
    x, dx, active, states, merged = inputs
    dparams = jax.tree.map(lambda dleaf, leaf: dleaf.astype(leaf.dtype), dparams, params)
    previous = jax.tree.map(functools.partial(_shift, reverse=reverse), start, states)
    if dx is None:
        _, dz = jax.jvp(lambda params: parts.project(params, x), (params,), (dparams,))
    else:
        _, dz = jax.jvp(parts.project, (params, x), (dparams, dx))
    dr = affine(parts.output(previous), dparams.weight_hh, dparams.bias_hh)
    used = _used(parts.gates, params, merged, start)

    # The coefficients are made again in the backward pass, step by step.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def gates_tangent(params: Params, merged: Any, state: State, dused: list, dmerged: Any, dstate: State) -> State:
        dparams = _fill(params, used, dused)
        return jax.jvp(
            lambda params, merged, state: parts.gates(params, *merged, state),
            (params, merged, state),
            (dparams, dmerged, dstate),
        )[1]

    def step(dstate: State, inputs: tuple[Any, Any, State, Array | None]) -> tuple[State, Any]:
        dmerged, merged, state, active = inputs
        _, dh = jax.jvp(parts.output, (state,), (dstate,))
        dr = affine(dh, params.weight_hh, None)
        dmerged = _add(dmerged, parts.merge(jnp.zeros_like(dr), dr))
        dused = [leaf for leaf, is_used in zip(jax.tree.leaves(dparams), used, strict=True) if is_used]
        following = gates_tangent(params, merged, state, dused, dmerged, dstate)
        following = masked(active, following, dstate)
        emitted = following if return_states else jax.jvp(parts.output, (state,), (following,))[1]
        return following, masked(active, emitted)

    dend, dys = lax.scan(step, dstart, (parts.merge(dz, dr), merged, previous, active), reverse=reverse)
    return dend, (None, dys)


def _add(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    return jax.tree.map(jnp.add, tuple(a), tuple(b))


def _shift(start: Array, states: Array, *, reverse: bool) -> Array:
    """The state before each step, from the one at the start and those after each step."""
    parts = [states[1:], start[None]] if reverse else [start[None], states[:-1]]
    return jnp.concatenate(parts)


def _used(gates: Callable, params: Params, merged: tuple[Array, ...], state: State) -> list[bool]:
    """Which leaves of params the gates look at: the tangents of others would be summed over time for nothing."""
    example = jax.tree.map(lambda a: a[0], merged)
    jaxpr = jax.make_jaxpr(lambda params: gates(params, *example, state))(params).jaxpr
    seen = {id(var) for equation in jaxpr.eqns for var in equation.invars} | {id(var) for var in jaxpr.outvars}
    return [id(var) in seen for var in jaxpr.invars]


def _fill(params: Params, used: list[bool], dused: list[Array]) -> Params:
    """Tangents of all params: those given where used, zeros elsewhere."""
    given = iter(dused)
    leaves, structure = jax.tree.flatten(params)
    tangents = [next(given) if is_used else jnp.zeros_like(leaf) for leaf, is_used in zip(leaves, used, strict=True)]
    return jax.tree.unflatten(structure, tangents)


def _scan_chunks(
    body: Callable[[State, Any, Any], tuple[State, tuple[Any, Any]]],
    carry: State,
    xs: Any,
    starts: Any,
    length: int,
    reverse: bool,
) -> tuple[State, tuple[Any, Any]]:
    """Scan `body(carry, chunk of xs, entry of starts) -> (carry, (a per chunk, a per step))` over chunks of time."""

    def run(carry: State, inputs: tuple[Any, Any]) -> tuple[State, tuple[Any, Any]]:
        return body(carry, *inputs)

    count = jax.tree.leaves(xs)[0].shape[0] // length
    if count == 1:
        carry, (per_chunk, per_step) = body(carry, xs, jax.tree.map(lambda a: a[0], starts))
        return carry, (jax.tree.map(lambda a: a[None], per_chunk), per_step)
    carry, (per_chunk, per_step) = lax.scan(run, carry, (split_time(xs, length), starts), reverse=reverse)
    return carry, (per_chunk, join_time(per_step))


def split_time(tree: Any, length: int) -> Any:
    """Leaf by leaf (T, ...) as (T/length, length, ...)."""
    return jax.tree.map(lambda a: a.reshape(a.shape[0] // length, length, *a.shape[1:]), tree)


def join_time(tree: Any) -> Any:
    """The inverse of `split_time`."""
    return jax.tree.map(lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:]), tree)


def vary_with(state: State, others: Any) -> State:
    """Under `shard_map`, the state as one that differs between devices if anything else does: a scan's carry must."""

    def varying(a: Array) -> frozenset[str]:
        return jax.typeof(a).manual_axis_type.varying

    axes = frozenset().union(*(varying(leaf) for leaf in jax.tree.leaves((state, others))))
    if not axes:
        return state
    return jax.tree.map(lambda a: lax.pcast(a, tuple(axes - varying(a)), to="varying"), state)


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
