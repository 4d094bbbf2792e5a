"""The networks and cells as flax.linen modules, with parameters under torch's names.

Layers `RNN`, `LSTM` and `GRU` run `jr.RNN`, `jr.LSTM` and `jr.GRU`: their variables are {"params": params}, with the
very params of `net.init` and `net.apply`. Cells `SimpleCell`, `GRUCell`, `LSTMCell`, `OptimizedLSTMCell`, `MGUCell`,
`ConvLSTMCell` and `AffineCell` take the place of Flax's own in `nn.RNN`, `nn.Bidirectional`, `nn.scan` and `nn.remat`.

>>> import jax, jax.numpy as jnp, jaxrnn as jr
>>> from jaxrnn import linen
>>> x = jnp.ones((10, 3, 100))                                  # T=10, batch 3, 100 features
>>> params = jr.LSTM(100, 20).init(jax.random.key(0))
>>> output, (h_n, c_n) = linen.LSTM(hidden_size=20).apply({"params": params}, x)
>>> output.shape, h_n.shape, c_n.shape
((10, 3, 20), (1, 3, 20), (1, 3, 20))
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from ._cells.conv_lstm import check_kernel_size, conv_lstm_of
from ._cells.gru import gru_of
from ._cells.lstm import lstm_of
from ._cells.mgu import mgu_of
from ._cells.rnn import rnn_of
from ._core.cell import Cell, check_cell
from ._core.checks import check_bool, check_int, check_optional_key, dtype_of, shown
from ._flax import (
    Carry,
    CellSpec,
    Initializer,
    Initializers,
    Network,
    PerGate,
    batch_shape_of,
    check_deterministic,
    check_dtypes,
    check_elementwise,
    check_given,
    check_names,
    drops,
    features_of,
    init_network,
    run_network,
    zeros,
)
from ._layers import networks as _networks
from ._layers.networks import param_shapes
from ._scan.unroll import Checkpoint

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AffineCell",
    "ConvLSTMCell",
    "GRUCell",
    "LSTMCell",
    "MGUCell",
    "OptimizedLSTMCell",
    "SimpleCell",
]


class _Layer(nn.Module, kw_only=True):
    """What the three layers share."""

    deterministic: bool | None = None
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    kernel_init: Initializer | None = None
    recurrent_kernel_init: Initializer | None = None
    bias_init: Initializer | None = None
    return_carry: bool = True

    _network: ClassVar[type[Network]]

    @nn.compact
    def __call__(
        self,
        x: Array,
        h_0: Any = None,
        *,
        lengths: ArrayLike | None = None,
        deterministic: bool | None = None,
        checkpoint: Checkpoint = None,
        return_carry: bool | None = None,
    ) -> Any:
        """Run the network over sequences: shapes, states and errors as in `jr.RNN.apply`, but for the batch axes.

        Args:
          x: (T, *batch, I), or (*batch, T, I) if batch_first, with any number of batch axes.
          h_0: (num_layers*directions, *batch, R); an LSTM takes a tuple (h_0, c_0).
          lengths: (*batch).
          checkpoint: as there.
          deterministic: False for dropout, with a key from the rng stream "dropout". It is given here or in the
            constructor if the network has dropout at all; during `init` nothing is dropped.
          return_carry: False for the output alone; by default, what the constructor said.

        Returns:
          The output, laid out as x is, and the final states, shaped as h_0.
        """
        check_dtypes(self.dtype, self.param_dtype)
        check_deterministic(self.deterministic, deterministic)
        arguments = [field.name for field in dataclasses.fields(self._network)][1:]
        net = self._network(features_of("x", x), **{name: getattr(self, name) for name in arguments})
        given = _initializers(self)
        params = _declare(self, param_shapes(net), lambda key: init_network(net, key, self.param_dtype, given))
        key = self._dropout_key(deterministic) if drops(net) and not self.is_initializing() else None
        return run_network(
            net,
            params,
            x,
            h_0,
            lengths=lengths,
            dtype=self.dtype,
            promote=_promote,
            return_carry=self.return_carry if return_carry is None else return_carry,
            key=key,
            checkpoint=checkpoint,
        )

    def _dropout_key(self, deterministic: bool | None) -> Array | None:
        check_given(self.deterministic, deterministic)
        deterministic = nn.merge_param("deterministic", self.deterministic, deterministic)
        return None if deterministic else self.make_rng("dropout")


class RNN(_Layer):
    """Layers of Elman cells: `jr.RNN`, with the size of the input inferred.

    Attributes:
      hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional: as in `jr.RNN`: time is the
        first axis, where that of Flax's RNN is behind the batch's, unless batch_first.
      deterministic: whether dropout is off, unless the call says so.
      dtype: of the computation, the output and the states; None for what x, h_0 and the parameters are promoted to.
      param_dtype: of new parameters.
      kernel_init, recurrent_kernel_init, bias_init: initializers for weight_ih and weight_hh, which get each gate's
        (I, H) and (R, H) as in Flax, and for the biases, in all layers, as of the cells. By default all are
        U(-1/sqrt(H), 1/sqrt(H)).
      return_carry: whether a call returns the final states after the output; False in nn.Sequential.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import linen
    >>> layer = linen.RNN(hidden_size=20, num_layers=2, nonlinearity="relu")
    >>> variables = layer.init(jax.random.key(0), jnp.ones((10, 3, 100)))
    >>> variables["params"]["weight_ih_l0"].shape
    (20, 100)
    >>> output, h_n = layer.apply(variables, jnp.ones((10, 3, 100)), lengths=jnp.array([10, 0, 4]))
    >>> output.shape, h_n.shape
    ((10, 3, 20), (2, 3, 20))
    """

    hidden_size: int
    num_layers: int = 1
    nonlinearity: str = "tanh"
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False

    _network = _networks.RNN


class GRU(_Layer):
    """Layers of gated recurrent units: `jr.GRU`, with the size of the input inferred.

    Attributes: as of `RNN`, without nonlinearity.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import linen
    >>> layer = linen.GRU(hidden_size=20, batch_first=True, bidirectional=True)
    >>> (output, h_n), variables = layer.init_with_output(jax.random.key(0), jnp.ones((3, 10, 100)))
    >>> output.shape, h_n.shape
    ((3, 10, 40), (2, 3, 20))
    """

    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False

    _network = _networks.GRU


class LSTM(_Layer):
    """Layers of long short-term memory: `jr.LSTM`, with the size of the input inferred.

    Attributes: as of `RNN`, without nonlinearity, and
      proj_size: as in `jr.LSTM`.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import linen
    >>> layer = linen.LSTM(hidden_size=20, num_layers=2, dropout=0.3, proj_size=5)
    >>> x = jnp.ones((10, 3, 100))
    >>> variables = layer.init(jax.random.key(0), x)
    >>> rngs = {"dropout": jax.random.key(1)}
    >>> output, (h_n, c_n) = layer.apply(variables, x, deterministic=False, rngs=rngs)
    >>> output.shape, h_n.shape, c_n.shape
    ((10, 3, 5), (2, 3, 5), (2, 3, 20))
    """

    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False
    proj_size: int = 0

    _network = _networks.LSTM


class _Cell(nn.RNNCellBase, kw_only=True):
    """What the cells share."""

    features: int
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    carry_init: Initializer = zeros

    @nn.compact
    def __call__(self, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
        """One step: inputs (*batch, I), a carry with the same batch axes -> the next carry, and h (*batch, H)."""
        spec, given = self._spec(features_of("inputs", inputs)), self._given()
        params = _declare(self, spec.shapes(), lambda key: spec.init(key, given))
        return spec.step(params, carry, inputs, self.dtype, _promote)

    @nn.nowrap
    def initialize_carry(self, rng: Array | None, input_shape: tuple[int, ...]) -> Carry:
        """The carry before the first step, for inputs of this shape (*batch, I). Zeros need no rng: it may be None.

        Its dtype is `dtype`, or else that of the parameters, if there are some.
        """
        check_optional_key("rng", rng)
        batch_shape = batch_shape_of(input_shape)
        spec = self._spec(input_shape[-1])
        keys = None if rng is None else (jax.random.fold_in(rng, leaf) for leaf in itertools.count())
        dtype = self._dtype_of_params() if self.dtype is None else self.dtype
        return spec.initialize_carry(batch_shape, dtype, self.carry_init, keys)

    @property
    def num_feature_axes(self) -> int:
        """How many axes of inputs are none of the batch."""
        return self._cell.input_ndim

    @property
    def _cell(self) -> Cell:
        raise NotImplementedError

    @nn.nowrap
    def _given(self) -> Initializers:
        """The initializers."""
        return {}

    @nn.nowrap
    def _spec(self, in_features: int) -> CellSpec:
        check_int("features", self.features)
        check_dtypes(self.dtype, self.param_dtype)
        return CellSpec(self._cell, in_features, self.features, self._has_bias, self.param_dtype, self._options)

    @property
    def _has_bias(self) -> bool:
        return self.bias  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def _options(self) -> tuple[tuple[str, Any], ...]:
        """What the cell's init takes beside the sizes."""
        return ()

    @nn.nowrap
    def _dtype_of_params(self) -> Any:
        if self.scope is None or not self.has_variable("params", "weight_ih"):
            return None
        return dtype_of(nn.meta.unbox(self.get_variable("params", "weight_ih")))


