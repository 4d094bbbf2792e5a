"""What is exchanged: a layer and its parameters, or layers by name, as a torch model names its modules.

A spec is a layer, or a dict of layers; params are those of the layer, or a dict of theirs under the same names. In
between, all formats work on parts: for each name ("" for a layer by itself) the layer and its tensors, by name.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import jax

from .._cells.affine import AffineParams
from .._cells.conv_lstm import conv_lstm
from .._cells.gru import gru
from .._cells.gru_reset_before import gru_reset_before
from .._cells.lstm import LSTMParams, lstm
from .._cells.lstm_peephole import LSTMPeepholeParams, lstm_peephole
from .._cells.mgu import mgu, mgu_without_reset
from .._cells.rnn import rnn, rnn_relu
from .._core.cell import Cell
from .._core.checks import check_params, describe, shown
from .._layers.embedding import Embedding
from .._layers.linear import Linear
from .._layers.networks import GRU, LSTM, RNN, param_shapes
from ._arrays import FormatError

Network: TypeAlias = RNN | LSTM | GRU
Layer: TypeAlias = Network | Linear | Embedding | Cell
Spec: TypeAlias = Layer | dict[str, Layer]
Tensors: TypeAlias = dict[str, Any]
Parts: TypeAlias = dict[str, tuple[Layer, Tensors]]

CELLS = {
    "rnn": rnn,
    "rnn_relu": rnn_relu,
    "lstm": lstm,
    "lstm_peephole": lstm_peephole,
    "gru": gru,
    "gru_reset_before": gru_reset_before,
    "mgu": mgu,
    "mgu_without_reset": mgu_without_reset,
    "conv_lstm": conv_lstm,
    "conv_lstm_of_signals": conv_lstm._replace(input_ndim=2),
    "conv_lstm_of_volumes": conv_lstm._replace(input_ndim=4),
}
LAYERS = {kind.__name__: kind for kind in (RNN, LSTM, GRU, Linear, Embedding)}
_PARAMS: dict[Cell, Any] = {lstm: LSTMParams, lstm_peephole: LSTMPeepholeParams}  # all others: AffineParams


def name_of(layer: Layer) -> str:
    """LSTM, or lstm for the cell: a word for messages and files."""
    return type(layer).__name__ if isinstance(layer, tuple(LAYERS.values())) else _cell_name(layer)


def parts_of(spec: Spec, params: Any) -> Parts:
    """A model taken apart and checked, with the tensors as they are.

    Raises:
      FormatError: params do not fit the spec.
      TypeError: spec or params are of the wrong type.
    """
    if not isinstance(spec, dict):
        return {"": (spec, _checked("params", spec, params))}
    if not isinstance(params, dict):
        raise TypeError(f"params must be a dict, as spec is one, got {shown(params)}")
    if not spec or not all(isinstance(name, str) and name for name in spec):
        raise ValueError(f"spec must have a name for each layer, got the names {list(spec)}")
    if spec.keys() != params.keys():
        raise FormatError(f"params must have the names of spec, {list(spec)}, got {list(params)}")
    return {name: (layer, _checked(f"params[{name!r}]", layer, params[name])) for name, layer in spec.items()}


def model_of(parts: Parts) -> tuple[Spec, Any]:
    """The model that these parts are, checked."""
    spec = {name: layer for name, (layer, _) in parts.items()}
    params = {name: _params_of(layer, tensors) for name, (layer, tensors) in parts.items()}
    if list(parts) == [""]:
        _checked("params", spec[""], params[""])
        return spec[""], params[""]
    parts_of(spec, params)
    return spec, params


def tensors_of(parts: Parts) -> Tensors:
    """All tensors by their whole names, as in a torch state_dict."""
    return {joined(name, tensor): a for name, (_, tensors) in parts.items() for tensor, a in tensors.items()}


def by_owner(tensors: Mapping[str, Any]) -> dict[str, Tensors]:
    """The inverse: for each owner of tensors, those, in their order."""
    owners: dict[str, Tensors] = {}
    for name, tensor in tensors.items():
        owner, _, last = name.rpartition(".")
        owners.setdefault(owner, {})[last] = tensor
    return owners


def joined(*names: str) -> str:
    """The names that are not empty, with dots between."""
    return ".".join(filter(None, names))


def listed(names: Iterable[str]) -> str:
    """Names for a message, in quotes."""
    return ", ".join(repr(name) for name in names)


def _cell_name(cell: Any) -> str:
    for name, known in CELLS.items():
        if isinstance(cell, Cell) and cell == known:
            return name
    kinds = ", ".join(
        [*(f"jr.{name}" for name in CELLS if "_of_" not in name), *(f"jr.{name}(...)" for name in LAYERS)]
    )
    raise TypeError(f"spec must be one of {kinds}, or a dict of them by name, got {shown(cell)}")


def _params_of(layer: Layer, tensors: Tensors) -> Any:
    if not isinstance(layer, Cell):
        return tensors
    kind = _PARAMS.get(layer, AffineParams)
    unexpected = tensors.keys() - set(kind._fields)
    if unexpected:
        raise FormatError(f"{listed(sorted(unexpected))} given, expected the tensors {listed(kind._fields)}")
    return kind(**dict.fromkeys(kind._fields) | tensors)


def _checked(where: str, layer: Layer, params: Any) -> Tensors:
    """The tensors of a layer, which fit it."""
    name = name_of(layer)
    try:
        return _cell_tensors(layer, params) if isinstance(layer, Cell) else _layer_tensors(layer, params)
    except TypeError as error:
        raise TypeError(f"{where} of {name}: {error}") from None
    except ValueError as error:
        raise FormatError(f"{where} of {name}: {error}") from None


def _layer_tensors(layer: Any, params: Any) -> Tensors:
    shapes = param_shapes(layer) if isinstance(layer, Network) else _shapes(layer)
    check_params(params, shapes, layer)
    return {name: params[name] for name in shapes}


def _shapes(layer: Linear | Embedding) -> dict[str, tuple[int, ...]]:
    return {name: like.shape for name, like in jax.eval_shape(layer.init, jax.random.key(0)).items()}


def _cell_tensors(cell: Cell, params: Any) -> Tensors:
    kind = _PARAMS.get(cell, AffineParams)
    if not isinstance(params, kind):
        raise TypeError(f"must be a jaxrnn.{kind.__name__}, got {describe(params)}")
    jax.eval_shape(cell.initial_state, params)
    return {name: a for name, a in params._asdict().items() if a is not None}
