"""The networks and cells as flax.linen modules, with parameters under torch's names.

Layers `RNN`, `LSTM` and `GRU` run `jr.RNN`, `jr.LSTM` and `jr.GRU`: their variables are {"params": params}, with the
very params of `net.init` and `net.apply`. Cells `SimpleCell`, `GRUCell`, `LSTMCell` and `AffineCell` take the place of
Flax's own in `nn.RNN`, `nn.Bidirectional`, `nn.scan` and `nn.remat`.

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
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from ._cells.gru import gru
from ._cells.lstm import lstm
from ._core.cell import Cell, check_cell
from ._core.checks import check_int, check_optional_key
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
    features_of,
    zeros,
)
from ._layers import networks as _networks
from ._layers.networks import param_shapes
from ._scan.unroll import Checkpoint

__all__ = ["GRU", "LSTM", "RNN", "AffineCell", "GRUCell", "LSTMCell", "OptimizedLSTMCell", "SimpleCell"]


class _Layer(nn.Module, kw_only=True):
    """What the three layers share."""

    deterministic: bool | None = None
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

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
    ) -> tuple[Array, Any]:
        """Run the network over sequences: shapes, states and errors as in `jr.RNN.apply`.

        Args:
          x, h_0, lengths, checkpoint: as there.
          deterministic: False for dropout, with a key from the rng stream "dropout". It is given here or in the
            constructor if the network has dropout at all; during `init` nothing is dropped.
        """
        check_dtypes(self.dtype, self.param_dtype)
        check_deterministic(self.deterministic, deterministic)
        arguments = [field.name for field in dataclasses.fields(self._network)][1:]
        net = self._network(features_of("x", x), **{name: getattr(self, name) for name in arguments})
        params = _declare(self, param_shapes(net), lambda key: net.init(key, self.param_dtype))
        key = self._dropout_key(deterministic) if drops(net) and not self.is_initializing() else None
        return net.apply(params, x, h_0, lengths=lengths, key=key, checkpoint=checkpoint, dtype=self.dtype)

    def _dropout_key(self, deterministic: bool | None) -> Array | None:
        check_given(self.deterministic, deterministic)
        deterministic = nn.merge_param("deterministic", self.deterministic, deterministic)
        return None if deterministic else self.make_rng("dropout")


class RNN(_Layer):
    """Layers of Elman cells: `jr.RNN`, with the size of the input inferred.

    Attributes:
      hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional: as in `jr.RNN`.
      deterministic: whether dropout is off, unless the call says so.
      dtype: of the computation, the output and the states; None for that of x and the parameters.
      param_dtype: of new parameters.

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
    bias: bool = True
    kernel_init: Initializer | None = None
    recurrent_kernel_init: Initializer | None = None
    bias_init: Initializer | None = None
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    carry_init: Initializer = zeros

    @nn.compact
    def __call__(self, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
        """One step: inputs (*batch, I), a carry with the same batch axes -> the next carry, and h (*batch, H)."""
        spec = self._spec(features_of("inputs", inputs))
        init = functools.partial(
            spec.init,
            kernel_init=self.kernel_init,
            recurrent_kernel_init=self.recurrent_kernel_init,
            bias_init=self.bias_init,
        )
        return spec.step(_declare(self, spec.shapes(), init), carry, inputs, self.dtype)

    @nn.nowrap
    def initialize_carry(self, rng: Array | None, input_shape: tuple[int, ...]) -> Carry:
        """The carry before the first step, for inputs of this shape (*batch, I). Zeros need no rng: it may be None."""
        check_optional_key("rng", rng)
        batch_shape = batch_shape_of(input_shape)
        spec = self._spec(input_shape[-1])
        keys = None if rng is None else (jax.random.fold_in(rng, leaf) for leaf in itertools.count())
        return spec.initialize_carry(batch_shape, self.dtype, self.carry_init, keys)

    @property
    def num_feature_axes(self) -> int:
        """Inputs have one axis of features."""
        return 1

    @property
    def _cell(self) -> Cell:
        raise NotImplementedError

    @nn.nowrap
    def _spec(self, in_features: int) -> CellSpec:
        check_int("features", self.features)
        check_dtypes(self.dtype, self.param_dtype)
        return CellSpec(self._cell, in_features, self.features, self.bias, self.param_dtype)


class SimpleCell(_Cell):
    """Elman's cell, `jr.rnn` or `jr.rnn_relu`, in place of nn.SimpleCell. The carry is h (*batch, H).

    Attributes:
      features: H, the size of h.
      bias: whether there are bias_ih and bias_hh.
      kernel_init, recurrent_kernel_init, bias_init: initializers for weight_ih and weight_hh, which get each gate's
        (I, H) and (H, H) as in Flax, and for each of both biases. By default all are U(-1/sqrt(H), 1/sqrt(H)).
      dtype: of the computation and the carry; None for that of the inputs and the parameters.
      param_dtype: of new parameters.
      carry_init: initializer of the carry; zeros, the default, need no rng.
      activation_fn: jnp.tanh or jax.nn.relu.

    Raises:
      ValueError: another activation_fn; a carry that does not fit the inputs; mixed dtypes.
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

    @property
    def _cell(self) -> Cell:
        return elman_cell(self.activation_fn)


class GRUCell(_Cell):
    """Gated recurrent unit, `jr.gru`, in place of nn.GRUCell. The carry is h (*batch, H).

    Attributes and errors: as of `SimpleCell`, without activation_fn.

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

    @property
    def _cell(self) -> Cell:
        return gru


class LSTMCell(_Cell):
    """Long short-term memory, `jr.lstm`, in place of nn.LSTMCell. The carry is (c, h), both (*batch, H).

    Attributes and errors: as of `SimpleCell`, without activation_fn.

    >>> import jax, jax.numpy as jnp
    >>> from flax import linen as nn
    >>> from jaxrnn import linen
    >>> layer = nn.Bidirectional(nn.RNN(linen.LSTMCell(features=20)), nn.RNN(linen.LSTMCell(features=20)))
    >>> ys, variables = layer.init_with_output(jax.random.key(0), jnp.ones((3, 10, 100)))
    >>> ys.shape
    (3, 10, 40)
    """

    features: int

    @property
    def _cell(self) -> Cell:
        return lstm


OptimizedLSTMCell = LSTMCell


class AffineCell(_Cell):
    """Any cell of `jr.affine_cell` in Flax's place. The carry is the cell's own state.

    Attributes and errors: as of `SimpleCell`, with, in place of activation_fn,
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


def _declare(
    module: nn.Module, shapes: Mapping[str, tuple[int, ...]], init: Callable[[Array], dict[str, Array]]
) -> dict[str, Array]:
    """One Flax parameter for each name, from a single call of `init` where the module has none yet."""
    fresh = functools.cache(lambda: init(module.make_rng("params")))
    params = {}
    for name, shape in shapes.items():
        if module.has_variable("params", name):
            params[name] = module.param(name, nn.initializers.zeros, shape)  # Flax compares the shapes
        else:
            params[name] = module.param(name, lambda key, name=name: fresh()[name])
    return params