class _AffineCell(_Cell, kw_only=True):
    """What those share that have one initializer for all gates."""

    bias: bool = True
    kernel_init: Initializer | None = None
    recurrent_kernel_init: Initializer | None = None
    bias_init: Initializer | None = None

    @nn.nowrap
    def _given(self) -> Initializers:
        return _initializers(self)


class SimpleCell(_AffineCell):
    """Elman's cell, `jr.rnn`, in place of nn.SimpleCell. The carry is h (*batch, H).

        h′ = activation_fn(W_ih x + b_ih + W_hh h + b_hh)        or activation_fn(· + h) if residual

    Attributes:
      features: H, the size of h.
      bias: whether there are bias_ih and bias_hh.
      kernel_init, recurrent_kernel_init, bias_init: initializers for weight_ih and weight_hh, which get each gate's
        (I, H) and (H, H) as in Flax, and for the biases: bias_ih, and bias_hh where a gate sees more than the sum of
        both, which else is zeros. By default all are U(-1/sqrt(H), 1/sqrt(H)). Names of axes, as by
        nn.with_partitioning, are those of Flax's kernels; the parameter has them the other way round.
      dtype: of the computation and the carry; None for what the inputs, the carry and the parameters are promoted to.
      param_dtype: of new parameters.
      carry_init: initializer of the carry; zeros, the default, need no rng.
      activation_fn: elementwise, in place of tanh.
      residual: whether h is added before activation_fn.

    Without dtype a carry of real numbers keeps its own, so that a scan can carry it.

    Raises:
      ValueError: a carry that does not fit the inputs; variables without one of the parameters.
      TypeError: an argument is of the wrong type.

    >>> import jax, jax.numpy as jnp
    >>> from flax import linen as nn
    >>> from jaxrnn import linen
    >>> layer = nn.RNN(linen.SimpleCell(features=20), return_carry=True)
    >>> x = jnp.ones((3, 10, 100))                              # Flax's RNN has the batch first
    >>> (h, ys), variables = layer.init_with_output(jax.random.key(0), x, seq_lengths=jnp.array([10, 1, 4]))
    >>> h.shape, ys.shape, variables["params"]["cell"]["weight_ih"].shape
    ((3, 20), (3, 10, 20), (20, 100))
    """

    features: int
    activation_fn: Callable[..., Any] = jnp.tanh
    residual: bool = False

    @property
    def _cell(self) -> Cell:
        check_elementwise(activation_fn=self.activation_fn)
        check_bool("residual", self.residual)
        return rnn_of(self.activation_fn, residual=self.residual)


