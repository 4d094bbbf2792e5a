"""Keras: kernels (I, G*H), gates i, f, c, o of an LSTM and z, r, h of a GRU, one bias.

A GRU with reset_after has two biases, (2, 3H), and is `jr.gru`; one without is `jr.gru_reset_before`.
"""

from typing import Any

import numpy as np

from .._cells.gru import gru
from .._cells.gru_reset_before import gru_reset_before
from .._cells.lstm import lstm
from .._cells.rnn import rnn, rnn_relu
from .._core.cell import Cell
from .._core.checks import shown
from .._layers.embedding import Embedding
from .._layers.linear import Linear
from ._arrays import FormatError, required
from ._gates import added_biases, check_plain, gates, refuse
from ._linen import jax_tensors
from ._models import Layer, Parts, Spec, Tensors, joined, model_of, parts_of
from ._networks import split_parts

_CELLS = (rnn, rnn_relu, lstm, gru, gru_reset_before)


def from_keras(layer: Any) -> tuple[Spec, Any]:
    """The recurrent layers and cells, Dense and Embedding of a Keras layer or model, as layers of the core.

    SimpleRNN becomes `jr.rnn` or `jr.rnn_relu`, LSTM `jr.lstm`, GRU `jr.gru`, or `jr.gru_reset_before` without
    reset_after. The bias that Keras lacks is zeros. The cells of Bidirectional are named l0 and l0_reverse, those of
    StackedRNNCells l0, l1, ..., so that `join` makes networks of them.

    Args:
      layer: a keras.Layer or keras.Model that is built.

    Returns:
      (spec, params): a layer and its parameters, or dicts of them under the names of a model's layers.

    Raises:
      FormatError: a layer with weights is none of these, is not built, or has another activation than tanh (a
        SimpleRNN: or relu), sigmoid for gates, linear for Dense.
      TypeError: layer is none.
      ImportError: Keras is not installed.
    """
    keras = required("keras")
    if not isinstance(layer, keras.Layer):
        raise TypeError(f"layer must be a keras.Layer or keras.Model, got {shown(layer)}")
    parts = _parts("", layer)
    if not parts:
        raise FormatError(f"layer must hold weights, got a {type(layer).__name__} without, or one that is not built")
    return model_of(parts)


def to_keras(spec: Spec, params: Any) -> Any:
    """Weights for `layer.set_weights`: a list for a layer, or a dict of lists under the names of spec.

    The two biases of a gate are added up where Keras has one; networks become cells, see `split`. A layer made with
    use_bias=False takes those of bias=False.

    Raises:
      FormatError: params do not fit the spec; an LSTM has a projection.
      TypeError: an argument is of the wrong type.

    >>> import jax, jaxrnn as jr
    >>> from jaxrnn import interop
    >>> weights = interop.to_keras(jr.gru, jr.gru.init(jax.random.key(0), 3, 8))        # for keras.layers.GRU(8)
    >>> [weight.shape for weight in weights]
    [(3, 24), (8, 24), (2, 24)]
    """
    weights = {name: _weights(name, *part) for name, part in split_parts(parts_of(spec, params)).items()}
    return weights[""] if list(weights) == [""] else weights


def _parts(name: str, layer: Any) -> Parts:
    read = _readers().get(type(layer))
    if read is not None:
        found, tensors = read(name or layer.name, layer)
        return {name: (found, jax_tensors(name, tensors))}
    parts: Parts = {}
    for key, below in _children(layer):
        parts |= _parts(joined(name, key), below)
    if layer.weights and not parts:
        raise FormatError(
            f"{name or 'layer'} must be a recurrent layer, Dense or Embedding, or a model of them, got a "
            f"{type(layer).__name__}"
        )
    return parts


def _children(layer: Any) -> list[tuple[str, Any]]:
    keras = required("keras")
    layers = keras.layers
    if isinstance(layer, keras.Model):
        return [(below.name, below) for below in layer.layers]
    if type(layer) is layers.Bidirectional:
        return [("l0", layer.forward_layer), ("l0_reverse", layer.backward_layer)]
    if type(layer) is layers.StackedRNNCells:
        return [(f"l{index}", cell) for index, cell in enumerate(layer.cells)]
    return [("", layer.cell)] if type(layer) in (layers.RNN, layers.SimpleRNN, layers.LSTM, layers.GRU) else []


