"""The networks and cells as flax.nnx modules, with one nnx.Param for each of torch's names.

Layers `RNN`, `LSTM` and `GRU` run `jr.RNN`, `jr.LSTM` and `jr.GRU`. `nnx.to_pure_dict(nnx.state(layer, nnx.Param))` is
the params of `net.apply`, and `nnx.update(layer, params)` puts such params in. Cells `SimpleCell`, `GRUCell`,
`LSTMCell`, `OptimizedLSTMCell` and `AffineCell` take the place of Flax's own in `nnx.RNN` and `nnx.Bidirectional`.

Parameters are all their state, except that a network with dropout keeps an rng stream, as nnx.Dropout does. To take its
gradient with JAX's own transformations, use `nnx.split(layer, nnx.Param, ...)`, and in the transformed function
`nnx.merge(..., copy=True)`, so that the stream's counter is the function's own.

>>> import jax, jax.numpy as jnp, jaxrnn as jr
>>> from flax import nnx
>>> import jaxrnn.nnx
>>> layer = jaxrnn.nnx.LSTM(in_features=100, hidden_size=20, rngs=nnx.Rngs(0))
>>> nnx.update(layer, jr.LSTM(100, 20).init(jax.random.key(0)))
>>> output, (h_n, c_n) = layer(jnp.ones((10, 3, 100)))          # T=10, batch 3, 100 features
>>> output.shape, h_n.shape, c_n.shape
((10, 3, 20), (1, 3, 20), (1, 3, 20))
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype as _promote_dtype
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from ._cells.gru import gru_of
from ._cells.lstm import lstm_of
from ._cells.rnn import rnn_of
from ._core.cell import Cell, check_cell
from ._core.checks import check_bool, check_int, check_key, dtype_of
from ._flax import (
    Carry,
    CellSpec,
    Initializer,
    Initializers,
    Network,
    Promote,
    about,
    batch_shape_of,
    check_deterministic,
    check_dtypes,
    check_elementwise,
    check_given,
    check_metadata,
    check_names,
    check_promote,
    drops,
    init_network,
    run_network,
    turned_metadata,
    unboxed,
    zeros,
)
from ._layers import networks as _networks
from ._scan.unroll import Checkpoint

__all__ = ["GRU", "LSTM", "RNN", "AffineCell", "GRUCell", "LSTMCell", "OptimizedLSTMCell", "SimpleCell"]

Metadata: TypeAlias = Mapping[str, Any]  # of an nnx.Param

_DROPOUT = "dropout"  # the name of the rng stream
_NOTHING: Metadata = MappingProxyType({})


class _Layer(nnx.Module):
    """What the three layers share."""

    def __init__(
        self,
        net: Network,
        deterministic: bool | None,
        dtype: DTypeLike | None,
        param_dtype: DTypeLike,
        given: Initializers,
        metadata: dict[str, Metadata],
        return_carry: bool,
        rngs: nnx.Rngs,
    ) -> None:
        check_dtypes(dtype, param_dtype)
        check_deterministic(deterministic, None)
        check_bool("return_carry", return_carry)
        self.net = net
        self.deterministic = deterministic
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.return_carry = return_carry
        self.rngs: nnx.RngStream | None = _stream(rngs, _DROPOUT).fork() if drops(self.net) else nnx.data(None)
        _declare(self, init_network(self.net, _stream(rngs, "params")(), param_dtype, given), metadata)

    def __call__(
        self,
        x: Array,
        h_0: Any = None,
        *,
        lengths: ArrayLike | None = None,
        deterministic: bool | None = None,
        checkpoint: Checkpoint = None,
        return_carry: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | Array | None = None,
    ) -> Any:
        """Run the network over sequences: shapes, states and errors as in `jr.RNN.apply`, but for the batch axes.

        Args:
          x: (T, *batch, I), or (*batch, T, I) if batch_first, with any number of batch axes.
          h_0: (num_layers*directions, *batch, R); an LSTM takes a tuple (h_0, c_0).
          lengths: (*batch).
          checkpoint: as there.
          deterministic: whether dropout is off; by default, what the constructor or `train()` and `eval()` said.
          return_carry: False for the output alone; by default, what the constructor said.
          rngs: for dropout, in place of the constructor's.

        Returns:
          The output, laid out as x is, and the final states, shaped as h_0.
        """
        check_deterministic(self.deterministic, deterministic)
        return run_network(
            self.net,
            _params(self, _networks.param_shapes(self.net)),
            x,
            h_0,
            lengths=lengths,
            dtype=self.dtype,
            promote=_promote_dtype,
            return_carry=self.return_carry if return_carry is None else return_carry,
            key=self._dropout_key(deterministic, rngs) if drops(self.net) else None,
            checkpoint=checkpoint,
        )

    def set_view(self, deterministic: bool | None = None) -> None:
        """For `nnx.view`.

        Args:
          deterministic: whether dropout is off.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def _dropout_key(self, deterministic: bool | None, rngs: nnx.Rngs | nnx.RngStream | Array | None) -> Array | None:
        check_given(self.deterministic, deterministic)
        if self.deterministic if deterministic is None else deterministic:
            return None
        rngs = self.rngs if rngs is None else rngs
        if isinstance(rngs, nnx.Rngs):
            return rngs[_DROPOUT]()
        if isinstance(rngs, nnx.RngStream):
            return rngs()
        if isinstance(rngs, jax.Array):
            check_key("rngs", rngs)
            return rngs
        raise TypeError(f"rngs must be nnx.Rngs, nnx.RngStream or a key, got {type(rngs).__name__}")