class GRUCell(_AffineCell):
    """Gated recurrent unit, `jr.gru`, in place of nn.GRUCell. The carry is h (*batch, H).

    Attributes and errors: as of `SimpleCell`, without residual, and
      gate_fn: elementwise, in place of the sigmoid.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import linen
    >>> cell = linen.GRUCell(features=20, dtype=jnp.bfloat16)
    >>> x = jnp.ones((3, 100))
    >>> h = cell.initialize_carry(None, x.shape)
    >>> (h, y), variables = cell.init_with_output(jax.random.key(0), h, x)
    >>> h.dtype, y.shape, variables["params"]["bias_hh"].shape
    (dtype(bfloat16), (3, 20), (60,))
    """

    features: int
    gate_fn: Callable[..., Any] = jax.nn.sigmoid
    activation_fn: Callable[..., Any] = jnp.tanh

    @property
    def _cell(self) -> Cell:
        check_elementwise(gate_fn=self.gate_fn, activation_fn=self.activation_fn)
        return gru_of(self.gate_fn, self.activation_fn)


class LSTMCell(_AffineCell):
    """Long short-term memory, `jr.lstm`, in place of nn.LSTMCell. The carry is (c, h), both (*batch, H).

    Attributes and errors: as of `GRUCell`.

    >>> import jax, jax.numpy as jnp
    >>> from flax import linen as nn
    >>> from jaxrnn import linen
    >>> layer = nn.Bidirectional(nn.RNN(linen.LSTMCell(features=20)), nn.RNN(linen.LSTMCell(features=20)))
    >>> ys, variables = layer.init_with_output(jax.random.key(0), jnp.ones((3, 10, 100)))
    >>> ys.shape
    (3, 10, 40)
    """

    features: int
    gate_fn: Callable[..., Any] = jax.nn.sigmoid
    activation_fn: Callable[..., Any] = jnp.tanh

    @property
    def _cell(self) -> Cell:
        check_elementwise(gate_fn=self.gate_fn, activation_fn=self.activation_fn)
        return lstm_of(self.gate_fn, self.activation_fn)


