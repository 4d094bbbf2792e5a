"""The layers that tensors under torch's names belong to, from the names and shapes alone."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from .._cells.gru import gru
from .._cells.lstm import lstm
from .._cells.rnn import rnn, rnn_relu
from .._core.cell import Cell
from .._core.checks import check_bool, check_choice, shown
from .._layers.embedding import Embedding
from .._layers.linear import Linear
from .._layers.networks import GRU, LSTM, RNN
from ._arrays import FormatError
from ._models import Layer, Network, Parts, Tensors, by_owner, listed

_IN_NETWORK = re.compile(r"(?:weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)_l(\d{1,6})(_reverse)?")
_BLOCKS = {1: RNN, 3: GRU, 4: LSTM}
NETWORK_CELLS = (rnn, rnn_relu, gru, lstm)


@dataclasses.dataclass(frozen=True)
class Asked:
    """What tensors do not say of the layer that they belong to. None for what was not given."""

    nonlinearity: str | None = None
    batch_first: bool | None = None
    dropout: float | None = None
    kinds: Mapping[str, type] | None = None

    def __post_init__(self) -> None:
        if self.nonlinearity is not None:
            check_choice("nonlinearity", self.nonlinearity, ("tanh", "relu"))
        if self.batch_first is not None:
            check_bool("batch_first", self.batch_first)
        if not isinstance(self.kinds, Mapping | None):
            raise TypeError(f"kinds must be a dict of names, got {shown(self.kinds)}")
        for name, kind in (self.kinds or {}).items():
            if kind not in (Linear, Embedding):
                raise ValueError(f"kinds[{name!r}] must be jr.Linear or jr.Embedding, got {shown(kind)}")

    def given(self) -> list[str]:
        """The names of what was."""
        return [name for name, value in vars(self).items() if value is not None]


def inferred(tensors: Mapping[str, Any], asked: Asked) -> Parts:
    """The parts that these tensors make up.

    Raises:
      FormatError: there are none, some belong to no layer that the library has, or more must be asked for.
    """
    if not tensors:
        raise FormatError("source must hold tensors of a layer, got none")
    parts = {owner: (_layer(owner, group, asked), group) for owner, group in by_owner(tensors).items()}
    _check_use(asked, parts)
    return parts


def _layer(owner: str, tensors: Tensors, asked: Asked) -> Layer:
    try:
        if any(_IN_NETWORK.fullmatch(name) for name in tensors):
            return _network(tensors, asked)
        if {"weight_ih", "weight_hh"} <= tensors.keys():
            return _cell(tensors, asked)
        if "weight" in tensors and tensors.keys() <= {"weight", "bias"} and tensors["weight"].ndim == 2:
            return _linear_or_embedding(owner, tensors, asked)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{owner}: {error}" if owner else str(error)) from None
    shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in list(tensors.items())[:4])
    more = ", ..." if len(tensors) > 4 else ""
    whose = repr(owner) if owner else "this"
    raise FormatError(
        f"cannot tell what {whose} is, got the tensors {shapes}{more}: expected those of an RNN, LSTM, GRU, one of "
        "their cells, a Linear or an Embedding; a prefix picks a part of a model"
    )


def _network(tensors: Tensors, asked: Asked) -> Network:
    found = [match for name in tensors if (match := _IN_NETWORK.fullmatch(name))]
    sizes = _sizes(tensors, "_l0")
    num_layers = 1 + max(int(match[1]) for match in found)
    if num_layers > len(tensors):  # before anything of that size is made
        raise FormatError(
            f"has a layer {num_layers - 1}, but only {len(tensors)} tensors: expected all layers below it"
        )
    kind = _BLOCKS[sizes["blocks"]]
    options: dict[str, Any] = {"proj_size": sizes["proj_size"]} if sizes["proj_size"] else {}
    if kind is RNN:
        options["nonlinearity"] = _nonlinearity(asked)
    if asked.batch_first is None:
        raise FormatError(
            f"batch_first must be given for {kind.__name__}: tensors do not say whether x is (N, T, I), got None"
        )
    return kind(
        sizes["input_size"],
        sizes["hidden_size"],
        num_layers,
        bias="bias_ih_l0" in tensors,
        batch_first=asked.batch_first,
        dropout=0.0 if asked.dropout is None else asked.dropout,
        bidirectional=any(match[2] for match in found),
        **options,
    )


def network_of(cell: Cell, tensors: Tensors, asked: Asked) -> Network:
    """The network whose cells are these."""
    if cell in (rnn, rnn_relu):
        asked = dataclasses.replace(asked, nonlinearity="tanh" if cell == rnn else "relu")
    elif cell not in NETWORK_CELLS:
        raise FormatError(f"cells must be jr.rnn, jr.rnn_relu, jr.gru or jr.lstm to make a network, got {cell}")
    return _network(tensors, asked)


def _cell(tensors: Tensors, asked: Asked) -> Cell:
    blocks = _sizes(tensors, "")["blocks"]
    if blocks == 1:
        return rnn if _nonlinearity(asked) == "tanh" else rnn_relu
    return gru if blocks == 3 else lstm


def _sizes(tensors: Tensors, suffix: str) -> dict[str, int]:
    """Of the lowest layer, whose shapes are held to them all later."""
    for name in ("weight_ih", "weight_hh"):
        if name + suffix not in tensors:
            raise FormatError(f"has no {name}{suffix}, expected weight_ih{suffix} and weight_hh{suffix}")
    weight_ih, weight_hh = tensors["weight_ih" + suffix], tensors["weight_hh" + suffix]
    projection = tensors.get("weight_hr" + suffix)
    for name, tensor in (("weight_ih", weight_ih), ("weight_hh", weight_hh), ("weight_hr", projection)):
        if tensor is not None and (tensor.ndim != 2 or 0 in tensor.shape):
            raise FormatError(f"{name}{suffix} has shape {tuple(tensor.shape)}, expected two axes, none of them empty")
    hidden_size = weight_hh.shape[1] if projection is None else projection.shape[1]
    blocks, rest = divmod(weight_ih.shape[0], hidden_size)
    if rest or blocks not in _BLOCKS or (projection is not None and blocks != 4):
        raise FormatError(
            f"weight_ih{suffix} has {weight_ih.shape[0]} rows for hidden_size={hidden_size}, expected 1, 3 or 4 times "
            "as many: RNN, GRU or LSTM"
        )
    return {
        "input_size": weight_ih.shape[1],
        "hidden_size": hidden_size,
        "proj_size": 0 if projection is None else projection.shape[0],
        "blocks": blocks,
    }


def _linear_or_embedding(owner: str, tensors: Tensors, asked: Asked) -> Linear | Embedding:
    rows, columns = tensors["weight"].shape
    kind = (asked.kinds or {}).get(owner, Linear if "bias" in tensors else None)
    if kind is None:
        raise FormatError(
            f"has one tensor, weight {tuple(tensors['weight'].shape)}, which an Embedding has, or a Linear without "
            f"bias: kinds must say which, as in kinds={{{owner!r}: jr.Embedding}}, or --kind {owner}=Embedding"
        )
    return Embedding(rows, columns) if kind is Embedding else Linear(columns, rows, bias="bias" in tensors)


def _nonlinearity(asked: Asked) -> str:
    if asked.nonlinearity is None:
        raise FormatError('nonlinearity must be given, "tanh" or "relu": tensors of an RNN do not say it, got None')
    return asked.nonlinearity


def _check_use(asked: Asked, parts: Parts) -> None:
    """What was given says something of these layers."""
    layers = [layer for layer, _ in parts.values()]
    has_network = any(isinstance(layer, Network) for layer in layers)
    has_elman = any(isinstance(layer, RNN) or layer in (rnn, rnn_relu) for layer in layers)
    uses = {"nonlinearity": has_elman, "batch_first": has_network, "dropout": has_network, "kinds": True}
    for name in asked.given():
        if not uses[name]:
            raise FormatError(f"{name}={getattr(asked, name)!r} is given, but only for layers that are not here")
    strangers = [
        name for name in asked.kinds or {} if name not in parts or not isinstance(parts[name][0], Linear | Embedding)
    ]
    if strangers:
        raise FormatError(
            f"kinds has {listed(strangers)}, expected names of a Linear or an Embedding among {list(parts)}"
        )