class RNN(_Layer):
    """Layers of Elman cells: `jr.RNN`.

    Args:
      in_features: I, the input_size of `jr.RNN`.
      hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional: as in `jr.RNN`: time is the
        first axis, where that of Flax's RNN is behind the batch's, unless batch_first.
      deterministic: whether dropout is off, unless the call says so; `train()` and `eval()` set it.
      dtype: of the computation, the output and the states; None for what x, h_0 and the parameters are promoted to.
      param_dtype: of the parameters.
      kernel_init, recurrent_kernel_init, bias_init: initializers for weight_ih and weight_hh, which get each gate's
        (I, H) and (R, H) as in Flax, and for the biases, in all layers, as of the cells. By default all are
        U(-1/sqrt(H), 1/sqrt(H)).
      return_carry: whether a call returns the final states after the output; False in nnx.Sequential.
      rngs: streams "params" and, for a network with dropout, "dropout".
      kernel_metadata, recurrent_kernel_metadata, bias_metadata: as of `AffineCell`.

    Attributes:
      net: the `jr.RNN`.

    >>> import jax.numpy as jnp, jaxrnn.nnx
    >>> from flax import nnx
    >>> layer = jaxrnn.nnx.RNN(100, 20, num_layers=2, nonlinearity="relu", rngs=nnx.Rngs(0))
    >>> layer.weight_ih_l0.shape
    (20, 100)
    >>> output, h_n = layer(jnp.ones((10, 3, 100)), lengths=jnp.array([10, 0, 4]))
    >>> output.shape, h_n.shape
    ((10, 3, 20), (2, 3, 20))
    """

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        deterministic: bool | None = False,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        kernel_init: Initializer | None = None,
        recurrent_kernel_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        return_carry: bool = True,
        rngs: nnx.Rngs,
        kernel_metadata: Metadata = _NOTHING,
        recurrent_kernel_metadata: Metadata = _NOTHING,
        bias_metadata: Metadata = _NOTHING,
    ) -> None:
        check_int("in_features", in_features)
        sizes = in_features, hidden_size, num_layers
        net = _networks.RNN(*sizes, nonlinearity, bias, batch_first, dropout, bidirectional)
        given = _initializers(kernel_init, recurrent_kernel_init, bias_init)
        metadata = _metadata(kernel_metadata, recurrent_kernel_metadata, bias_metadata)
        super().__init__(net, deterministic, dtype, param_dtype, given, metadata, return_carry, rngs)


class GRU(_Layer):
    """Layers of gated recurrent units: `jr.GRU`.

    Args: as of `RNN`, without nonlinearity.

    >>> import jax.numpy as jnp, jaxrnn.nnx
    >>> from flax import nnx
    >>> layer = jaxrnn.nnx.GRU(100, 20, batch_first=True, bidirectional=True, rngs=nnx.Rngs(0))
    >>> output, h_n = layer(jnp.ones((3, 10, 100)))
    >>> output.shape, h_n.shape
    ((3, 10, 40), (2, 3, 20))
    """

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        deterministic: bool | None = False,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        kernel_init: Initializer | None = None,
        recurrent_kernel_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        return_carry: bool = True,
        rngs: nnx.Rngs,
        kernel_metadata: Metadata = _NOTHING,
        recurrent_kernel_metadata: Metadata = _NOTHING,
        bias_metadata: Metadata = _NOTHING,
    ) -> None:
        check_int("in_features", in_features)
        sizes = in_features, hidden_size, num_layers
        net = _networks.GRU(*sizes, bias, batch_first, dropout, bidirectional)
        given = _initializers(kernel_init, recurrent_kernel_init, bias_init)
        metadata = _metadata(kernel_metadata, recurrent_kernel_metadata, bias_metadata)
        super().__init__(net, deterministic, dtype, param_dtype, given, metadata, return_carry, rngs)


