"""The networks and cells as flax.nnx modules, with one nnx.Param for each of torch's names.

Layers `RNN`, `LSTM` and `GRU` run `jr.RNN`, `jr.LSTM` and `jr.GRU`. `nnx.to_pure_dict(nnx.state(layer, nnx.Param))` is
the params of `net.apply`, and `nnx.update(layer, params)` puts such params in. Cells `SimpleCell`, `GRUCell`,
`LSTMCell` and `AffineCell` take the place of Flax's own in `nnx.RNN` and `nnx.Bidirectional`.

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
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from ._cells.gru import gru
from ._cells.lstm import lstm
from ._core.cell import Cell, check_cell
from ._core.checks import check_int, check_key
from ._flax import (
    Carry,
    CellSpec,
    Initializer,
    Network,
    batch_shape_of,
    check_deterministic,
    check_dtypes,
    check_given,
    drops,
    elman_cell,
    zeros,
)
from ._layers import networks as _networks
from ._scan.unroll import Checkpoint

__all__ = ["GRU", "LSTM", "RNN", "AffineCell", "GRUCell", "LSTMCell", "OptimizedLSTMCell", "SimpleCell"]

_DROPOUT = "dropout"  # the name of the rng stream


class _Layer(nnx.Module):
    """What the three layers share."""

    def __init__(
        self,
        net: Network,
        deterministic: bool | None,
        dtype: DTypeLike | None,
        param_dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        check_dtypes(dtype, param_dtype)
        check_deterministic(deterministic, None)
        self.net = net
        self.deterministic = deterministic
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.rngs: nnx.RngStream | None = _stream(rngs, _DROPOUT).fork() if drops(self.net) else nnx.data(None)
        _declare(self, self.net.init(_stream(rngs, "params")(), param_dtype))

    def __call__(
        self,
        x: Array,
        h_0: Any = None,
        *,
        lengths: ArrayLike | None = None,
        deterministic: bool | None = None,
        checkpoint: Checkpoint = None,
        rngs: nnx.Rngs | nnx.RngStream | Array | None = None,
    ) -> tuple[Array, Any]:
        """Run the network over sequences: shapes, states and errors as in `jr.RNN.apply`.

        Args:
          x, h_0, lengths, checkpoint: as there.
          deterministic: whether dropout is off; by default, what the constructor or `train()` and `eval()` said.
          rngs: for dropout, in place of the constructor's.
        """
        check_deterministic(self.deterministic, deterministic)
        params = _params(self, _networks.param_shapes(self.net))
        key = self._dropout_key(deterministic, rngs) if drops(self.net) else None
        return self.net.apply(params, x, h_0, lengths=lengths, key=key, checkpoint=checkpoint, dtype=self.dtype)

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
      hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional: as in `jr.RNN`.
      deterministic: whether dropout is off, unless the call says so; `train()` and `eval()` set it.
      dtype: of the computation, the output and the states; None for that of x and the parameters.
      param_dtype: of the parameters.
      rngs: streams "params" and, for a network with dropout, "dropout".

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
        rngs: nnx.Rngs,
    ) -> None:
        check_int("in_features", in_features)
        sizes = in_features, hidden_size, num_layers
        net = _networks.RNN(*sizes, nonlinearity, bias, batch_first, dropout, bidirectional)
        super().__init__(net, deterministic, dtype, param_dtype, rngs)


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
        rngs: nnx.Rngs,
    ) -> None:
        check_int("in_features", in_features)
        sizes = in_features, hidden_size, num_layers
        net = _networks.GRU(*sizes, bias, batch_first, dropout, bidirectional)
        super().__init__(net, deterministic, dtype, param_dtype, rngs)


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
        rngs: nnx.Rngs,
    ) -> None:
        check_int("in_features", in_features)
        sizes = in_features, hidden_size, num_layers
        net = _networks.LSTM(*sizes, bias, batch_first, dropout, bidirectional, proj_size)
        super().__init__(net, deterministic, dtype, param_dtype, rngs)


class AffineCell(nnx.RNNCellBase):
    """Any cell of `jr.affine_cell` in Flax's place. The carry is the cell's own state.

    Args:
      in_features: I, the size of the inputs.
      hidden_features: H, the size of h.
      cell: the `jr.Cell`, whose parameters are a NamedTuple with at least `jr.AffineParams`' fields.
      bias: whether there are bias_ih and bias_hh.
      kernel_init, recurrent_kernel_init, bias_init: initializers for weight_ih and weight_hh, which get each gate's
        (I, H) and (H, H) as in Flax, and for each of both biases. By default all are U(-1/sqrt(H), 1/sqrt(H)).
      dtype: of the computation and the carry; None for that of the inputs and the parameters.
      param_dtype: of the parameters.
      carry_init: initializer of the carry; zeros, the default, need no rngs.
      rngs: stream "params".

    Raises:
      ValueError: a carry or inputs of wrong shapes; mixed dtypes.
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
        rngs: nnx.Rngs,
    ) -> None:
        check_int("in_features", in_features)
        check_int("hidden_features", hidden_features)
        check_cell("cell", cell)
        check_dtypes(dtype, param_dtype)
        self.spec = CellSpec(cell, in_features, hidden_features, bias, param_dtype)
        self.in_features = in_features
        self.hidden_features = hidden_features
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.carry_init = carry_init
        _declare(self, self.spec.init(_stream(rngs, "params")(), kernel_init, recurrent_kernel_init, bias_init))

    def __call__(self, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
        """One step: inputs (*batch, I), a carry with the same batch axes -> the next carry, and h (*batch, H)."""
        return self.spec.step(_params(self, self.spec.shapes()), carry, inputs, self.dtype)

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        carry_init: Initializer | None = None,
    ) -> Carry:
        """The carry before the first step, for inputs of this shape (*batch, I). Zeros need no rngs, and draw none."""
        if not isinstance(rngs, nnx.Rngs | nnx.RngStream | None):
            raise TypeError(f"rngs must be nnx.Rngs, nnx.RngStream or None, got {type(rngs).__name__}")
        batch_shape = batch_shape_of(input_shape)
        stream = rngs["carry"] if isinstance(rngs, nnx.Rngs) else rngs
        keys = None if stream is None else (stream() for _ in itertools.count())
        return self.spec.initialize_carry(batch_shape, self.dtype, self._carry_init(carry_init), keys)

    def _carry_init(self, given: Initializer | None) -> Initializer:
        own = zeros if self.carry_init is None else self.carry_init
        return own if given is None else given

    @property
    def num_feature_axes(self) -> int:
        """Inputs have one axis of features."""
        return 1


