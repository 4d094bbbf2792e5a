"""Coupled oscillatory network (Rusch and Mishra 2021, arXiv:2010.00951).

    y″ = tanh(W_ih x + b_ih + W_hh [y, y′] + b_hh) − γ y − ε y′

in steps of Δt, of the velocity z = y′ first:

    z′ = z + Δt (tanh(W_ih x + b_ih + W_hh [y, z] + b_hh) − γ y − ε z)
    y′ = y + Δt z′
"""

import dataclasses
import functools
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from .._core.cell import Cell, Methods, named
from .._core.checks import check_int, check_number, describe
from .._core.numerics import affine
from .affine import AffineParams, check_affine_params, check_step, init_affine, project, state_leaf, zero_state


class CoRNNState(NamedTuple):
    """What coupled oscillators carry from step to step."""

    y: Array  # (*batch, H), where they are
    z: Array  # (*batch, H), their velocity


def cornn(step_size: float = 0.042, frequency: float = 2.7, damping: float = 4.7) -> Cell:
    """A cell of coupled oscillators, whose gradients neither explode nor vanish for small steps.

        z′ = z + Δt (tanh(W_ih x + b_ih + W_hh [y, z] + b_hh) − γ y − ε z)
        y′ = y + Δt z′

    Where step_size, frequency and damping should be is the data's affair; the defaults are those of the paper for
    sequential MNIST. It has no affine record, as y, which it puts out, is half of what W_hh multiplies: algorithms that
    need one raise their ValueError.

    Args:
      step_size: Δt > 0.
      frequency: γ > 0, the square of an oscillator's own frequency.
      damping: ε >= 0.

    Returns:
      A `jr.Cell`, the same for equal arguments. Parameters: weight_ih (H, I), weight_hh (H, 2H), bias_ih (H,), bias_hh
      (H,). State: CoRNNState(y (*batch, H), z (*batch, H)). Output: y.

    Raises:
      ValueError: step_size or frequency is not above 0, or damping below it.
      TypeError: one of them is no number.

    Source: Rusch and Mishra 2021, arXiv:2010.00951.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> cell = jr.cornn()
    >>> params = cell.init(jax.random.key(0), 3, 8)
    >>> state, ys = jr.unroll(cell, params, jnp.ones((5, 2, 3)))
    >>> params.weight_hh.shape, state.z.shape, ys.shape
    ((8, 16), (2, 8), (5, 2, 8))
    """
    check_number("step_size", step_size, lambda size: size > 0, "above 0")
    check_number("frequency", frequency, lambda frequency: frequency > 0, "above 0")
    check_number("damping", damping, lambda damping: damping >= 0, "of at least 0")
    return _cornn(float(step_size), float(frequency), float(damping))


@functools.cache
def _cornn(step_size: float, frequency: float, damping: float) -> Cell:
    methods = _CoRNN(step_size, frequency, damping)
    cell = Cell(methods.init, methods.initial_state, methods.step, _output)
    return named(cell, f"jaxrnn.cornn({step_size}, {frequency}, {damping})", cornn.__doc__)


@dataclasses.dataclass(frozen=True)
class _CoRNN(Methods):
    step_size: float
    frequency: float
    damping: float

    def init(
        self, key: Array, input_size: int, hidden_size: int, *, bias: bool = True, dtype: DTypeLike = jnp.float32
    ) -> AffineParams:
        """Each tensor from U(-1/sqrt(H), 1/sqrt(H)); weight_hh is (H, 2H), biases are None for bias=False."""
        check_int("hidden_size", hidden_size)
        width = 2 * hidden_size
        return init_affine(key, input_size, hidden_size, blocks=1, recurrent_size=width, bias=bias, dtype=dtype)

    def initial_state(self, params: AffineParams, batch_shape: tuple[int, ...] = ()) -> CoRNNState:
        """Oscillators at rest."""
        _check(params)
        return zero_state(_state, params, batch_shape)

    def step(self, params: AffineParams, state: CoRNNState, x: Array) -> CoRNNState:
        """The next state: x (*batch, I), and a state with the same batch axes."""
        _check(params)
        check_step(params, state, x, _state)
        r = affine(jnp.concatenate(state, axis=-1), params.weight_hh, params.bias_hh)
        force = jnp.tanh(project(params, x) + r) - self.frequency * state.y - self.damping * state.z
        z = state.z + self.step_size * force
        return CoRNNState(state.y + self.step_size * z, z)


def _check(params: AffineParams) -> None:
    check_affine_params(params, 1, lambda size: (size, 2 * size))


def _state(params: AffineParams, batch_shape: tuple[int, ...]) -> CoRNNState:
    """Shapes of y and z (*batch, H)."""
    like = state_leaf(params, batch_shape, params.weight_hh.shape[0])
    return CoRNNState(like, like)


def _output(state: CoRNNState) -> Array:
    """y (*batch, H)."""
    if not isinstance(state, CoRNNState):
        raise TypeError(f"state must be a jaxrnn.CoRNNState, got {describe(state)}")
    return state.y
