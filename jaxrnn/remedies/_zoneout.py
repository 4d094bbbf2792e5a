"""Zoneout: now and then a unit keeps its state."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .._core.cell import Cell, Params, State, check_cell
from .._core.checks import check_number, describe, shown
from .._core.numerics import is_floating
from ._noise import WithNoiseAtEachStep, cell_with_noise


def zoneout(cell: Cell, rate: Any) -> Cell:
    """The same cell, whose units keep their state now and then: noise that does not break the way of gradients.

        s_t = m_t ⊙ s_{t-1} + (1 − m_t) ⊙ step(s_{t-1}, x_t)        m_t ~ Bernoulli(rate)

    Noise acts where the parameters come with a key, `remedies.Keyed(params, key)`; without one the masks are replaced
    by their expectation, m_t = rate, which is the form for evaluation. In a sequence all masks are drawn before its
    scan. It has no affine record: algorithms that need one raise their ValueError.

    Args:
      cell: any `jr.Cell`; of its state what is no floating-point number is always the new one.
      rate: in [0, 1], how often a unit keeps its state; or one for each part of the state, as
        `jr.LSTMState(h=0.05, c=0.5)`.

    Returns:
      A `jr.Cell`, equal for equal arguments, with the cell's parameters and output. Its state is a `remedies.Noisy`.

    Raises:
      ValueError: a rate is outside [0, 1]; from its functions, rates do not fit the state.
      TypeError: cell is no Cell, a rate no number, or rate a container that cannot be a static argument.

    Source: Krueger et al. 2017, arXiv:1606.01305.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import remedies
    >>> cell = remedies.zoneout(jr.lstm, jr.LSTMState(h=0.05, c=0.5))
    >>> params, xs = cell.init(jax.random.key(0), 3, 8), jnp.ones((5, 2, 3))
    >>> state, ys = jr.unroll(cell, remedies.Keyed(params, jax.random.key(1)), xs)
    >>> state.state.c.shape, ys.shape, jr.unroll(cell, params, xs)[1].shape
    ((2, 8), (5, 2, 8), (5, 2, 8))
    """
    check_cell("cell", cell)
    try:
        hash(rate)
    except TypeError:
        raise TypeError(f"rate must be a number or a NamedTuple or tuple of numbers, got {shown(rate)}") from None
    for path, part in jax.tree_util.tree_leaves_with_path(rate):
        check_number(f"rate{jax.tree_util.keystr(path)}", part, lambda rate: 0 <= rate <= 1, "in [0, 1]")
    rates = jax.tree.map(float, rate)
    if not jax.tree.leaves(rates):
        raise TypeError(f"rate must be a number or a NamedTuple or tuple of numbers, got {shown(rate)}")
    return cell_with_noise(_Zoneout(cell, rates), "zoneout", zoneout.__doc__)


@dataclasses.dataclass(frozen=True)
class _Zoneout(WithNoiseAtEachStep):
    def _masked(self, state: State) -> State:
        return state

    def _draw(self, key: Array, like: State) -> State:
        leaves, structure = jax.tree.flatten(like)
        keys = jax.random.split(key, len(leaves))
        rates = self._rates(like)
        return structure.unflatten(
            [jax.random.bernoulli(key, rate, a.shape) for key, rate, a in zip(keys, rates, leaves, strict=True)]
        )

    def _step_with(self, params: Params, state: State, x: Array, masks: State | None) -> State:
        new_state = self.cell.step(params, state, x)
        old, structure = jax.tree.flatten(state)
        kept = self._rates(state) if masks is None else jax.tree.leaves(masks)
        new = jax.tree.leaves(new_state)
        return structure.unflatten([_mixed(*parts) for parts in zip(kept, old, new, strict=True)])

    def _rates(self, state: State) -> list[float]:
        """One for each leaf of the state."""
        try:
            return jax.tree.leaves(jax.tree.broadcast(self.rate, state))
        except ValueError:
            raise ValueError(
                f"rate is {self.rate}, expected a number or one for each part of {describe(state)}"
            ) from None


def _mixed(kept: Any, old: Array, new: Array) -> Array:
    if not (is_floating(old) or jnp.issubdtype(old.dtype, jnp.complexfloating)):
        return new
    return kept * old + (1 - kept) * new if isinstance(kept, float) else jnp.where(kept, old, new)