class LSTM(_Layer):
    """Layers of long short-term memory: `jr.LSTM`.

    Args: as of `RNN`, without nonlinearity, and
      proj_size: as in `jr.LSTM`.

    >>> import jax.numpy as jnp, jaxrnn.nnx
    >>> from flax import nnx
    >>> layer = jaxrnn.nnx.LSTM(100, 20, num_layers=2, dropout=0.3, proj_size=5, rngs=nnx.Rngs(0))
    >>> output, (h_n, c_n) = layer(jnp.ones((10, 3, 100)), deterministic=True)
    >>> output.shape, h_n.shape, c_n.shape
    ((10, 3, 5), (2, 3, 5), (2, 3, 20))
    """

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        deterministic: bool | None = False,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        kernel_init: Initializer | None = None,
        recurrent_kernel_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        return_carry: bool = True,
        rngs: nnx.Rngs,
        kernel_metadata: Metadata = _NOTHING,
        recurrent_kernel_metadata: Metadata = _NOTHING,
        bias_metadata: Metadata = _NOTHING,
    ) -> None:
        check_int("in_features", in_features)
        sizes = in_features, hidden_size, num_layers
        net = _networks.LSTM(*sizes, bias, batch_first, dropout, bidirectional, proj_size)
        given = _initializers(kernel_init, recurrent_kernel_init, bias_init)
        metadata = _metadata(kernel_metadata, recurrent_kernel_metadata, bias_metadata)
        super().__init__(net, deterministic, dtype, param_dtype, given, metadata, return_carry, rngs)


