"""Noise in parameters, and cells with noise in their steps: where it comes from, and when it is drawn.

Noise acts where the parameters come with a key, `Keyed(params, key)`. From it `initial_state` draws a key for each
sequence, which the state carries as numbers with a clock, so that step t has its own. A whole sequence draws the masks
of all its steps before its scan; step by step they are the same.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._core.cell import Cell, Methods, Params, State, named, sums_in_float32
from .._core.checks import check_arrays, check_key, check_number, describe
from .._core.numerics import is_floating
from .._scan.steps import run_steps

_IMPLEMENTATION = "threefry2x32"


class Keyed(NamedTuple):
    """Parameters of a cell with noise, and a random key: with it noise acts, without it its expectation.

        jr.unroll(cell, params, xs)                     evaluation
        jr.unroll(cell, Keyed(params, key), xs)         training: another key for each call

    Of a stack, each cell with noise has its own. The key has no gradient, so make the pair inside the function that is
    differentiated.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import remedies
    >>> cell = remedies.zoneout(jr.gru, 0.5)
    >>> params, xs = cell.init(jax.random.key(0), 3, 8), jnp.ones((5, 2, 3))
    >>> def loss(params, key):
    ...     return jnp.mean(jr.unroll(cell, remedies.Keyed(params, key), xs)[1] ** 2)
    >>> jax.grad(loss)(params, jax.random.key(1)).weight_hh.shape
    (24, 8)
    """

    params: Params
    key: Array


class Noise(NamedTuple):
    """Where the masks of each sequence come from.

    Fields:
      key: (*batch, 2), numbers of a key for each.
      time: (*batch), steps done.
    """

    key: Array
    time: Array


class Noisy(NamedTuple):
    """The state of a cell whose noise is another at each step.

    Fields:
      state: that of the cell inside.
      noise: a `remedies.Noise`; None without noise.
    """

    state: State
    noise: Noise | None = None


def split_key(params: Params) -> tuple[Params, Array | None]:
    """The parameters themselves, and the key that they come with."""
    if not isinstance(params, Keyed):
        return params, None
    check_key("key", params.key)
    return params.params, params.key


def state_inside(cell: Cell, params: Params, key: Array | None, batch_shape: tuple[int, ...]) -> State:
    """The initial state of the cell inside, which gets a key of its own if it has noise, too."""
    has_noise = isinstance(getattr(cell.initial_state, "__self__", None), WithNoise)
    inner = Keyed(params, jax.random.fold_in(key, 1)) if has_noise and key is not None else params
    return cell.initial_state(inner, batch_shape)


def key_numbers(key: Array, batch_shape: tuple[int, ...]) -> Array:
    """(*batch, 2): a key for each sequence."""
    return jax.random.bits(jax.random.fold_in(key, 0), (*batch_shape, 2), jnp.uint32)


def key_now(noise: Noise) -> Array:
    """The key of one sequence at its time."""
    return jax.random.fold_in(jax.random.wrap_key_data(noise.key, impl=_IMPLEMENTATION), noise.time)


@dataclasses.dataclass(frozen=True)
class WithNoise(Methods):
    """A cell with noise: what all of them share."""

    cell: Cell
    rate: Any  # hashable

    kind: ClassVar[type]  # of the state

    def init(self, key: Array, input_size: int, hidden_size: Any, **options: Any) -> Params:
        """The parameters of the cell inside."""
        return self.cell.init(key, input_size, hidden_size, **options)

    def output(self, state: Any) -> Array:
        """That of the cell inside."""
        self._check_state(state)
        return self.cell.output(state.state)

    def _check_state(self, state: Any) -> None:
        if not isinstance(state, self.kind):
            raise TypeError(f"state must be a jaxrnn.remedies.{self.kind.__name__}, got {describe(state)}")


@dataclasses.dataclass(frozen=True)
class WithNoiseAtEachStep(WithNoise):
    """One whose masks are drawn for each step."""

    kind = Noisy

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = ()) -> Noisy:
        """That of the cell inside; and of `Keyed` parameters a key for each sequence."""
        params, key = split_key(params)
        state = state_inside(self.cell, params, key, batch_shape)
        if key is None:
            return Noisy(state)
        return Noisy(state, Noise(key_numbers(key, batch_shape), jnp.zeros(batch_shape, jnp.int32)))

    def step(self, params: Params, state: Noisy, x: Array) -> Noisy:
        """The next state, with masks drawn here."""
        self._check_state(state)
        masks = None if state.noise is None else self._masks(state.state, state.noise, state.noise.time.ndim)
        return self._advance(params, state, (x, masks))

    @sums_in_float32
    def run(
        self,
        params: Params,
        state: Noisy,
        xs: Array,
        active: Array | None,
        /,
        *,
        reverse: bool,
        return_states: bool,
    ) -> tuple[Noisy, Any]:
        """A scan, before which all masks are drawn."""
        if state.noise is None:
            return self._run_without(params, state, xs, active, reverse=reverse, return_states=return_states)
        key, time = state.noise
        done = steps_done(xs.shape[0], active, time.shape, reverse)
        noise = Noise(jnp.broadcast_to(key, (*done.shape, 2)), jnp.broadcast_to(time, done.shape) + done)
        masks = self._masks(state.state, noise, time.ndim)
        inputs, way = (xs, masks), {"reverse": reverse, "return_states": return_states}
        return run_steps(self._advance, self.output, params, state, inputs, active, **way)

    def _masks(self, state: State, noise: Noise, batch_axes: int) -> Any:
        """One for each key (*leading, 2) and time (*leading), for the state inside, which has so many axes first."""
        like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[batch_axes:], a.dtype), self._masked(state))
        flat = Noise(noise.key.reshape(-1, 2), noise.time.reshape(-1))
        drawn = jax.vmap(lambda noise: self._draw(key_now(noise), like))(flat)
        return jax.tree.map(lambda a: a.reshape(*noise.time.shape, *a.shape[1:]), drawn)

    def _advance(self, params: Params, state: Noisy, inputs: tuple[Array, Any]) -> Noisy:
        x, masks = inputs
        inner = self._step_with(split_key(params)[0], state.state, x, masks)
        return Noisy(inner, None if state.noise is None else state.noise._replace(time=state.noise.time + 1))

    def _run_without(
        self, params: Params, state: Noisy, xs: Array, active: Array | None, **way: bool
    ) -> tuple[Noisy, Any]:
        """In expectation."""
        return run_steps(self._advance, self.output, params, state, (xs, None), active, **way)

    def _masked(self, state: State) -> Any:
        """The part of the state inside that masks are shaped as."""
        raise NotImplementedError

    def _draw(self, key: Array, like: Any) -> Any:
        """Masks of one sequence for one step."""
        raise NotImplementedError

    def _step_with(self, params: Params, state: State, x: Array, masks: Any) -> State:
        """The next state of the cell inside; in expectation if masks are None."""
        raise NotImplementedError


def steps_done(steps: int, active: Array | None, batch_shape: tuple[int, ...], reverse: bool) -> Array:
    """(T, *batch) how many steps were done before each."""
    counts = jnp.ones((steps, *batch_shape), jnp.int32)
    if active is not None:
        counts = jnp.broadcast_to(lax.expand_dims(active, range(active.ndim, counts.ndim)), counts.shape).astype(
            jnp.int32
        )
    return lax.cumsum(counts, axis=0, reverse=reverse) - counts


def cell_with_noise(methods: Any, name: str, text: str | None) -> Cell:
    """The cell of these methods."""
    inner = methods.cell
    cell = Cell(methods.init, methods.initial_state, methods.step, methods.output, None, methods.run, inner.input_ndim)
    return named(cell, f"jaxrnn.remedies.{name}({inner!r}, {methods.rate})", text)


def check_drop_rate(rate: Any) -> None:
    """A probability below 1."""
    check_number("rate", rate, lambda rate: 0 <= rate < 1, "in [0, 1)")


def weight_noise(key: Array, params: Params, scale: float) -> Params:
    """The parameters with noise added, which is drawn once for a training step.

        θ + scale · N(0, 1)

    Args:
      key: a random key, another for each training step.
      params: any pytree; what is no floating-point number in it stays as it is.
      scale: the standard deviation, at least 0.

    Returns:
      The parameters, whose gradient is that of the given ones.

    Raises:
      ValueError: scale is below 0.
      TypeError: params have a leaf that is no array, key is no key, scale no number.

    Source: Graves 2011, NIPS; in recurrent networks Graves et al. 2013, arXiv:1303.5778.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import remedies
    >>> params = jr.rnn.init(jax.random.key(0), 3, 8)
    >>> noisy = remedies.weight_noise(jax.random.key(1), params, 0.1)
    >>> 0.05 < float(jnp.std(noisy.weight_hh - params.weight_hh)) < 0.15
    True
    """
    check_key("key", key)
    check_arrays("params", params)
    check_number("scale", scale, lambda scale: scale >= 0, "of at least 0")
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, max(1, len(leaves)))
    return structure.unflatten([_with_noise(key, a, scale) for key, a in zip(keys, leaves, strict=False)])


def _with_noise(key: Array, leaf: Any, scale: float) -> Any:
    if not is_floating(leaf):
        return leaf
    return leaf + scale * jax.random.normal(key, leaf.shape, leaf.dtype)
