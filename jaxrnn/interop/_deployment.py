"""Networks as programs that run without jaxrnn: StableHLO by `jax.export`, of dicts, tuples and arrays alone.

Their batch and time axes are symbols, so one program runs any batch of any length.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.export import Exported, SymbolicScope, export, symbolic_shape

from .._core.cell import Cell, check_cell
from .._core.checks import check_bool, check_params, check_shapes, describe, shown
from .._layers.networks import param_shapes
from .._scan.steps import checked_step
from ._models import Network

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def plain(tree: Any) -> Any:
    """The same tree of dicts and tuples alone: a NamedTuple as a dict of its fields that are not None.

    So are the arguments and results of an exported program, and the tensors in a file of `save`.

    >>> import jax, jaxrnn as jr
    >>> from jaxrnn import interop
    >>> list(interop.plain(jr.gru.init(jax.random.key(0), 3, 8, bias=False)))
    ['weight_ih', 'weight_hh']
    """
    if hasattr(tree, "_asdict"):
        tree = {name: value for name, value in tree._asdict().items() if value is not None}
    if isinstance(tree, dict):
        return {name: plain(value) for name, value in tree.items()}
    return tuple(map(plain, tree)) if isinstance(tree, tuple | list) else tree


def export_apply(
    net: Network, params: dict[str, Any], *, lengths: bool = False, platforms: Sequence[str] = PLATFORMS
) -> Exported:
    """`net.apply` for any batch and any number of steps: (params, x, h_0) -> (output, h_n).

    Args:
      net: a `jr.RNN`, `jr.LSTM` or `jr.GRU`.
      params: arrays or shapes of the program's first argument; their values are not in the program.
      lengths: whether the program has a fourth argument, lengths (N,) of any integers from 0 to T, in int32.
      platforms: that the program is for, some of "cpu", "cuda", "rocm", "tpu".

    Returns:
      A `jax.export.Exported`: its `serialize()` gives bytes, `jax.export.deserialize(data).call(...)` runs them where
      there is JAX; both need flatbuffers, the extra `export`. `serialize(vjp_order=1)` puts the gradient in, too.
      Shapes are those of `net.apply`, T and N at least 1. Compiled kernels are not in it, and dropout is off.

    Raises:
      ValueError: params do not fit the network; unknown platforms.
      TypeError: an argument is of the wrong type.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import interop
    >>> net = jr.GRU(3, 8)
    >>> params = net.init(jax.random.key(0))
    >>> data = interop.export_apply(net, params).serialize()
    >>> output, h_n = jax.export.deserialize(data).call(params, jnp.ones((5, 2, 3)), jnp.zeros((1, 2, 8)))
    >>> output.shape, h_n.shape
    ((5, 2, 8), (1, 2, 8))
    """
    if not isinstance(net, Network):
        raise TypeError(f"net must be a jr.RNN, jr.LSTM or jr.GRU, got {shown(net)}")
    check_bool("lengths", lengths)
    params, (steps, batch) = _likes("params", params), _symbols("t, b")
    state = _state_of(net, params, batch)
    sizes = (batch, steps) if net.batch_first else (steps, batch)
    arguments = (params, _like(params["weight_ih_l0"].dtype, *sizes, net.input_size), state)
    if lengths:
        arguments += (_like(jnp.int32, batch),)

    def apply(params: dict[str, Array], x: Array, h_0: Any, lengths: Array | None = None) -> tuple[Array, Any]:
        return net.apply(params, x, h_0, lengths=lengths)

    return _export(apply, platforms)(*arguments)


def export_step(layer: Cell | Network, params: Any, x: Any, *, platforms: Sequence[str] = PLATFORMS) -> Exported:
    """One step in time of any batch, for input as it arrives: (params, state, x) -> (state, y).

    Args:
      layer: a cell of any kind, or a network of one direction.
      params: arrays or shapes of the program's first argument, which is `interop.plain(params)`.
      x: one input (I,), or its shape, without a batch axis.
      platforms: as for `export_apply`.

    Returns:
      A `jax.export.Exported` as from `export_apply`: x (N, I), y (N, R), and the state of the cell, which is
      `interop.plain(cell.initial_state(params, (N,)))`, or of the network, which is h_0 of `net.apply`.

    Raises:
      ValueError: the network runs in both directions; params, x do not fit; unknown platforms.
      TypeError: an argument is of the wrong type.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import interop
    >>> params = jr.lstm.init(jax.random.key(0), 3, 8)
    >>> data = interop.export_step(jr.lstm, params, jnp.zeros(3)).serialize()
    >>> state = {"h": jnp.zeros((2, 8)), "c": jnp.zeros((2, 8))}
    >>> state, y = jax.export.deserialize(data).call(interop.plain(params), state, jnp.ones((2, 3)))
    >>> y.shape
    (2, 8)
    """
    params, x, (batch,) = _likes("params", params), _likes("x", x), _symbols("b")
    if not isinstance(x, jax.ShapeDtypeStruct):
        raise TypeError(f"x must be one array or its shape, got {describe(x)}")
    if len(x.shape) != getattr(layer, "input_ndim", 1):
        raise ValueError(f"x has shape {x.shape}, expected that of one input, without a batch axis")
    x = _like(x.dtype, batch, *x.shape)
    step, state = (_network_step if isinstance(layer, Network) else _cell_step)(layer, params, x)
    return _export(step, platforms)(plain(params), plain(state), x)


def _network_step(net: Any, params: Any, x: Any) -> tuple[Callable[..., Any], Any]:
    """The step, and its state's shapes."""
    if net.bidirectional:
        raise ValueError(f"layer must run in one direction to be run step by step, got {net}")
    axis = 1 if net.batch_first else 0

    def step(params: Any, state: Any, x: Array) -> tuple[Any, Any]:
        y, state = net.apply(params, jnp.expand_dims(x, axis), state)
        return state, jnp.squeeze(y, axis)

    return step, _state_of(net, params, x.shape[0])