class AffineCell(nnx.RNNCellBase):
    """Any cell of `jr.affine_cell` in Flax's place. The carry is the cell's own state.

    Args:
      in_features: I, the size of the inputs.
      hidden_features: H, the size of h.
      cell: the `jr.Cell`, whose parameters are a NamedTuple with at least `jr.AffineParams`' fields.
      bias: whether there are bias_ih and bias_hh.
      kernel_init, recurrent_kernel_init, bias_init: initializers for weight_ih and weight_hh, which get each gate's
        (I, H) and (H, H) as in Flax, and for the biases: bias_ih, and bias_hh where a gate sees more than the sum of
        both, which else is zeros. By default all are U(-1/sqrt(H), 1/sqrt(H)).
      dtype: of the computation and the carry; None for what the inputs, the carry and the parameters are promoted to.
      param_dtype: of the parameters.
      carry_init: initializer of the carry; zeros, the default, need no rngs.
      promote_dtype: what promotes, `(arrays, *, dtype) -> arrays`, of the inputs, the carry and the parameters at once.
      keep_rngs: whether the cell keeps a stream "carry" for `initialize_carry`.
      rngs: stream "params", and "carry" for keep_rngs.
      kernel_metadata, recurrent_kernel_metadata, bias_metadata: of the nnx.Params of weight_ih, weight_hh and each of
        both biases. Names of axes, as out_sharding, are those of Flax's kernels (I, H): the parameter has them the
        other way round. So it is with initializers by nnx.with_partitioning.

    Without dtype a carry of real numbers keeps its own, so that a scan can carry it.

    Raises:
      ValueError: a carry or inputs of wrong shapes.
      TypeError: an argument is of the wrong type.

    >>> import jax.numpy as jnp, jaxrnn as jr, jaxrnn.nnx
    >>> from flax import nnx
    >>> identity = jr.affine_cell(lambda params, z, r, h: z + r, blocks=1)
    >>> layer = nnx.RNN(jaxrnn.nnx.AffineCell(100, 20, cell=identity, rngs=nnx.Rngs(0)))
    >>> layer(jnp.ones((3, 10, 100))).shape
    (3, 10, 20)
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        cell: Cell,
        bias: bool = True,
        kernel_init: Initializer | None = None,
        recurrent_kernel_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        carry_init: Initializer | None = None,
        promote_dtype: Promote = _promote_dtype,
        keep_rngs: bool = False,
        rngs: nnx.Rngs,
        kernel_metadata: Metadata = _NOTHING,
        recurrent_kernel_metadata: Metadata = _NOTHING,
        bias_metadata: Metadata = _NOTHING,
    ) -> None:
        check_int("in_features", in_features)
        check_int("hidden_features", hidden_features)
        check_cell("cell", cell)
        check_dtypes(dtype, param_dtype)
        check_promote(promote_dtype)
        check_bool("keep_rngs", keep_rngs)
        self.spec = CellSpec(cell, in_features, hidden_features, bias, param_dtype)
        self.in_features = in_features
        self.hidden_features = hidden_features
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.carry_init = carry_init
        self.promote_dtype = promote_dtype
        self.rngs: nnx.RngStream | None = _stream(rngs, "carry").fork() if keep_rngs else nnx.data(None)
        given = _initializers(kernel_init, recurrent_kernel_init, bias_init)
        metadata = _metadata(kernel_metadata, recurrent_kernel_metadata, bias_metadata)
        _declare(self, self.spec.init(_stream(rngs, "params")(), given), metadata)

    def __call__(self, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
        """One step: inputs (*batch, I), a carry with the same batch axes -> the next carry, and h (*batch, H)."""
        return self.spec.step(_params(self, self.spec.shapes()), carry, inputs, self.dtype, self.promote_dtype)

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        carry_init: Initializer | None = None,
    ) -> Carry:
        """The carry before the first step, for inputs of this shape (*batch, I). Zeros need no rngs, and draw none.

        Its dtype is `dtype`, or else that of the parameters.
        """
        if not isinstance(rngs, nnx.Rngs | nnx.RngStream | None):
            raise TypeError(f"rngs must be nnx.Rngs, nnx.RngStream or None, got {type(rngs).__name__}")
        batch_shape = batch_shape_of(input_shape)
        rngs = self.rngs if rngs is None else rngs
        stream = rngs["carry"] if isinstance(rngs, nnx.Rngs) else rngs
        keys = None if stream is None else (stream() for _ in itertools.count())
        dtype = dtype_of(_params(self, ["weight_ih"])["weight_ih"]) if self.dtype is None else self.dtype
        return self.spec.initialize_carry(batch_shape, dtype, self._carry_init(carry_init), keys)

    def _carry_init(self, given: Initializer | None) -> Initializer:
        own = zeros if self.carry_init is None else self.carry_init
        return own if given is None else given

    @property
    def num_feature_axes(self) -> int:
        """How many axes of inputs are none of the batch."""
        return self.spec.cell.input_ndim


class SimpleCell(AffineCell):
    """Elman's cell, `jr.rnn`, in place of nnx.SimpleCell. The carry is h (*batch, H).

        h′ = activation_fn(W_ih x + b_ih + W_hh h + b_hh)        or activation_fn(· + h) if residual

    Args: as of `AffineCell`, with, in place of cell,
      activation_fn: elementwise, in place of tanh.
      residual: whether h is added before activation_fn.

    Raises: as `AffineCell`.

    >>> import jax.numpy as jnp, jaxrnn.nnx
    >>> from flax import nnx
    >>> layer = nnx.RNN(jaxrnn.nnx.SimpleCell(in_features=100, hidden_features=20, rngs=nnx.Rngs(0)))
    >>> h, ys = layer(jnp.ones((3, 10, 100)), seq_lengths=jnp.array([10, 1, 4]), return_carry=True)
    >>> h.shape, ys.shape
    ((3, 20), (3, 10, 20))
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        activation_fn: Callable[..., Any] = jnp.tanh,
        residual: bool = False,
        bias: bool = True,
        kernel_init: Initializer | None = None,
        recurrent_kernel_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        carry_init: Initializer | None = None,
        promote_dtype: Promote = _promote_dtype,
        keep_rngs: bool = False,
        rngs: nnx.Rngs,
        kernel_metadata: Metadata = _NOTHING,
        recurrent_kernel_metadata: Metadata = _NOTHING,
        bias_metadata: Metadata = _NOTHING,
    ) -> None:
        check_elementwise(activation_fn=activation_fn)
        check_bool("residual", residual)
        self.activation_fn = activation_fn
        self.residual = residual
        super().__init__(
            in_features,
            hidden_features,
            cell=rnn_of(activation_fn, residual=residual),
            bias=bias,
            kernel_init=kernel_init,
            recurrent_kernel_init=recurrent_kernel_init,
            bias_init=bias_init,
            dtype=dtype,
            param_dtype=param_dtype,
            carry_init=carry_init,
            promote_dtype=promote_dtype,
            keep_rngs=keep_rngs,
            rngs=rngs,
            kernel_metadata=kernel_metadata,
            recurrent_kernel_metadata=recurrent_kernel_metadata,
            bias_metadata=bias_metadata,
        )