def _readers() -> dict[type, Any]:
    """How the layer and tensors of each class are read."""
    layers = required("keras").layers
    return {
        layers.SimpleRNNCell: _elman,
        layers.LSTMCell: _lstm,
        layers.GRUCell: _gru,
        layers.Dense: _dense,
        layers.Embedding: _embedding,
    }


def _arrays(name: str, layer: Any) -> list[np.ndarray]:
    if not layer.built:
        raise FormatError(f"{name} must be built, as by a call, got a {type(layer).__name__} without weights")
    return [np.asarray(weight) for weight in layer.get_weights()]


def _activation(name: str, layer: Any, attribute: str, known: tuple[str, ...]) -> str:
    """The word of one of these."""
    activations = required("keras").activations
    for word in known:
        if getattr(layer, attribute) in (activations.get(word), word):
            return word
    found = getattr(getattr(layer, attribute), "__name__", getattr(layer, attribute))
    raise FormatError(
        f"{name} must have the {attribute} {' or '.join(known)}, got {found}: the layer here has no other"
    )


def _tensors(cell: Any, weights: list[np.ndarray]) -> Tensors:
    """Of a kernel, a recurrent kernel and perhaps one bias."""
    tensors = {"weight_ih": weights[0].T, "weight_hh": weights[1].T}
    return tensors | {"bias_ih": weights[2], "bias_hh": np.zeros_like(weights[2])} if cell.use_bias else tensors


def _elman(name: str, cell: Any) -> tuple[Layer, Tensors]:
    word = _activation(name, cell, "activation", ("tanh", "relu"))
    return rnn if word == "tanh" else rnn_relu, _tensors(cell, _arrays(name, cell))


def _lstm(name: str, cell: Any) -> tuple[Layer, Tensors]:
    _check_gates(name, cell)
    return lstm, _tensors(cell, _arrays(name, cell))


def _gru(name: str, cell: Any) -> tuple[Layer, Tensors]:
    _check_gates(name, cell)
    weights = _arrays(name, cell)
    if cell.reset_after and cell.use_bias:
        tensors = {
            "weight_ih": weights[0].T,
            "weight_hh": weights[1].T,
            "bias_ih": weights[2][0],
            "bias_hh": weights[2][1],
        }
    else:
        tensors = _tensors(cell, weights)
    return gru if cell.reset_after else gru_reset_before, {key: _swapped(a) for key, a in tensors.items()}


def _check_gates(name: str, cell: Any) -> None:
    _activation(name, cell, "activation", ("tanh",))
    _activation(name, cell, "recurrent_activation", ("sigmoid",))


def _swapped(tensor: np.ndarray) -> np.ndarray:
    """Gates z, r, h as r, z, h, and the inverse."""
    first, second, new = np.split(tensor, 3)
    return np.concatenate([second, first, new])


def _dense(name: str, layer: Any) -> tuple[Layer, Tensors]:
    _activation(name, layer, "activation", ("linear",))
    weights = _arrays(name, layer)
    tensors = {"weight": weights[0].T} | ({"bias": weights[1]} if layer.use_bias else {})
    inputs, outputs = weights[0].shape
    return Linear(inputs, outputs, layer.use_bias), tensors


def _embedding(name: str, layer: Any) -> tuple[Layer, Tensors]:
    (table,) = _arrays(name, layer)
    return Embedding(*table.shape), {"weight": table}


def _weights(name: str, layer: Layer, tensors: Tensors) -> list[np.ndarray]:
    arrays = {key: np.asarray(a) for key, a in tensors.items()}
    if isinstance(layer, Embedding):
        return [arrays["weight"]]
    if isinstance(layer, Linear):
        return [arrays["weight"].T] + ([arrays["bias"]] if layer.bias else [])
    assert isinstance(layer, Cell)
    check_plain(name, tensors, "Keras")
    if layer not in _CELLS:
        refuse(name, layer, "Keras", "it has SimpleRNN, LSTM and GRU")
    order = _swapped if layer in (gru, gru_reset_before) else np.asarray
    kernels = [order(arrays[key]).T for key in ("weight_ih", "weight_hh")]
    if "bias_ih" not in arrays:
        return kernels
    if layer == gru:
        return [
            *kernels,
            np.stack([order(np.concatenate(gates(layer, tensors, key))) for key in ("bias_ih", "bias_hh")]),
        ]
    return [*kernels, order(np.concatenate(added_biases(layer, tensors)))]
