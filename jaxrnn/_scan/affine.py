"""The fast scan of a cell with an affine structure: the numbers of stepping it, under all of JAX's transformations.

    a⁰ = merge(project(x_t), 0)                 for a chunk of time steps at once
    a  = a⁰ + merge(0, W_hh h_{t-1} + b_hh)     step by step
    s_t = gates(a, s_{t-1})

Plain differentiation of such a scan adds up dW time step by time step and keeps every intermediate of `gates`. Here the
derivative is written down as what it is, a linear recurrence

    ȧ_t = merge(∂project, Ẇ_hh h_{t-1} + ḃ_hh)  of a chunk at once
    ṡ_t = ∂gates/∂a (ȧ_t + merge(0, W_hh ḣ_{t-1})) + ∂gates/∂s ṡ_{t-1}

whose coefficients come from a and s, which are all that is kept. JAX transposes it to the lean backward pass: one
matmul a step for the state's cotangent, one for each chunk and weight for dW. Being a `custom_jvp` made of ordinary
operations, it has forward mode, reverse mode and all orders of both.

What makes the difference on a CPU:

- New pages of a temporary cost as much time as computing it. So dW is added up chunk by chunk, and neither the
  projections nor their cotangents ever exist for all of T.
- A weight that lies as (inputs, outputs) multiplies up to twice as fast: transposed once, before the scan.
- A loop that reads a slice of a scanned array's slice is not vectorised by XLA:CPU. So `merge` gives arrays that
  `gates` reads whole.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._core.cell import Affine, Merge, Params, State, Step
from .._core.compat import closed_values, is_concrete, is_symbolic_zero
from .._core.numerics import affine, matmul, spread
from .._core.time import join_time, masked, split_time, vary_with, whole_and_rest
from . import plan
from .loops import scan
from .native.sequence import run_native
from .steps import checked_step, run_steps

Merged = tuple[Array, ...]  # what `merge` gives, (T, *batch, ·) each


def run_affine(
    kernel: str | None,
    structure: Affine,
    output: Callable[[State], Array],
    step: Step,
    params: Params,
    state: State,
    xs: Array,
    active: Array | None,
    *,
    reverse: bool,
    return_states: bool,
) -> tuple[State, Any]:
    """`Run` of a cell with this structure, this output, and this step, which is their composition.

    `kernel` is the name of the compiled one with the same numbers, if there is one.
    """
    is_closed = _is_closed(step, params, state, xs[0])  # first: the step checks its arguments
    z = jax.eval_shape(structure.project, params, jax.ShapeDtypeStruct(xs.shape[-1:], xs.dtype))
    chunks = plan.affine(
        xs.shape[0],
        math.prod(xs.shape[1:-1]),
        z,
        arrays=(params, state, xs),
        is_closed=is_closed,
        platform=plan.platform(),
    )
    if chunks is None:
        return run_steps(step, output, params, state, xs, active, reverse=reverse, return_states=return_states)
    _check_linear(structure.merge, z)
    by_xla = _Chunked(structure, output, reverse, chunks)
    if kernel is None:
        return by_xla(params, state, xs, active, return_states=return_states)
    sizes = plan.Sizes(xs.shape[0], math.prod(xs.shape[1:-1]), xs.shape[-1], z.shape[-1], output(state).shape[-1])
    chosen = plan.native(sizes, z.dtype, (params, state, xs), platform=plan.platform())
    if chosen is None:
        return by_xla(params, state, xs, active, return_states=return_states)
    options = {"reverse": reverse, "return_states": return_states, "is_short": chosen == "short"}
    return run_native(kernel, by_xla, params, state, xs, active, **options)


class _Chunked(NamedTuple):
    """Runs a sequence in these chunks, and a rest."""

    affine: Affine
    output: Callable[[State], Array]
    reverse: bool
    chunks: plan.AffineChunks

    def __call__(
        self, params: Params, state: State, xs: Array, active: Array | None, return_states: bool = True
    ) -> tuple[State, Any]:
        def run(chunks: plan.AffineChunks, state: State, inputs: tuple[Array, Array | None]) -> tuple[State, Any]:
            spec = _Spec(self.affine, self.output, self.reverse, return_states, chunks)
            return _scan(spec, params, state, *inputs)

        chunks, rest = self.chunks, xs.shape[0] % self.chunks.derivative
        rest_chunks = plan.AffineChunks(rest, min(chunks.forward, rest))
        whole_chunks = chunks._replace(forward=min(chunks.forward, xs.shape[0] - rest))
        whole, rest = functools.partial(run, whole_chunks), functools.partial(run, rest_chunks)
        return whole_and_rest(whole, rest, chunks.derivative, state, (xs, active), reverse=self.reverse)


def _is_closed(step: Step, params: Params, state: State, x: Array) -> bool:
    """Whether the step closes over no value that an outer transformation traces."""
    return all(map(is_concrete, closed_values(functools.partial(checked_step, step), params, state, x)))


@functools.lru_cache
def _check_linear(merge: Merge, z: Any) -> None:
    """`merge` can be transposed, as only what is linear can."""
    merged = jax.eval_shape(merge, z, z)
    try:
        jax.eval_shape(lambda cotangents: jax.linear_transpose(merge, z, z)(cotangents), merged)
    except Exception as error:
        raise ValueError("merge must be linear in z and r, JAX cannot transpose it") from error


class _Spec(NamedTuple):
    """What is run, and how: static."""

    affine: Affine
    output: Callable[[State], Array]
    reverse: bool
    return_states: bool
    chunks: plan.AffineChunks  # lengths that divide T

    def emitted(self, states: State) -> Any:
        """What comes out at these states."""
        return states if self.return_states else self.output(states)

    def from_h(self, r: Array) -> Merged:
        """What the gates see of r."""
        return self.affine.merge(jnp.zeros_like(r), r)

    def from_x(self, z: Array) -> Merged:
        """What the gates see of z."""
        return self.affine.merge(z, jnp.zeros_like(z))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _scan(spec: _Spec, params: Params, state: State, xs: Array, active: Array | None) -> tuple[State, Any]:
    """The final state, and what comes out of xs (T, *batch, I)."""

    def emit(state: State, merged: Merged, active: Array | None) -> Any:
        del merged
        return masked(active, spec.emitted(state))

    final, (_, ys) = _forward(spec, params, state, xs, active, emit, spec.chunks.forward)
    return final, jax.tree.map(_batch_first, ys)


class _Kept(NamedTuple):
    """What the tangent of a chunk needs of it, (length, *batch, ·) each."""

    xs: Array
    xs_dot: Array | None  # None if xs is a constant
    active: Array | None
    states: State  # after each step
    merged: Merged


def _scan_jvp(spec: _Spec, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    params, state, xs, active = primals
    params_dot, state_dot, xs_dot, _ = tangents
    final, (starts, (states, merged)) = _forward(
        spec, params, state, xs, active, lambda state, merged, _: (state, merged), spec.chunks.derivative
    )
    both = params, _instantiate(params, params_dot)
    # The backward pass makes the states' shift again, chunk by chunk.
    tangent = jax.checkpoint(functools.partial(_chunk_tangent, spec), prevent_cse=False)
    state_dot = vary_with(_instantiate(state, state_dot), (params, state, xs, active))
    kept = _Kept(xs, None if is_symbolic_zero(xs_dot) else xs_dot, active, states, merged)
    final_dot, (_, ys_dot) = _scan_chunks(tangent, both, state_dot, kept, starts, spec.chunks.derivative, spec.reverse)
    ys = masked(active, spec.emitted(states))
    return (final, jax.tree.map(_batch_first, ys)), (final_dot, ys_dot)


_scan.defjvp(_scan_jvp, symbolic_zeros=True)


def _batch_first(a: Array) -> Array:
    """The same array, with `vmap`'s axis first, where a reshape puts it.

    Under `vmap` JAX takes for granted that a function and its `custom_jvp` rule return the batch on the same axis.
    """
    return lax.reshape(lax.reshape(a, (1, *a.shape)), a.shape)


def _instantiate(primals: Any, tangents: Any) -> Any:
    """The tangents, with zeros in place of symbolic ones."""
    return jax.tree.map(lambda p, t: jnp.zeros_like(p) if is_symbolic_zero(t) else t, primals, tangents)


def _forward(
    spec: _Spec,
    params: Params,
    state: State,
    xs: Array,
    active: Array | None,
    emit: Callable[[State, Merged, Array | None], Any],
    length: int,
) -> tuple[State, tuple[State, Any]]:
    """The final state; the states that the chunks start from, and what `emit` gives at each step."""

    def step(both: tuple[Params, Array], state: State, inputs: tuple[Merged, Array | None]) -> tuple[State, Any]:
        (params, weight), (from_x, active) = both, inputs
        r = matmul(spec.output(state), weight)
        if params.bias_hh is not None:
            r = r + spread(params.bias_hh, r.shape)
        merged = _add(from_x, spec.from_h(r))
        new_state = masked(active, spec.affine.gates(params, *merged, state), state)
        return new_state, emit(new_state, merged, active)

    def chunk(
        both: tuple[Params, Array], start: State, inputs: tuple[Array, Array | None], _: Any
    ) -> tuple[State, tuple[State, Any]]:
        (params, _), (x, active) = both, inputs
        from_x = (spec.from_x(spec.affine.project(params, x)), active)
        if length == 1:
            end, emitted = step(both, start, jax.tree.map(lambda a: a[0], from_x))
            return end, (start, jax.tree.map(lambda a: a[None], emitted))
        end, emitted = scan(step, both, start, from_x, reverse=spec.reverse)
        return end, (start, emitted)

    both = params, params.weight_hh.T
    return _scan_chunks(chunk, both, state, (xs, active), None, length, spec.reverse)


def _chunk_tangent(
    spec: _Spec, both: tuple[Params, Params], start_dot: State, kept: _Kept, start: State
) -> tuple[State, tuple[None, Any]]:
    """The tangents of a chunk's last state and outputs, linear in those of the parameters, the first state and x."""
    params, params_dot = both
    previous = jax.tree.map(functools.partial(_shift, reverse=spec.reverse), start, kept.states)
    merged_dot = _merged_tangent(spec, params, params_dot, kept, previous)

    # The coefficients are made again in the backward pass, step by step.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def gates_tangent(
        both: tuple[Params, Params], merged: Merged, state: State, merged_dot: Merged, state_dot: State
    ) -> State:
        params, params_dot = both

        def gates(params: Params, merged: Merged, state: State) -> State:
            return spec.affine.gates(params, *merged, state)

        return jax.jvp(gates, (params, merged, state), (params_dot, merged_dot, state_dot))[1]

    def step(
        both: tuple[Params, Params], state_dot: State, inputs: tuple[Merged, Merged, State, State, Array | None]
    ) -> tuple[State, Any]:
        merged_dot, merged, state, new_state, active = inputs
        _, h_dot = jax.jvp(spec.output, (state,), (state_dot,))
        merged_dot = _add(merged_dot, spec.from_h(affine(h_dot, both[0].weight_hh, None)))
        new_dot = masked(active, gates_tangent(both, merged, state, merged_dot, state_dot), state_dot)
        _, emitted_dot = jax.jvp(spec.emitted, (new_state,), (new_dot,))
        return new_dot, masked(active, emitted_dot)

    inputs = (merged_dot, kept.merged, previous, kept.states, kept.active)
    end_dot, ys_dot = scan(step, both, start_dot, inputs, reverse=spec.reverse)
    return end_dot, (None, ys_dot)