class _GatedCell(AffineCell):
    """What the cells with gates share."""

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        gate_fn: Callable[..., Any] = jax.nn.sigmoid,
        activation_fn: Callable[..., Any] = jnp.tanh,
        bias: bool = True,
        kernel_init: Initializer | None = None,
        recurrent_kernel_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        carry_init: Initializer | None = None,
        promote_dtype: Promote = _promote_dtype,
        keep_rngs: bool = False,
        rngs: nnx.Rngs,
        kernel_metadata: Metadata = _NOTHING,
        recurrent_kernel_metadata: Metadata = _NOTHING,
        bias_metadata: Metadata = _NOTHING,
    ) -> None:
        check_elementwise(gate_fn=gate_fn, activation_fn=activation_fn)
        self.gate_fn = gate_fn
        self.activation_fn = activation_fn
        super().__init__(
            in_features,
            hidden_features,
            cell=self._cell_of(gate_fn, activation_fn),
            bias=bias,
            kernel_init=kernel_init,
            recurrent_kernel_init=recurrent_kernel_init,
            bias_init=bias_init,
            dtype=dtype,
            param_dtype=param_dtype,
            carry_init=carry_init,
            promote_dtype=promote_dtype,
            keep_rngs=keep_rngs,
            rngs=rngs,
            kernel_metadata=kernel_metadata,
            recurrent_kernel_metadata=recurrent_kernel_metadata,
            bias_metadata=bias_metadata,
        )

    @staticmethod
    def _cell_of(gate_fn: Callable[..., Any], activation_fn: Callable[..., Any]) -> Cell:
        raise NotImplementedError


class GRUCell(_GatedCell):
    """Gated recurrent unit, `jr.gru`, in place of nnx.GRUCell. The carry is h (*batch, H).

    Args: as of `AffineCell`, with, in place of cell,
      gate_fn, activation_fn: elementwise, in place of the sigmoid and of tanh.

    >>> import jax.numpy as jnp, jaxrnn.nnx
    >>> from flax import nnx
    >>> cell = jaxrnn.nnx.GRUCell(100, 20, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    >>> h, y = cell(cell.initialize_carry((3, 100)), jnp.ones((3, 100)))
    >>> h.dtype, y.shape, cell.bias_hh.shape
    (dtype(bfloat16), (3, 20), (60,))
    """

    _cell_of = staticmethod(gru_of)


class LSTMCell(_GatedCell):
    """Long short-term memory, `jr.lstm`, in place of nnx.LSTMCell. The carry is (c, h), both (*batch, H).

    Args: as of `GRUCell`.

    >>> import jax.numpy as jnp, jaxrnn.nnx
    >>> from flax import nnx
    >>> rngs = nnx.Rngs(0)
    >>> forward, backward = (nnx.RNN(jaxrnn.nnx.LSTMCell(100, 20, rngs=rngs)) for _ in range(2))
    >>> nnx.Bidirectional(forward, backward)(jnp.ones((3, 10, 100))).shape
    (3, 10, 40)
    """

    _cell_of = staticmethod(lstm_of)


class OptimizedLSTMCell(LSTMCell):
    """The same in place of nnx.OptimizedLSTMCell: `LSTMCell`, which has one product for all gates, too."""


def _stream(rngs: Any, name: str) -> nnx.RngStream:
    if not isinstance(rngs, nnx.Rngs):
        raise TypeError(f"rngs must be nnx.Rngs, got {type(rngs).__name__}")
    return rngs[name]


def _initializers(kernel: Any, recurrent_kernel: Any, bias: Any) -> Initializers:
    return {"kernel_init": kernel, "recurrent_kernel_init": recurrent_kernel, "bias_init": bias}


def _metadata(kernel: Any, recurrent_kernel: Any, bias: Any) -> dict[str, Metadata]:
    check_metadata(kernel_metadata=kernel, recurrent_kernel_metadata=recurrent_kernel, bias_metadata=bias)
    return {"kernel": kernel, "recurrent_kernel": recurrent_kernel, "bias": bias}


def _declare(module: nnx.Module, params: Mapping[str, Any], metadata: dict[str, Metadata]) -> None:
    """One nnx.Param for each tensor, whose value may be in a box of Flax's."""
    for name, tensor in params.items():
        given = metadata.get(about(name), _NOTHING)
        setattr(module, name, nnx.Param(tensor, **turned_metadata(given, unboxed(tensor).ndim)))


def _params(module: nnx.Module, names: Iterable[str]) -> dict[str, Array]:
    check_names(type(module).__name__, dict.fromkeys(names), [name for name in names if hasattr(module, name)])
    return {name: getattr(module, name)[...] for name in names}