class SimpleCell(AffineCell):
    """Elman's cell, `jr.rnn` or `jr.rnn_relu`, in place of nnx.SimpleCell. The carry is h (*batch, H).

    Args: as of `AffineCell`, with, in place of cell,
      activation_fn: jnp.tanh or jax.nn.relu.

    Raises:
      ValueError: another activation_fn, and as `AffineCell`.

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
        bias: bool = True,
        kernel_init: Initializer | None = None,
        recurrent_kernel_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        carry_init: Initializer | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(
            in_features,
            hidden_features,
            cell=elman_cell(activation_fn),
            bias=bias,
            kernel_init=kernel_init,
            recurrent_kernel_init=recurrent_kernel_init,
            bias_init=bias_init,
            dtype=dtype,
            param_dtype=param_dtype,
            carry_init=carry_init,
            rngs=rngs,
        )


class GRUCell(AffineCell):
    """Gated recurrent unit, `jr.gru`, in place of nnx.GRUCell. The carry is h (*batch, H).

    Args: as of `AffineCell`, without cell.

    >>> import jax.numpy as jnp, jaxrnn.nnx
    >>> from flax import nnx
    >>> cell = jaxrnn.nnx.GRUCell(100, 20, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    >>> h, y = cell(cell.initialize_carry((3, 100)), jnp.ones((3, 100)))
    >>> h.dtype, y.shape, cell.bias_hh.shape
    (dtype(bfloat16), (3, 20), (60,))
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        bias: bool = True,
        kernel_init: Initializer | None = None,
        recurrent_kernel_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        carry_init: Initializer | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(
            in_features,
            hidden_features,
            cell=gru,
            bias=bias,
            kernel_init=kernel_init,
            recurrent_kernel_init=recurrent_kernel_init,
            bias_init=bias_init,
            dtype=dtype,
            param_dtype=param_dtype,
            carry_init=carry_init,
            rngs=rngs,
        )


class LSTMCell(AffineCell):
    """Long short-term memory, `jr.lstm`, in place of nnx.LSTMCell. The carry is (c, h), both (*batch, H).

    Args: as of `AffineCell`, without cell.

    >>> import jax.numpy as jnp, jaxrnn.nnx
    >>> from flax import nnx
    >>> rngs = nnx.Rngs(0)
    >>> forward, backward = (nnx.RNN(jaxrnn.nnx.LSTMCell(100, 20, rngs=rngs)) for _ in range(2))
    >>> nnx.Bidirectional(forward, backward)(jnp.ones((3, 10, 100))).shape
    (3, 10, 40)
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        bias: bool = True,
        kernel_init: Initializer | None = None,
        recurrent_kernel_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        carry_init: Initializer | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(
            in_features,
            hidden_features,
            cell=lstm,
            bias=bias,
            kernel_init=kernel_init,
            recurrent_kernel_init=recurrent_kernel_init,
            bias_init=bias_init,
            dtype=dtype,
            param_dtype=param_dtype,
            carry_init=carry_init,
            rngs=rngs,
        )


OptimizedLSTMCell = LSTMCell


def _stream(rngs: Any, name: str) -> nnx.RngStream:
    if not isinstance(rngs, nnx.Rngs):
        raise TypeError(f"rngs must be nnx.Rngs, got {type(rngs).__name__}")
    return rngs[name]


def _declare(module: nnx.Module, params: Mapping[str, Array]) -> None:
    for name, tensor in params.items():
        setattr(module, name, nnx.Param(tensor))


def _params(module: nnx.Module, names: Iterable[str]) -> dict[str, Array]:
    return {name: getattr(module, name)[...] for name in names}
