"""torch.nn.RNN, LSTM and GRU: layers, directions and dropout, over flat dicts of parameters under torch's names."""

import dataclasses
import functools
import numbers
import operator
import warnings
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from .._cells.affine import AffineParams
from .._cells.gru import gru
from .._cells.lstm import LSTMParams, LSTMState, check_proj_size, lstm
from .._cells.rnn import rnn, rnn_relu
from .._core.cell import Cell, State
from .._core.checks import (
    check_array,
    check_array_like,
    check_arrays,
    check_bool,
    check_choice,
    check_dict,
    check_dtype,
    check_floating,
    check_int,
    check_key,
    check_optional_key,
    check_params,
    describe,
    shown,
)
from .._core.numerics import cast
from .._scan.directions import unroll_directions
from .._scan.unroll import Checkpoint, check_checkpoint, check_lengths

_NONLINEARITIES = {"tanh": rnn, "relu": rnn_relu}


class _Network:
    """What the three networks share. Their fields are torch's arguments, in torch's order."""

    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    dropout: float
    bidirectional: bool
    proj_size: ClassVar[int] = 0  # a field of LSTM

    _params_type: ClassVar[type] = AffineParams

    def __post_init__(self) -> None:
        for name in ("input_size", "hidden_size", "num_layers"):
            check_int(name, getattr(self, name))
        for name in ("bias", "batch_first", "bidirectional"):
            check_bool(name, getattr(self, name))
        _check_dropout(self.dropout)
        if self.dropout and self.num_layers == 1:
            message = f"dropout acts between layers, with num_layers=1 dropout={self.dropout} does nothing"
            overridden = type(self).__post_init__ is not _Network.__post_init__
            warnings.warn(message, stacklevel=4 if overridden else 3)  # the line that calls the constructor

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> dict[str, Array]:
        """Parameters as a flat dict in torch's names and order, each tensor from U(-1/sqrt(H), 1/sqrt(H)).

        Returns for each layer l, and again with the suffix `_reverse` if bidirectional, with G gate blocks (RNN 1,
        GRU 3, LSTM 4): weight_ih_l (G*H, I or directions*R), weight_hh_l (G*H, R), bias_ih_l and bias_hh_l (G*H,) if
        bias, weight_hr_l (R, H) if projected. R is proj_size, or H.

        Raises:
          TypeError: key is no key, dtype is not a floating-point type.
          ValueError: key is a batch of keys.
        """
        check_key("key", key)
        check_floating("dtype", dtype)
        options = {"proj_size": self.proj_size} if self.proj_size else {}
        keys = jax.random.split(key, (self.num_layers, self._directions))
        params = {}
        for layer in range(self.num_layers):
            width = self._directions * self._output_size if layer else self.input_size
            for direction in range(self._directions):
                tensors = self._cell.init(
                    keys[layer, direction], width, self.hidden_size, bias=self.bias, dtype=dtype, **options
                )
                suffix = _suffix(layer, direction)
                params |= {name + suffix: a for name, a in tensors._asdict().items() if a is not None}
        return params

    def apply(
        self,
        params: dict[str, Array],
        x: Array,
        h_0: Any = None,
        *,
        lengths: ArrayLike | None = None,
        key: Array | None = None,
        checkpoint: Checkpoint = None,
        dtype: DTypeLike | None = None,
    ) -> tuple[Array, Any]:
        """Run the network over sequences, as torch's forward does.

        Args:
          params: as from `init`, or torch's state_dict with its tensors turned into arrays.
          x: (T, N, I), or (N, T, I) if batch_first, or one sequence (T, I).
          h_0: initial states (num_layers*directions, N, R), layer-major, without N for one sequence; zeros by default.
            An LSTM takes a tuple (h_0, c_0), with c_0 (num_layers*directions, N, H).
          lengths: (N,) integers in [0, T], in any order, () for one sequence: ragged batches, torch's packed sequences.
            Outputs past a sequence's end are 0, final states are those at its end. See `jr.unroll`.
          key: for dropout, which acts only when a key is given.
          checkpoint: back-propagate in less memory. See `jr.unroll`.
          dtype: of the computation, the output and the states: params, x and h_0 are cast to it, gradients come in
            their dtypes. None for their own, which must be one. See `jr.cast`.

        Returns:
          output (T, N, directions*R), laid out as x is, and h_n, shaped as h_0; from an LSTM (h_n, c_n).

        Raises:
          ValueError: wrong names or shapes of params, wrong rank, features or T=0 in x, states or lengths that do not
            fit x, mixed dtypes, lengths out of range.
          TypeError: params is not a dict; x, a state or a parameter is not an array; lengths are not integers; key is
            no key; dtype is not a floating-point type.
        """
        check_dict(params)
        check_arrays("params", params)
        check_arrays("h_0", h_0)
        steps, batch_shape = self._check_input(x)
        check_checkpoint(checkpoint)
        check_optional_key("key", key)
        if lengths is not None:
            lengths = check_lengths(lengths, steps, batch_shape)
        if dtype is not None:
            check_floating("dtype", dtype)
            dtype = jnp.dtype(dtype)
        return _apply(self, params, x, h_0, lengths, key, checkpoint, dtype)

    @property
    def _cell(self) -> Cell:
        raise NotImplementedError

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def _output_size(self) -> int:
        return self.proj_size or self.hidden_size

    def _is_batch_major(self, x: Array) -> bool:
        return self.batch_first and x.ndim == 3

    def _check_input(self, x: Any) -> tuple[int, tuple[int, ...]]:
        """The number of steps and the batch's shape, () for one sequence."""
        check_array("x", x)
        layout = "(N, T, {0}) or (T, {0})" if self.batch_first else "(T, N, {0}) or (T, {0})"
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            expected = layout.format(f"input_size={self.input_size}")
            raise ValueError(f"x has shape {x.shape}, expected {expected}")
        steps, *batch_shape = x.shape[-2::-1] if self._is_batch_major(x) else x.shape[:-1]
        if steps == 0:
            raise ValueError(f"x has shape {x.shape}: it has no time steps, expected T >= 1")
        return steps, tuple(batch_shape)

    def _state_shape(self, width: int, batch_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (self.num_layers * self._directions, *batch_shape, width)

    def _check_states(self, h_0: Any, batch_shape: tuple[int, ...], dtype: Any, reason: str) -> None:
        check_array_like("h_0", h_0, self._state_shape(self._output_size, batch_shape), dtype, reason)

    def _cell_params(self, params: dict[str, Array], layer: int, direction: int) -> Any:
        suffix = _suffix(layer, direction)
        return self._params_type(*(params.get(field + suffix) for field in self._params_type._fields))

    def _cell_state(self, h_0: Any) -> State:
        """The cells' state, stacked along the first axis, from torch's."""
        return h_0

    def _network_state(self, state: State) -> Any:
        """The inverse of `_cell_state`."""
        return state


@dataclasses.dataclass(frozen=True)
class RNN(_Network):
    """torch.nn.RNN: layers of Elman cells.

        h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)        or max(0, ·) for nonlinearity="relu"

    Args:
      input_size: I, features of x.
      hidden_size: H, features of h.
      num_layers: each layer reads the output of the one below.
      nonlinearity: "tanh" or "relu".
      bias: whether there are b_ih and b_hh.
      batch_first: x and output are (N, T, ·) rather than (T, N, ·); states are not affected.
      dropout: probability of zeroing an element of each layer's output but the last's; acts when `apply` gets a key.
      bidirectional: a second cell per layer runs from the end; outputs are concatenated.

    Raises:
      ValueError: a size is not positive, dropout outside [0, 1], unknown nonlinearity.
      TypeError: an argument is of the wrong type.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> net = jr.RNN(input_size=100, hidden_size=20, num_layers=4)
    >>> params = net.init(jax.random.key(0))
    >>> params["weight_ih_l0"].shape, params["weight_ih_l3"].shape
    ((20, 100), (20, 20))
    >>> output, h_n = net.apply(params, jnp.ones((10, 3, 100)))
    >>> output.shape, h_n.shape
    ((10, 3, 20), (4, 3, 20))
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    nonlinearity: str = "tanh"
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("nonlinearity", self.nonlinearity, tuple(_NONLINEARITIES))

    @property
    def _cell(self) -> Cell:
        return _NONLINEARITIES[self.nonlinearity]


@dataclasses.dataclass(frozen=True)
class GRU(_Network):
    """torch.nn.GRU: layers of gated recurrent units (Cho et al. 2014, arXiv:1406.1078), reset after the matmul.

        r = σ(W_ir x + b_ir + W_hr h + b_hr)        n  = tanh(W_in x + b_in + r ⊙ (W_hn h + b_hn))
        u = σ(W_iz x + b_iz + W_hz h + b_hz)        h′ = n + u ⊙ (h − n)

    Args: as `jr.RNN`, without nonlinearity.

    Raises:
      ValueError: a size is not positive, dropout outside [0, 1].
      TypeError: an argument is of the wrong type.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> net = jr.GRU(4, 10, bidirectional=True, batch_first=True)
    >>> params = net.init(jax.random.key(0))
    >>> output, h_n = net.apply(params, jnp.ones((3, 7, 4)), lengths=jnp.array([7, 0, 4]))
    >>> output.shape, h_n.shape
    ((3, 7, 20), (2, 3, 10))
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False

    @property
    def _cell(self) -> Cell:
        return gru


@dataclasses.dataclass(frozen=True)
class LSTM(_Network):
    """torch.nn.LSTM: layers of long short-term memory (Hochreiter and Schmidhuber 1997), with projection.

        i = σ(W_ii x + b_ii + W_hi h + b_hi)        g  = tanh(W_ig x + b_ig + W_hg h + b_hg)
        f = σ(W_if x + b_if + W_hf h + b_hf)        c′ = f ⊙ c + i ⊙ g
        o = σ(W_io x + b_io + W_ho h + b_ho)        h′ = o ⊙ tanh(c′), or W_hr (o ⊙ tanh(c′)) with proj_size

    Args: as `jr.RNN`, without nonlinearity, and
      proj_size: P, features of h when it is projected (Sak et al. 2014, arXiv:1402.1128); 0 for no projection.

    Raises:
      ValueError: a size is not positive, dropout outside [0, 1], proj_size outside [0, hidden_size).
      TypeError: an argument is of the wrong type.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> net = jr.LSTM(4, 10, num_layers=2, proj_size=3)
    >>> params = net.init(jax.random.key(0))
    >>> output, (h_n, c_n) = net.apply(params, jnp.ones((7, 5, 4)))
    >>> output.shape, h_n.shape, c_n.shape
    ((7, 5, 3), (2, 5, 3), (2, 5, 10))
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False
    proj_size: int = 0  # pyright: ignore[reportIncompatibleVariableOverride]

    _params_type: ClassVar[type] = LSTMParams

    def __post_init__(self) -> None:
        super().__post_init__()
        check_proj_size(self.proj_size, self.hidden_size)

    @property
    def _cell(self) -> Cell:
        return lstm

    def _check_states(self, h_0: Any, batch_shape: tuple[int, ...], dtype: Any, reason: str) -> None:
        if not isinstance(h_0, tuple):
            raise TypeError(f"an LSTM's h_0 must be a tuple (h_0, c_0), got {describe(h_0)}")
        if len(h_0) != 2:
            raise ValueError(f"an LSTM's h_0 must be a tuple (h_0, c_0), got {len(h_0)} entries: {describe(h_0)}")
        for name, state, width in zip(("h_0", "c_0"), h_0, (self._output_size, self.hidden_size), strict=True):
            check_array_like(name, state, self._state_shape(width, batch_shape), dtype, reason)

    def _cell_state(self, h_0: Any) -> State:
        return LSTMState(*h_0)

    def _network_state(self, state: State) -> Any:
        return tuple(state)


@functools.partial(jax.jit, static_argnames=("net", "checkpoint", "dtype"))
def _apply(
    net: _Network,
    params: dict[str, Array],
    x: Array,
    h_0: Any,
    lengths: Array | None,
    key: Array | None,
    checkpoint: Checkpoint,
    dtype: Any,
) -> tuple[Array, Any]:
    """At module level, so that an eager call traces once."""
    _, batch_shape = net._check_input(x)
    if dtype is not None:
        params, x, h_0 = cast((params, x, h_0), dtype)
    dtype = check_params(params, param_shapes(net), net)
    check_dtype("x", x, dtype, "as the parameters")
    if h_0 is not None:
        net._check_states(h_0, batch_shape, dtype, f"for x of shape {x.shape} in {net}")
        h_0 = net._cell_state(h_0)

    ys = jnp.swapaxes(x, 0, 1) if net._is_batch_major(x) else x
    finals = []
    for layer in range(net.num_layers):
        if layer and net.dropout and key is not None:
            ys = _drop(jax.random.fold_in(key, layer), ys, net.dropout)
        directions = range(net._directions)
        cells = [net._cell_params(params, layer, direction) for direction in directions]
        initial = [None if h_0 is None else jax.tree.map(operator.itemgetter(len(finals) + d), h_0) for d in directions]
        with jax.named_scope(f"layer{layer}"):
            ends, outputs = unroll_directions(net._cell, cells, ys, initial, lengths=lengths, checkpoint=checkpoint)
        finals.extend(ends)
        ys = jnp.concatenate(outputs, axis=-1)
    output = jnp.swapaxes(ys, 0, 1) if net._is_batch_major(x) else ys
    return output, net._network_state(jax.tree.map(lambda *states: jnp.stack(states), *finals))


def _suffix(layer: int, direction: int) -> str:
    """torch's: `_l0`, `_l0_reverse`, `_l1`, ..."""
    return f"_l{layer}{'_reverse' if direction else ''}"


@functools.cache
def param_shapes(net: _Network) -> dict[str, tuple[int, ...]]:
    """Each parameter's shape, without making any."""
    shapes = {name: like.shape for name, like in jax.eval_shape(net.init, jax.random.key(0)).items()}
    return {"weight_ih_l0": shapes["weight_ih_l0"]} | shapes  # torch's first name first: its dtype is the parameters'


def _check_dropout(dropout: Any) -> None:
    if isinstance(dropout, bool) or not isinstance(dropout, numbers.Real):
        raise TypeError(f"dropout must be a number, got {shown(dropout)} of type {type(dropout).__name__}")
    if not 0 <= float(dropout) <= 1:
        raise ValueError(f"dropout must be a probability in [0, 1], got {dropout}")


def _drop(key: Array, x: Array, rate: float) -> Array:
    """Zero elements with probability `rate`, scale the others by 1/(1-rate)."""
    if rate == 1:
        return jnp.zeros_like(x)
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))
