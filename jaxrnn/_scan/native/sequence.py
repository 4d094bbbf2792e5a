"""A cell's parameters, state and inputs as the kernels take them, and back."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ..._core.cell import Params, State
from .primitives import Operands, Outputs, Spec, run_sequence

__all__ = ["States", "run_native"]

# (params, state, xs, active) -> the final state and all states, by other means than kernels; hashable
States = Callable[[Params, State, Array, Array | None], tuple[State, State]]


def run_native(
    kernel: str,
    states: States,
    params: Params,
    state: State,
    xs: Array,
    active: Array | None,
    *,
    reverse: bool,
    return_states: bool,
    is_short: bool,
) -> tuple[State, Any]:
    """A whole sequence in the kernel of this name, as `Run` describes it. The state is h, or h and c.

    Of a short one the value alone: derivatives and `vmap` are those of `states`.
    """
    (h_0, *cells), structure = jax.tree.flatten(state)
    batch = xs.shape[1:-1]
    operands = Operands(
        x=xs.reshape(1, xs.shape[0], -1, xs.shape[-1]),
        weight_ih=params.weight_ih[None],
        weight_hh=params.weight_hh[None],
        bias_ih=_optional(params.bias_ih, xs, 0),
        bias_hh=_optional(params.bias_hh, xs, 0),
        weight_hr=_optional(getattr(params, "weight_hr", None), xs, h_0.shape[-1], 0),
        h_0=h_0.reshape(1, -1, h_0.shape[-1]),
        c_0=cells[0].reshape(1, -1, cells[0].shape[-1]) if cells else jnp.zeros((1, h_0[..., 0].size, 0), xs.dtype),
        active=jnp.zeros((1, xs.shape[0], 0), bool) if active is None else active.reshape(1, xs.shape[0], -1),
    )
    has_c = bool(cells)
    spec = Spec(kernel, reverse, has_c and return_states, _Reference(states, structure))
    outputs = run_sequence(spec, operands, is_short=is_short)
    final = _state(structure, outputs.h_T[0].reshape(*batch, -1), outputs.c_T[0].reshape(*batch, -1) if has_c else None)
    ys = outputs.ys[0].reshape(xs.shape[0], *batch, -1)
    if not return_states:
        return final, ys
    return final, _state(structure, ys, outputs.cs[0].reshape(xs.shape[0], *batch, -1) if has_c else None)


def _optional(a: Array | None, like: Array, *shape: int) -> Array:
    return jnp.zeros((1, *shape), like.dtype) if a is None else a[None]


def _state(structure: Any, h: Array, c: Array | None) -> State:
    return jax.tree.unflatten(structure, [h] if c is None else [h, c])


class _Weights(NamedTuple):
    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None
    bias_hh: Array | None
    weight_hr: Array | None


class _Reference(NamedTuple):
    """What the kernels are transformed as where they cannot be: a `Reference`."""

    states: States
    structure: Any  # of a state

    def __call__(self, operands: Operands) -> Outputs:
        x, weight_ih, weight_hh, *optional, h_0, c_0, active = operands
        weights = _Weights(weight_ih, weight_hh, *(a if a.shape[-1] else None for a in optional))
        has_c = self.structure.num_leaves == 2
        state = _state(self.structure, h_0, c_0 if has_c else None)
        final, states = self.states(weights, state, x, active if active.shape[-1] else None)
        (h_T, *c_T), (ys, *cs) = jax.tree.leaves(final), jax.tree.leaves(states)  # noqa: N806
        return Outputs(ys, cs[0] if has_c else ys[..., :0], h_T, c_T[0] if has_c else h_T[..., :0])