class OptimizedLSTMCell(LSTMCell):
    """The same in place of nn.OptimizedLSTMCell: `LSTMCell`, which has one product for all gates, too."""


class MGUCell(_Cell):
    """Minimal gated unit, `jr.mgu`, in place of nn.MGUCell. The carry is h (*batch, H).

    Attributes and errors: as of `GRUCell`, with, in place of bias_init,
      forget_bias_init, activation_bias_init: initializers for the parts of the biases that are the gate's, and the new
        state's.
      reset_gate: whether the gate acts on W_hn h; without it the cell is `jr.mgu_without_reset`.

    >>> import jax, jax.numpy as jnp
    >>> from flax import linen as nn
    >>> from jaxrnn import linen
    >>> layer = nn.RNN(linen.MGUCell(features=20))
    >>> ys, variables = layer.init_with_output(jax.random.key(0), jnp.ones((3, 10, 100)))
    >>> ys.shape, variables["params"]["cell"]["weight_hh"].shape
    ((3, 10, 20), (40, 20))
    """

    features: int
    gate_fn: Callable[..., Any] = jax.nn.sigmoid
    activation_fn: Callable[..., Any] = jnp.tanh
    kernel_init: Initializer | None = None
    recurrent_kernel_init: Initializer | None = None
    forget_bias_init: Initializer | None = None
    activation_bias_init: Initializer | None = None
    reset_gate: bool = True
    bias: bool = True

    @property
    def _cell(self) -> Cell:
        check_elementwise(gate_fn=self.gate_fn, activation_fn=self.activation_fn)
        check_bool("reset_gate", self.reset_gate)
        return mgu_of(self.gate_fn, self.activation_fn, reset_gate=self.reset_gate)

    @nn.nowrap
    def _given(self) -> Initializers:
        kernels = {name: getattr(self, name) for name in ("kernel_init", "recurrent_kernel_init")}
        names = "forget_bias_init", "activation_bias_init"
        return kernels | {"bias_init": PerGate({name: getattr(self, name) for name in names})}