def _cell_step(cell: Any, params: Any, x: Any) -> tuple[Callable[..., Any], Any]:
    check_cell("layer", cell)
    leading = x.shape[: x.ndim - min(1, cell.input_ndim)]
    start = jax.eval_shape(lambda params: cell.initial_state(params, leading), params)

    def step(given: Any, state: Any, x: Array) -> tuple[Any, Any]:
        state = checked_step(cell.step, _as(params, given), _as(start, state), x)
        return plain(state), plain(cell.output(state))

    return step, start


def _as(like: Any, tree: Any) -> Any:
    """The leaves of a plain tree in another that `plain` makes the same of."""
    if hasattr(like, "_fields"):
        return type(like)(
            *(_as(a, tree[name]) if (a := getattr(like, name)) is not None else None for name in like._fields)
        )
    if isinstance(like, dict):
        return {name: _as(a, tree[name]) for name, a in like.items()}
    return type(like)(_as(a, b) for a, b in zip(like, tree, strict=True)) if isinstance(like, tuple | list) else tree


def _state_of(net: Any, params: dict[str, Any], batch: Any) -> Any:
    """The shapes of h_0."""

    def h_n(params: dict[str, Array]) -> Any:
        dtype = check_params(params, param_shapes(net), net)
        x = jnp.zeros((*((batch, 1) if net.batch_first else (1, batch)), net.input_size), dtype)
        return net.apply(params, x)[1]

    return jax.eval_shape(h_n, params)


def _symbols(names: str) -> tuple[Any, ...]:
    return tuple(symbolic_shape(names, scope=SymbolicScope()))


def _like(dtype: Any, *shape: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _likes(name: str, tree: Any) -> Any:
    """The shapes, in the dtypes that JAX has for them."""
    check_shapes(name, tree)
    return jax.eval_shape(lambda tree: tree, tree)


def _export(function: Callable[..., Any], platforms: Sequence[str]) -> Callable[..., Exported]:
    if isinstance(platforms, str) or not isinstance(platforms, Sequence):
        raise TypeError(f"platforms must be a list of {', '.join(PLATFORMS)}, got {shown(platforms)}")
    if not platforms or not all(platform in PLATFORMS for platform in platforms):
        raise ValueError(f"platforms must be some of {', '.join(PLATFORMS)}, got {shown(platforms)}")
    return export(jax.jit(function), platforms=tuple(platforms))
