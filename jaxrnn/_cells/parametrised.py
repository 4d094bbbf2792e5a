"""Cells whose recurrent weights are a function of what is learnt."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jax import Array

from .._core.cell import Cell, Methods, Params, State, sums_in_float32
from .._core.checks import check_array, describe
from .._scan.steps import run_of


def parametrised(cell: Cell, weight: Callable[[Array], Array]) -> Cell:
    """The cell with weight(W) in place of each block W (H, H) of weight_hh, which `run` builds once for a sequence.

    It has no affine record, as the weight_hh of its parameters is not what it multiplies by.
    """
    methods = _Parametrised(cell, weight)
    return Cell(methods.init, methods.initial_state, methods.step, cell.output, None, methods.run, cell.input_ndim)


@dataclasses.dataclass(frozen=True)
class _Parametrised(Methods):
    cell: Cell
    weight: Callable[[Array], Array]  # (G, H, H) -> (G, H, H)

    def init(self, key: Array, input_size: int, hidden_size: int, **options: Any) -> Params:
        """The cell's own parameters; each block of weight_hh is taken as a function of it."""
        params = self.cell.init(key, input_size, hidden_size, **options)
        blocks_of(params)
        return params

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = ()) -> State:
        """The cell's own."""
        return self.cell.initial_state(params, batch_shape)

    def step(self, params: Params, state: State, x: Array) -> State:
        """The cell's step with the weights that are built here."""
        return self.cell.step(self.build(params), state, x)

    @sums_in_float32
    def run(
        self,
        params: Params,
        state: State,
        xs: Array,
        active: Array | None,
        /,
        *,
        reverse: bool,
        return_states: bool,
    ) -> tuple[State, Any]:
        """The cell's own way, with weights that are built once."""
        run = run_of(self.cell)
        return run(self.build(params), state, xs, active, reverse=reverse, return_states=return_states)

    def build(self, params: Params) -> Params:
        """Parameters of the cell."""
        weight = self.weight(blocks_of(params))
        return params._replace(weight_hh=weight.reshape(params.weight_hh.shape))


def blocks_of(params: Params) -> Array:
    """weight_hh as (G, H, H), which must have square blocks."""
    if not hasattr(params, "weight_hh"):
        raise TypeError(f"params must be a NamedTuple with the field weight_hh, got {describe(params)}")
    weight = params.weight_hh
    check_array("weight_hh", weight)
    if weight.ndim != 2 or weight.shape[0] % weight.shape[1] or getattr(params, "weight_hr", None) is not None:
        raise ValueError(
            f"weight_hh has shape {weight.shape}, expected (G*H, H) of square blocks, without a projection"
        )
    return weight.reshape(-1, weight.shape[1], weight.shape[1])
