"""Dropout of what goes from step to step: recurrent, with masks of each step, and variational, with one mask."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from .._core.cell import Cell, Params, State, check_cell, sums_in_float32
from .._core.checks import describe
from .._core.compat import which_argument
from .._core.numerics import affine
from .._scan.steps import run_of, run_steps
from ._noise import (
    Noisy,
    WithNoise,
    WithNoiseAtEachStep,
    cell_with_noise,
    check_drop_rate,
    split_key,
    state_inside,
)


class Masked(NamedTuple):
    """The state of a cell of `variational_dropout`.

    Fields:
      state: that of the cell inside.
      mask: (*batch, R), True where h goes on; None without noise.
    """

    state: State
    mask: Array | None = None


def recurrent_dropout(cell: Cell, rate: float) -> Cell:
    """The same cell with dropout of what goes from step to step, with a new mask at each step.

        h̃_{t-1} = m_t ⊙ h_{t-1} / (1 − rate)        m_t ~ Bernoulli(1 − rate)

    h is what the cell puts out. Of a cell with an affine record h̃ is what W_hh multiplies, and the gates see h as it
    is; of another one h̃ takes its place in all of the step. Memory that is no output, as an LSTM's c, is never dropped.
    Noise acts where the parameters come with a key, `remedies.Keyed(params, key)`; without one nothing is dropped,
    which is the expectation, and a sequence runs in the cell's own way. In a sequence all masks are drawn before its
    scan. It has no affine record: algorithms that need one raise their ValueError.

    Args:
      cell: a `jr.Cell` with an affine record, or whose output is a leaf of its state. Of a stack, wrap the cells.
      rate: in [0, 1), how often a unit is dropped.

    Returns:
      A `jr.Cell`, equal for equal arguments, with the cell's parameters and output. Its state is a `remedies.Noisy`.

    Raises:
      ValueError: rate is outside [0, 1); from its functions, the output is no leaf of the state.
      TypeError: cell is no Cell, rate no number.

    Source: Gal and Ghahramani 2016, arXiv:1512.05287, section 4.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import remedies
    >>> cell = remedies.recurrent_dropout(jr.lstm, 0.25)
    >>> params, xs = cell.init(jax.random.key(0), 3, 8), jnp.ones((5, 2, 3))
    >>> state, ys = jr.unroll(cell, remedies.Keyed(params, jax.random.key(1)), xs)
    >>> bool((jr.unroll(cell, params, xs)[1] == jr.unroll(jr.lstm, params, xs)[1]).all()), ys.shape
    (True, (5, 2, 8))
    """
    check_cell("cell", cell)
    check_drop_rate(rate)
    return cell_with_noise(_Recurrent(cell, float(rate)), "recurrent_dropout", recurrent_dropout.__doc__)


def variational_dropout(cell: Cell, rate: float) -> Cell:
    """The same cell with dropout of what goes from step to step, with one mask for all steps of a sequence.

        h̃_{t-1} = m ⊙ h_{t-1} / (1 − rate)        m ~ Bernoulli(1 − rate)

    All but the mask is as in `recurrent_dropout`. The mask is drawn by `initial_state`, and the state carries it.
    Inputs are dropped in the same way before they go in: with a mask of xs.shape[1:], the same at all times.

    Args:
      cell, rate: see `recurrent_dropout`.

    Returns:
      A `jr.Cell`, equal for equal arguments, with the cell's parameters and output. Its state is a `remedies.Masked`.

    Raises:
      ValueError, TypeError: as `recurrent_dropout`.

    Source: Gal and Ghahramani 2016, arXiv:1512.05287.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import remedies
    >>> cell = remedies.variational_dropout(jr.gru, 0.25)
    >>> params, xs = cell.init(jax.random.key(0), 3, 8), jnp.ones((5, 2, 3))
    >>> state, ys = jr.unroll(cell, remedies.Keyed(params, jax.random.key(1)), xs)
    >>> state.mask.shape, ys.shape
    ((2, 8), (5, 2, 8))
    """
    check_cell("cell", cell)
    check_drop_rate(rate)
    return cell_with_noise(_Variational(cell, float(rate)), "variational_dropout", variational_dropout.__doc__)


@dataclasses.dataclass(frozen=True)
class _Recurrent(WithNoiseAtEachStep):
    def _masked(self, state: State) -> Array:
        return self.cell.output(state)

    def _draw(self, key: Array, like: Any) -> Array:
        return jax.random.bernoulli(key, 1 - self.rate, like.shape)

    def _step_with(self, params: Params, state: State, x: Array, masks: Array | None) -> State:
        return _dropped_step(self.cell, self.rate, params, state, x, masks)

    def _run_without(
        self, params: Params, state: Noisy, xs: Array, active: Array | None, **way: bool
    ) -> tuple[Noisy, Any]:
        final, ys = run_of(self.cell)(split_key(params)[0], state.state, xs, active, **way)
        return Noisy(final), Noisy(ys) if way["return_states"] else ys


@dataclasses.dataclass(frozen=True)
class _Variational(WithNoise):
    kind = Masked

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = ()) -> Masked:
        """That of the cell inside; and of `Keyed` parameters a mask for each sequence."""
        params, key = split_key(params)
        state = state_inside(self.cell, params, key, batch_shape)
        if key is None:
            return Masked(state)
        shape = self.cell.output(state).shape
        return Masked(state, jax.random.bernoulli(jax.random.fold_in(key, 0), 1 - self.rate, shape))

    def step(self, params: Params, state: Masked, x: Array) -> Masked:
        """The next state, with the mask that the state carries."""
        self._check_state(state)
        inner = _dropped_step(self.cell, self.rate, split_key(params)[0], state.state, x, state.mask)
        return Masked(inner, state.mask)

    @sums_in_float32
    def run(
        self,
        params: Params,
        state: Masked,
        xs: Array,
        active: Array | None,
        /,
        *,
        reverse: bool,
        return_states: bool,
    ) -> tuple[Masked, Any]:
        """A scan; without a mask the cell's own way."""
        way = {"reverse": reverse, "return_states": return_states}
        if state.mask is not None:
            return run_steps(self.step, self.output, params, state, xs, active, **way)
        final, ys = run_of(self.cell)(split_key(params)[0], state.state, xs, active, **way)
        return Masked(final), Masked(ys) if return_states else ys


def _dropped_step(cell: Cell, rate: float, params: Params, state: State, x: Array, mask: Array | None) -> State:
    """The next state, whose recurrence sees h̃."""
    if mask is None:
        return cell.step(params, state, x)
    h = cell.output(state)
    dropped = jnp.where(mask, h / (1 - rate), 0)
    parts = cell.affine
    if parts is None:
        return cell.step(params, _with_output(cell, state, dropped), x)
    jax.eval_shape(cell.step, params, state, x)  # its checks
    r = affine(dropped, params.weight_hh, params.bias_hh)
    return parts.gates(params, *parts.merge(parts.project(params, x), r), state)


def _with_output(cell: Cell, state: State, h: Array) -> State:
    """The state with h in the place of what the cell puts out."""
    index = which_argument(cell.output, state)
    if index is None:
        raise ValueError(
            "dropout needs a cell with an affine record, or one whose output is a leaf of its state: "
            f"cell.output gives something else of {describe(state)}"
        )
    leaves, structure = jax.tree.flatten(state)
    return structure.unflatten([*leaves[:index], h, *leaves[index + 1 :]])