class ConvLSTMCell(_Cell):
    """Convolutional LSTM, `jr.conv_lstm`, in place of nn.ConvLSTMCell. The carry is (c, h), both (*batch, *places, H).

    Inputs are signals, images or volumes, (*batch, *places, I), by the number of sizes of the kernel.

    Attributes and errors: as of `SimpleCell`, and
      features: H, the number of channels of h.
      kernel_size: of the kernels over the places.
      strides: 1, the default, alone: with others nn.ConvLSTMCell raises an error, too, as c keeps its places.
      padding: "SAME", "CIRCULAR", "REFLECT" or "CAUSAL", or a pair (low, high) for each size of the kernel: what keeps
        the number of places.
      use_bias: whether there are bias_ih and bias_hh.

    >>> import jax, jax.numpy as jnp
    >>> from flax import linen as nn
    >>> from jaxrnn import linen
    >>> layer = nn.RNN(linen.ConvLSTMCell(features=8, kernel_size=(3, 3)))
    >>> ys, variables = layer.init_with_output(jax.random.key(0), jnp.ones((2, 10, 16, 12, 3)))
    >>> ys.shape, variables["params"]["cell"]["weight_hh"].shape
    ((2, 10, 16, 12, 8), (32, 8, 3, 3))
    """

    features: int
    kernel_size: Sequence[int]
    strides: Sequence[int] | int | None = None
    padding: str | Sequence[tuple[int, int]] = "SAME"
    use_bias: bool = True

    @property
    def _cell(self) -> Cell:
        check_kernel_size(self.kernel_size)
        strides = self.strides if isinstance(self.strides, Sequence) else [self.strides] * len(self.kernel_size)
        is_known = all(stride is None or (type(stride) is int and stride == 1) for stride in strides)
        if not is_known or len(strides) != len(self.kernel_size):
            raise ValueError(f"strides must be 1, with which c keeps its places, got {shown(self.strides)}")
        return conv_lstm_of(self.kernel_size, self.padding)

    @property
    def _has_bias(self) -> bool:
        check_bool("use_bias", self.use_bias)
        return self.use_bias

    @property
    def _options(self) -> tuple[tuple[str, Any], ...]:
        return (("kernel_size", tuple(self.kernel_size)),)


class AffineCell(_AffineCell):
    """Any cell of `jr.affine_cell` in Flax's place. The carry is the cell's own state.

    Attributes and errors: as of `SimpleCell`, with, in place of activation_fn and residual,
      cell: the `jr.Cell`, whose parameters are a NamedTuple with at least `jr.AffineParams`' fields.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from flax import linen as nn
    >>> from jaxrnn import linen
    >>> identity = jr.affine_cell(lambda params, z, r, h: z + r, blocks=1)
    >>> ys, _ = nn.RNN(linen.AffineCell(features=20, cell=identity)).init_with_output(
    ...     jax.random.key(0), jnp.ones((3, 10, 100)))
    >>> ys.shape
    (3, 10, 20)
    """

    features: int
    cell: Cell

    @property
    def _cell(self) -> Cell:
        check_cell("cell", self.cell)
        return self.cell


def _initializers(module: Any) -> Initializers:
    return {name: getattr(module, name) for name in ("kernel_init", "recurrent_kernel_init", "bias_init")}


def _promote(arrays: tuple[Array, ...], *, dtype: DTypeLike | None) -> list[Array]:
    return promote_dtype(*arrays, dtype=dtype)


def _declare(
    module: nn.Module, shapes: Mapping[str, tuple[int, ...]], init: Callable[[Array], dict[str, Any]]
) -> dict[str, Array]:
    """One Flax parameter for each name, from a single call of `init` where the module has none yet."""
    if not module.is_mutable_collection("params"):
        owner = "/".join([*module.path, type(module).__name__])
        check_names(owner, shapes, module.variables.get("params", {}))
    fresh = functools.cache(lambda: init(module.make_rng("params")))
    params = {}
    for name, shape in shapes.items():
        if module.has_variable("params", name):
            params[name] = module.param(name, nn.initializers.zeros, shape)  # Flax compares the shapes
        else:
            params[name] = module.param(name, lambda key, name=name: fresh()[name])
    return params
