"""One layer in one direction, or in both."""

import operator

import jax
import jax.numpy as jnp
from jax import Array

from .._core.cell import Cell, Params, State
from . import plan
from .unroll import Checkpoint, unroll


def unroll_directions(
    cell: Cell,
    params: list[Params],
    xs: Array,
    states: list[State],
    *,
    lengths: Array | None,
    checkpoint: Checkpoint,
) -> tuple[list[State], list[Array]]:
    """Final states and outputs of the forward direction and, if there are two params and states, of the reverse."""
    if len(params) == 2 and _is_faster_together(cell, params, xs, lengths):
        return _together(cell, params, xs, states, checkpoint)
    runs = [
        unroll(cell, params[d], xs, states[d], lengths=lengths, reverse=d == 1, checkpoint=checkpoint)
        for d in range(len(params))
    ]
    return [final for final, _ in runs], [ys for _, ys in runs]


def _is_faster_together(cell: Cell, params: list[Params], xs: Array, lengths: Array | None) -> bool:
    like = jax.eval_shape(lambda params: cell.output(cell.initial_state(params, xs.shape[1:-1])), params[0])
    return plan.both_directions_at_once(like.size, is_ragged=lengths is not None, platform=plan.platform())


def _together(
    cell: Cell, params: list[Params], xs: Array, states: list[State], checkpoint: Checkpoint
) -> tuple[list[State], list[Array]]:
    """Both directions in one scan."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    start = None if states[0] is None else jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    def run(params: Params, xs: Array, state: State) -> tuple[State, Array]:
        return unroll(cell, params, xs, state, checkpoint=checkpoint)

    finals, ys = jax.vmap(run)(stacked, jnp.stack([xs, jnp.flip(xs, 0)]), start)
    finals = [jax.tree.map(operator.itemgetter(direction), finals) for direction in (0, 1)]
    return finals, [ys[0], jnp.flip(ys[1], 0)]
