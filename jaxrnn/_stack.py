"""Cells on top of each other, as one cell."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from ._cell import Cell, Params, State, check_cell


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
    return _stack(cells)


@functools.cache
def _stack(cells: tuple[Cell, ...]) -> Cell:
    parts = _Stack(cells)
    return Cell(parts.init, parts.initial_state, parts.step, parts.output)


@dataclasses.dataclass(frozen=True)
class _Stack:
    """The cells; the methods are the functions of the cell that they make together."""

    cells: tuple[Cell, ...]

    def init(
        self,
        key: Array,
        input_size: int,
        hidden_size: tuple[Any, ...],
        *,
        dtype: DTypeLike = jnp.float32,
        **options: Any,
    ) -> tuple[Params, ...]:
        """One entry of parameters a cell; `hidden_size` is a tuple with one width a cell."""
        self._check_count("hidden_size", hidden_size)
        params = []
        for cell, cell_key, width in zip(self.cells, jax.random.split(key, len(self.cells)), hidden_size, strict=True):
            params.append(cell.init(cell_key, input_size, width, dtype=dtype, **options))
            input_size = jax.eval_shape(lambda p, cell=cell: cell.output(cell.initial_state(p)), params[-1]).shape[-1]
        return tuple(params)

    def initial_state(self, params: tuple[Params, ...], batch_shape: tuple[int, ...] = ()) -> tuple[State, ...]:
        """One initial state a cell."""
        self._check_count("params", params)
        return tuple(cell.initial_state(p, batch_shape) for cell, p in zip(self.cells, params, strict=True))

    def step(self, params: tuple[Params, ...], state: tuple[State, ...], x: Array) -> tuple[State, ...]:
        """The next state of each cell: x (*batch, I) goes into the first."""
        self._check_count("params", params)
        self._check_count("state", state)
        following = []
        for cell, cell_params, cell_state in zip(self.cells, params, state, strict=True):
            following.append(cell.step(cell_params, cell_state, x))
            x = cell.output(following[-1])
        return tuple(following)

    def output(self, state: tuple[State, ...]) -> Array:
        """The output of the top cell."""
        return self.cells[-1].output(state[-1])

    def _check_count(self, name: str, value: Any) -> None:
        if not isinstance(value, tuple):
            raise TypeError(f"{name} must be a tuple with {len(self.cells)} entries, one a cell, got {value!r}")
        if len(value) != len(self.cells):
            raise ValueError(f"{name} must have {len(self.cells)} entries, one a cell, got {len(value)}")