def _merged_tangent(spec: _Spec, params: Params, params_dot: Params, kept: _Kept, previous: State) -> Merged:
    """ȧ of a chunk, as far as it comes from the parameters and from x."""
    if kept.xs_dot is None:
        _, z_dot = jax.jvp(lambda params: spec.affine.project(params, kept.xs), (params,), (params_dot,))
    else:
        _, z_dot = jax.jvp(spec.affine.project, (params, kept.xs), (params_dot, kept.xs_dot))
    return spec.affine.merge(z_dot, affine(spec.output(previous), params_dot.weight_hh, params_dot.bias_hh))


def _add(a: Merged, b: Merged) -> Merged:
    return jax.tree.map(jnp.add, tuple(a), tuple(b))


def _shift(start: Array, states: Array, *, reverse: bool) -> Array:
    """The state before each step, from the one at the start and those after each step."""
    return jnp.concatenate([states[1:], start[None]] if reverse else [start[None], states[:-1]])


def _scan_chunks(
    body: Callable[[Any, State, Any, Any], tuple[State, tuple[Any, Any]]],
    params: Any,
    carry: State,
    xs: Any,
    starts: Any,
    length: int,
    reverse: bool,
) -> tuple[State, tuple[Any, Any]]:
    """Scan `body(params, carry, chunk of xs, entry of starts) -> (carry, (a per chunk, a per step))` over chunks."""

    def run(params: Any, carry: State, inputs: tuple[Any, Any]) -> tuple[State, tuple[Any, Any]]:
        return body(params, carry, *inputs)

    if jax.tree.leaves(xs)[0].shape[0] == length:
        carry, (per_chunk, per_step) = body(params, carry, xs, jax.tree.map(lambda a: a[0], starts))
        return carry, (jax.tree.map(lambda a: a[None], per_chunk), per_step)
    carry, (per_chunk, per_step) = scan(run, params, carry, (split_time(xs, length), starts), reverse=reverse)
    return carry, (per_chunk, join_time(per_step))
