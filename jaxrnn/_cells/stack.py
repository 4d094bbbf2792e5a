"""Cells on top of each other, as one cell."""

import dataclasses
import functools
from typing import Any

import jax
from jax import Array

from .._core.cell import Cell, Methods, Params, State, check_cell, named, sums_in_float32
from .._core.checks import check_key, shown
from .._core.time import masked
from .._scan.steps import output_like, run_of


def stack(*cells: Cell) -> Cell:
    """Cells of any kinds and widths on top of each other, as a cell again: each reads the output of the one below.

        s⁽¹⁾′ = step₁(params₁, s⁽¹⁾, x)        s⁽ˡ⁾′ = stepₗ(paramsₗ, s⁽ˡ⁾, outputₗ₋₁(s⁽ˡ⁻¹⁾′))

    Args:
      cells: from the input upwards; stacks too.

    Returns:
      A `jr.Cell`, the same object for equal arguments. Its params and state are tuples with one entry a cell, its
      output is that of the top cell, and `init(key, input_size, hidden_sizes, **options)` takes a tuple of widths and
      hands the options (bias, dtype, ...) to each cell.

    Raises:
      ValueError: no cells, or as many widths, params or states as there are not cells.
      TypeError: something is not a `jr.Cell`.

    Example: features 100 -> 30 -> 20.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> cell = jr.stack(jr.rnn, jr.rnn)
    >>> params = cell.init(jax.random.key(0), 100, (30, 20))
    >>> h1, h2 = cell.step(params, cell.initial_state(params, (3,)), jnp.ones((3, 100)))
    >>> h1.shape, h2.shape
    ((3, 30), (3, 20))
    >>> jr.stack(jr.rnn, jr.rnn) is cell
    True
    """
    if not cells:
        raise ValueError("stack takes at least one cell, got none")
    for index, cell in enumerate(cells):
        check_cell(f"cells[{index}]", cell)
        if cell.input_ndim != cells[0].input_ndim:
            raise ValueError(
                f"cells[{index}] takes inputs of {cell.input_ndim} axes, cells[0] of {cells[0].input_ndim}: "
                "in a stack all take the same"
            )
    return _stack(cells)


@functools.cache
def _stack(cells: tuple[Cell, ...]) -> Cell:
    methods = _Stack(cells)
    cell = Cell(
        methods.init,
        methods.initial_state,
        methods.step,
        methods.output,
        run=methods.run,
        input_ndim=cells[0].input_ndim,
    )
    names = ", ".join(map(repr, cells))
    return named(cell, f"jaxrnn.stack({names})", _TEXT.format(names=names))


_TEXT = """Cells on top of each other, from the input upwards: {names}.

    s⁽¹⁾′ = step₁(params₁, s⁽¹⁾, x)        s⁽ˡ⁾′ = stepₗ(paramsₗ, s⁽ˡ⁾, outputₗ₋₁(s⁽ˡ⁻¹⁾′))

Parameters and state: tuples with one entry a cell. Output: that of the top cell. `init` takes a tuple of widths.
"""


@dataclasses.dataclass(frozen=True)
class _Stack(Methods):
    """The cells; the methods are the functions of the cell that they make together."""

    cells: tuple[Cell, ...]

    def init(
        self,
        key: Array,
        input_size: int,
        hidden_size: tuple[Any, ...],
        **options: Any,
    ) -> tuple[Params, ...]:
        """One entry of parameters a cell; `hidden_size` is a tuple of their widths, options go to each `init`."""
        check_key("key", key)
        self._check_count("hidden_size", hidden_size)
        params = []
        for cell, cell_key, width in zip(self.cells, jax.random.split(key, len(self.cells)), hidden_size, strict=True):
            params.append(cell.init(cell_key, input_size, width, **options))
            spatial = (1,) * (cell.input_ndim - 1)
            state = jax.eval_shape(lambda p, cell=cell, shape=spatial: cell.initial_state(p, shape), params[-1])
            input_size = output_like(cell, state, spatial).shape[-1]
        return tuple(params)

    def initial_state(self, params: tuple[Params, ...], batch_shape: tuple[int, ...] = ()) -> tuple[State, ...]:
        """One initial state a cell."""
        self._check_count("params", params)
        return tuple(cell.initial_state(p, batch_shape) for cell, p in zip(self.cells, params, strict=True))

    def step(self, params: tuple[Params, ...], state: tuple[State, ...], x: Array) -> tuple[State, ...]:
        """The next state of each cell: x (*batch, I) goes into the first."""
        self._check_count("params", params)
        self._check_count("state", state)
        new_state = []
        for cell, cell_params, cell_state in zip(self.cells, params, state, strict=True):
            new_state.append(cell.step(cell_params, cell_state, x))
            x = cell.output(new_state[-1])
        return tuple(new_state)

    @sums_in_float32
    def run(
        self,
        params: tuple[Params, ...],
        state: tuple[State, ...],
        xs: Array,
        active: Array | None,
        /,
        *,
        reverse: bool,
        return_states: bool,
    ) -> tuple[tuple[State, ...], Any]:
        """Layer by layer, each by its own way to run a sequence."""
        self._check_count("params", params)
        self._check_count("state", state)
        finals, states = [], []
        for index, cell in enumerate(self.cells):
            with jax.named_scope(f"layer{index}"):
                final, ys = run_of(cell)(
                    params[index], state[index], xs, active, reverse=reverse, return_states=return_states
                )
                finals.append(final)
                states.append(ys)
                xs = masked(active, jax.vmap(cell.output)(ys)) if return_states else ys
        return tuple(finals), tuple(states) if return_states else xs

    def output(self, state: tuple[State, ...]) -> Array:
        """The output of the top cell."""
        self._check_count("state", state)
        return self.cells[-1].output(state[-1])

    def _check_count(self, name: str, value: Any) -> None:
        if not isinstance(value, tuple):
            raise TypeError(f"{name} must be a tuple with {len(self.cells)} entries, one a cell, got {shown(value)}")
        if len(value) != len(self.cells):
            raise ValueError(f"{name} must have {len(self.cells)} entries, one a cell, got {len(value)}")
