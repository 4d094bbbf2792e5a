"""Equinox: torch's gate order and layout; one bias, and in its GRU a second beside W_hn."""

import dataclasses
from typing import Any

import jax
import numpy as np

from .._cells.gru import gru
from .._cells.lstm import lstm
from .._core.cell import Cell
from .._core.checks import shown
from .._layers.embedding import Embedding
from .._layers.linear import Linear
from ._arrays import FormatError, is_array, required, to_jax
from ._gates import added, added_biases, check_plain, gates, refuse
from ._linen import jax_tensors
from ._models import Layer, Parts, Spec, Tensors, joined, model_of, parts_of
from ._networks import split_parts


def from_equinox(module: Any) -> tuple[Spec, Any]:
    """The LSTMCell, GRUCell, Linear and Embedding of an Equinox module, as layers of the core.

    The second bias, which Equinox lacks, is zeros.

    Args:
      module: an equinox.Module, or a list, tuple or dict of them.

    Returns:
      (spec, params): a layer and its parameters, or dicts of them under the names of fields, with dots.

    Raises:
      FormatError: another module holds arrays.
      TypeError: module is none.
      ImportError: Equinox is not installed.

    >>> import equinox as eqx, jax, jaxrnn as jr
    >>> from jaxrnn import interop
    >>> cell, params = interop.from_equinox(eqx.nn.GRUCell(3, 8, key=jax.random.key(0)))
    >>> cell, params.weight_hh.shape
    (jaxrnn.gru, (24, 8))
    """
    if not isinstance(module, required("equinox").Module | list | tuple | dict):
        raise TypeError(f"module must be an equinox.Module, or a list, tuple or dict of them, got {shown(module)}")
    parts = _parts("", module)
    if not parts:
        raise FormatError(f"module must hold an LSTMCell, GRUCell, Linear or Embedding, got {type(module).__name__}")
    return model_of(parts)


def to_equinox(spec: Spec, params: Any) -> Any:
    """Modules of Equinox: one for a layer, or a dict of them under the names of spec.

    The two biases of a gate are added up where Equinox has one; networks become cells, see `split`.

    Raises:
      FormatError: params do not fit the spec; Equinox has no such cell: Elman's, an LSTM with projection, a GRU that
        resets before the matmul.
      TypeError: an argument is of the wrong type.
      ImportError: Equinox is not installed.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import interop
    >>> cell = interop.to_equinox(jr.gru, jr.gru.init(jax.random.key(0), 3, 8))
    >>> cell(jnp.ones(3), jnp.ones(8)).shape
    (8,)
    """
    modules = {name: _module(name, *part) for name, part in split_parts(parts_of(spec, params)).items()}
    return modules[""] if list(modules) == [""] else modules


def _parts(name: str, value: Any) -> Parts:
    read = _readers().get(type(value))
    if read is not None:
        layer, tensors = read(name, value)
        return {name: (layer, jax_tensors(name, {key: np.asarray(a) for key, a in tensors.items() if a is not None}))}
    if is_array(value):
        raise FormatError(f"{name} must be of an LSTMCell, GRUCell, Linear or Embedding, got {shown(value)}")
    parts: Parts = {}
    for key, below in _children(value):
        parts |= _parts(joined(name, key), below)
    return parts


def _children(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, required("equinox").Module):
        return [(field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value)]
    if isinstance(value, dict):
        return [(str(key), below) for key, below in value.items()]
    return [(str(index), below) for index, below in enumerate(value)] if isinstance(value, list | tuple) else []


def _readers() -> dict[type, Any]:
    """How the layer and tensors of each class are read."""
    nn = required("equinox").nn
    return {nn.LSTMCell: _lstm, nn.GRUCell: _gru, nn.Linear: _linear, nn.Embedding: _embedding}


def _lstm(name: str, cell: Any) -> tuple[Layer, Tensors]:
    zeros = None if cell.bias is None else np.zeros_like(cell.bias)
    return lstm, {"weight_ih": cell.weight_ih, "weight_hh": cell.weight_hh, "bias_ih": cell.bias, "bias_hh": zeros}


def _gru(name: str, cell: Any) -> tuple[Layer, Tensors]:
    bias_hh = None
    if cell.bias is not None:
        zeros = np.zeros(2 * cell.hidden_size, cell.bias.dtype)
        bias_hh = np.concatenate([zeros, np.asarray(cell.bias_n)])
    return gru, {"weight_ih": cell.weight_ih, "weight_hh": cell.weight_hh, "bias_ih": cell.bias, "bias_hh": bias_hh}


def _linear(name: str, linear: Any) -> tuple[Layer, Tensors]:
    if "scalar" in (linear.in_features, linear.out_features):
        raise FormatError(f"{name or 'module'} must be a Linear of numbers of features, got one of scalars")
    layer = Linear(linear.in_features, linear.out_features, linear.bias is not None)
    return layer, {"weight": linear.weight, "bias": linear.bias}


def _embedding(name: str, embedding: Any) -> tuple[Layer, Tensors]:
    return Embedding(*embedding.weight.shape), {"weight": embedding.weight}


def _module(name: str, layer: Layer, tensors: Tensors) -> Any:
    arrays = _fields(name, layer, tensors)
    equinox, key = required("equinox"), jax.random.key(0)
    if isinstance(layer, Embedding):
        return equinox.nn.Embedding(weight=to_jax(name, arrays["weight"]))
    if isinstance(layer, Linear):
        module = equinox.nn.Linear(layer.in_features, layer.out_features, use_bias=layer.bias, key=key)
    else:
        make = equinox.nn.LSTMCell if layer == lstm else equinox.nn.GRUCell
        inputs = arrays["weight_ih"].shape[1]
        module = make(inputs, arrays["weight_hh"].shape[1], use_bias="bias" in arrays, key=key)
    names = list(arrays)
    new = [to_jax(joined(name, field), arrays[field]) for field in names]
    return equinox.tree_at(lambda module: [getattr(module, field) for field in names], module, new)


def _fields(name: str, layer: Layer, tensors: Tensors) -> Tensors:
    """The arrays of Equinox's module, by its fields."""
    arrays = {key: np.asarray(a) for key, a in tensors.items()}
    if not isinstance(layer, Cell):
        return arrays
    if layer not in (lstm, gru):
        refuse(name, layer, "Equinox", "it has an LSTMCell, and a GRUCell that resets after the matmul")
    check_plain(name, tensors, "Equinox")
    weights = {key: arrays[key] for key in ("weight_ih", "weight_hh")}
    if "bias_ih" not in arrays:
        return weights
    if layer == lstm:
        return weights | {"bias": np.concatenate(added_biases(layer, tensors))}
    bias_ih, bias_hh = gates(layer, tensors, "bias_ih"), gates(layer, tensors, "bias_hh")
    return weights | {
        "bias": np.concatenate([*map(added, bias_ih[:2], bias_hh[:2]), bias_ih[2]]),
        "bias_n": bias_hh[2],
    }
