"""flax.nnx: linen's cells with other names, one kernel (I, G*H) for all gates where there is but one Linear.

LSTMCell:           a Linear for each gate, as in linen, the bias beside W_h
OptimizedLSTMCell:  dense_i without, dense_h with a bias
GRUCell:            dense_i with, dense_h without a bias: there is no b_hn
SimpleCell:         dense_i with, dense_h without a bias
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from .._cells.gru import gru
from .._cells.lstm import lstm
from .._cells.rnn import rnn, rnn_of, rnn_relu
from .._core.cell import Cell
from .._core.checks import check_bool, check_choice, shown
from .._layers.embedding import Embedding
from .._layers.linear import Linear
from ._arrays import FormatError, required
from ._gates import gates, refuse
from ._linen import (
    check_in_flax,
    dense,
    elman,
    flax_biases,
    jax_tensors,
    linear_or_embedding,
    nested,
    of_dense,
    tree_of_layer,
)
from ._models import Layer, Parts, Spec, Tensors, joined, listed, model_of, parts_of
from ._networks import split_parts

_INPUT = ("ii", "if_", "ig", "io")
_HIDDEN = ("hi", "hf", "hg", "ho")
_FUSED = {"dense_i", "dense_h"}


def from_nnx(source: Any, *, nonlinearity: str | None = None) -> tuple[Spec, Any]:
    """The cells, Linear and Embed of a flax.nnx module, as layers of the core.

    LSTMCell and OptimizedLSTMCell become `jr.lstm`, GRUCell `jr.gru`, SimpleCell `jr.rnn` or `jr.rnn_relu`. Biases that
    Flax's cells lack are zeros.

    Args:
      source: an nnx.Module, an nnx.State, or a dict as from `nnx.to_pure_dict`.
      nonlinearity: "tanh" or "relu", for a SimpleCell of a state or a dict; a module says it.

    Returns:
      (spec, params): a cell and its parameters, or dicts of them, names with dots for those in each other; `join`
      makes networks of cells.

    Raises:
      FormatError: a tensor is missing, or belongs to nothing of these; a cell has another gate_fn or activation_fn, or
        is residual; nonlinearity must be given, or must not.
      TypeError: an argument is of the wrong type.
      ImportError: Flax is not installed.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from flax import nnx
    >>> from jaxrnn import interop
    >>> cell, params = interop.from_nnx(nnx.GRUCell(3, 8, rngs=nnx.Rngs(0)))
    >>> cell, params.weight_hh.shape
    (jaxrnn.gru, (24, 8))
    """
    if nonlinearity is not None:
        check_choice("nonlinearity", nonlinearity, ("tanh", "relu"))
    if isinstance(source, Mapping) and not hasattr(source, "to_pure_dict"):
        tree, known = source, {}
    else:
        tree, known = _of_flax(source, nonlinearity)
    if not isinstance(tree, Mapping) or not tree:
        raise FormatError(f"source must hold parameters of a cell, Linear or Embed, got {shown(tree)}")
    return model_of(_parts("", tree, nonlinearity, known))


def to_nnx(spec: Spec, params: Any, *, optimized: bool = False) -> dict[str, Any]:
    """Parameters for `nnx.update(module, ...)`: of a cell, or of the modules that have the names of spec.

    The two biases of a gate are added up, since Flax has one, and are zeros for bias=False; networks become cells, see
    `split`.

    Args:
      spec, params: a layer and its parameters, or dicts of them.
      optimized: for OptimizedLSTMCell in place of LSTMCell.

    Raises:
      FormatError: params do not fit the spec; an LSTM has a projection; a GRU resets before the matmul, or has a b_hn
        other than zero, since nnx.GRUCell has none.
      TypeError: an argument is of the wrong type.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from flax import nnx
    >>> from jaxrnn import interop
    >>> cell = nnx.LSTMCell(3, 8, rngs=nnx.Rngs(0))
    >>> nnx.update(cell, interop.to_nnx(jr.lstm, jr.lstm.init(jax.random.key(0), 3, 8)))
    """
    check_bool("optimized", optimized)
    parts = split_parts(parts_of(spec, params))
    return nested({name: _tree(name, *part, optimized) for name, part in parts.items()})


def _of_flax(source: Any, nonlinearity: str | None) -> tuple[Any, dict[str, Any]]:
    """The tree of arrays, and by their names the cells that say what they compute."""
    nnx = required("flax.nnx")
    if isinstance(source, nnx.State):
        return nnx.to_pure_dict(source), {}
    if not isinstance(source, nnx.Module):
        raise TypeError(f"source must be an nnx.Module, an nnx.State or a dict, got {shown(source)}")
    if nonlinearity is not None:
        raise FormatError(f"nonlinearity must not be given for a module, which says it, got {nonlinearity!r}")
    modules = {".".join(map(str, path)): module for path, module in nnx.iter_modules(source)}
    cells = {name: module for name, module in modules.items() if hasattr(module, "activation_fn")}
    for name, cell in cells.items():
        _check_functions(name, cell)
    return nnx.to_pure_dict(nnx.state(source, nnx.Param)), cells


def _check_functions(name: str, cell: Any) -> None:
    is_sigmoid = getattr(cell, "gate_fn", jax.nn.sigmoid) is jax.nn.sigmoid
    is_known = _elman(cell) is not None if not hasattr(cell, "gate_fn") else _is_tanh(cell)
    if not is_sigmoid or not is_known or getattr(cell, "residual", False):
        raise FormatError(
            f"{name or 'the cell'} must have gate_fn sigmoid, activation_fn tanh (a SimpleCell: or relu) and no "
            f"residual, got {type(cell).__name__} with others"
        )


def _elman(cell: Any) -> Cell | None:
    found = rnn_of(cell.activation_fn)
    return found if found in (rnn, rnn_relu) else None


def _is_tanh(cell: Any) -> bool:
    return _elman(cell) == rnn


def _parts(name: str, tree: Any, nonlinearity: str | None, known: dict[str, Any]) -> Parts:
    if not isinstance(tree, Mapping):
        raise FormatError(f"{name or 'source'} must be of a cell, Linear or Embed, got {shown(tree)}")
    names = set(map(str, tree))
    if names & _FUSED and names <= _FUSED:
        _check_names(name, names, _FUSED)
        return {name: _fused(name, tree, nonlinearity, known)}
    if names <= {*_INPUT, *_HIDDEN} and len(names) > 1:
        _check_names(name, names, {*_INPUT, *_HIDDEN})
        return {name: (lstm, _apart(name, tree))}
    found = linear_or_embedding(name, tree)
    if found is not None:
        return {name: found}
    parts: Parts = {}
    for key, below in tree.items():
        parts |= _parts(joined(name, str(key)), below, nonlinearity, known)
    return parts


def _check_names(name: str, names: set[str], expected: set[str]) -> None:
    if missing := expected - names:
        raise FormatError(f"{name or 'the cell'} has no {listed(sorted(missing))}, expected {listed(sorted(expected))}")


def _apart(name: str, tree: Mapping[str, Any]) -> Tensors:
    inputs = [of_dense(joined(name, key), tree[key], has_bias=False)[0] for key in _INPUT]
    hidden = [of_dense(joined(name, key), tree[key], has_bias=True) for key in _HIDDEN]
    bias_hh = np.concatenate([bias for _, bias in hidden if bias is not None])
    weights = {"weight_ih": np.concatenate(inputs), "weight_hh": np.concatenate([weight for weight, _ in hidden])}
    return jax_tensors(name, weights | {"bias_ih": np.zeros_like(bias_hh), "bias_hh": bias_hh})


def _fused(name: str, tree: Mapping[str, Any], nonlinearity: str | None, known: dict[str, Any]) -> tuple[Cell, Tensors]:
    weight_hh, bias_hh = of_dense(joined(name, "dense_h"), tree["dense_h"], has_bias=None)
    blocks, rest = divmod(weight_hh.shape[0], max(weight_hh.shape[1], 1))
    if rest or blocks not in (1, 3, 4):
        shape = weight_hh.shape[::-1]
        raise FormatError(f"{joined(name, 'dense_h')} must be (H, H), (H, 3*H) or (H, 4*H), got the shape {shape}")
    is_lstm = blocks == 4
    weight_ih, bias_ih = of_dense(joined(name, "dense_i"), tree["dense_i"], has_bias=not is_lstm)
    if (bias_hh is not None) != is_lstm:
        raise FormatError(f"{joined(name, 'dense_h')} must have a bias in an LSTM alone, got {blocks} blocks of rows")
    zeros = np.zeros_like(bias_hh if bias_ih is None else bias_ih)
    biases = {"bias_ih": zeros if bias_ih is None else bias_ih, "bias_hh": zeros if bias_hh is None else bias_hh}
    tensors = jax_tensors(name, {"weight_ih": weight_ih, "weight_hh": weight_hh} | biases)
    if blocks == 1:
        return (rnn_of(known[name].activation_fn) if name in known else elman(name, nonlinearity)), tensors
    return lstm if is_lstm else gru, tensors


def _tree(name: str, layer: Layer, tensors: Tensors, optimized: bool) -> dict[str, Any]:
    if isinstance(layer, Linear | Embedding):
        return tree_of_layer(name, layer, tensors)
    assert isinstance(layer, Cell)
    check_in_flax(name, layer, tensors)
    if layer not in (rnn, rnn_relu, lstm, gru):
        refuse(name, layer, "flax.nnx", "it has SimpleCell, GRUCell and LSTMCell")
    if layer == gru and gates(layer, tensors, "bias_hh")[2].any():
        refuse(name, layer, "flax.nnx", "its GRUCell has no bias b_hn beside W_hn, and this one is not zero")
    biases, weights = flax_biases(layer, tensors), {side: tensors[f"weight_{side}h"] for side in "ih"}
    if layer != lstm or optimized:
        with_bias = "h" if layer == lstm else "i"
        return {
            f"dense_{side}": dense(name, weights[side], np.concatenate(biases[side]) if side == with_bias else None)
            for side in "ih"
        }
    inputs = zip(_INPUT, gates(layer, tensors, "weight_ih"), strict=True)
    hidden = zip(_HIDDEN, gates(layer, tensors, "weight_hh"), biases["h"], strict=True)
    return {key: dense(name, a, None) for key, a in inputs} | {key: dense(name, a, bias) for key, a, bias in hidden}
