"""Haiku: kernels (I, O) under the names of modules.

VanillaRNN:  h′ = max(0, W_i x + b_i + W_h h + b_h)
LSTM:        one kernel (I+H, 4H) for x and h, gates i, g, f, o, and f = σ(· + 1)
GRU:         gates z, r, a, reset before the matmul, h′ = (1 − z) ⊙ h + z ⊙ a: the update gate is 1 − z, so that the
             signs of its tensors turn
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._cells.gru_reset_before import gru_reset_before
from .._cells.lstm import lstm
from .._cells.rnn import rnn_relu
from .._core.cell import Cell
from .._core.checks import shown
from .._layers.embedding import Embedding
from .._layers.linear import Linear
from ._arrays import FormatError, is_array, to_jax
from ._gates import added, added_biases, check_plain, gates, ones_of_forget_gate, refuse, swapped_igfo
from ._linen import jax_tensors
from ._models import Layer, Parts, Spec, Tensors, model_of, name_of, parts_of
from ._networks import split_parts

_NAMES = {
    "lstm": "lstm",
    "rnn_relu": "vanilla_rnn",
    "gru_reset_before": "gru",
    "Linear": "linear",
    "Embedding": "embed",
}
_CELL = re.compile(r"(?:.*/)?(lstm|vanilla_rnn)(?:_\d+)?")
_KINDS = {"lstm": lstm, "vanilla_rnn": rnn_relu}


def from_haiku(params: Any, *, cells: Mapping[str, Cell] | None = None) -> tuple[Spec, Any]:
    """The cores, Linear and Embed in parameters of Haiku, as layers of the core.

    LSTM becomes `jr.lstm`, VanillaRNN `jr.rnn_relu`, GRU `jr.gru_reset_before`. The 1 that Haiku adds in the forget
    gate becomes a bias of its own, so that no number is rounded.

    Args:
      params: from a transformed function's `init`.
      cells: `jr.lstm` or `jr.rnn_relu` for each LSTM and VanillaRNN that has a name of its own, as Haiku writes it:
        its parameters are those of a Linear, and only the name tells.

    Returns:
      (spec, params): a cell and its parameters if there is nothing else and its name is Haiku's own, or dicts of them.

    Raises:
      FormatError: a tensor is missing, of a wrong shape, or belongs to nothing of these.
      TypeError: an argument is of the wrong type.

    >>> import jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import interop
    >>> params = {"lstm/linear": {"w": jnp.ones((3 + 8, 32)), "b": jnp.zeros(32)}}
    >>> cell, params = interop.from_haiku(params)
    >>> cell, params.weight_ih.shape
    (jaxrnn.lstm, (32, 3))
    """
    if not isinstance(params, Mapping) or not all(isinstance(tree, Mapping) for tree in params.values()):
        raise TypeError(f"params must be a dict of dicts of arrays, got {shown(params)}")
    kinds = _given(cells)
    arrays = {str(name): {key: _array(f"{name}/{key}", a) for key, a in tree.items()} for name, tree in params.items()}
    parts = _parts(arrays, kinds)
    if not parts:
        raise FormatError("params must hold those of an LSTM, VanillaRNN, GRU, Linear or Embed, got none")
    for name in kinds:
        if name not in parts:
            raise FormatError(f"cells has {name!r}, expected names of cores among {list(parts)}")
    only = next(iter(parts))
    if len(parts) == 1 and only == _NAMES.get(name_of(parts[only][0])):
        parts = {"": parts[only]}
    return model_of(parts)


def to_haiku(spec: Spec, params: Any) -> dict[str, dict[str, Any]]:
    """Parameters for a transformed function of Haiku's: under its own name for a layer, or under those of spec.

    Two biases are added up where Haiku has one, and are zeros for bias=False; networks become cells, see `split`.

    Raises:
      FormatError: params do not fit the spec; Haiku has no such cell: its VanillaRNN is of relu, its LSTM has no
        projection, its GRU resets before the matmul.
      TypeError: an argument is of the wrong type.

    >>> import jax, jaxrnn as jr
    >>> from jaxrnn import interop
    >>> params = interop.to_haiku(jr.lstm, jr.lstm.init(jax.random.key(0), 3, 8))
    >>> params["lstm/linear"]["w"].shape
    (11, 32)
    """
    trees: dict[str, dict[str, Any]] = {}
    for name, (layer, tensors) in split_parts(parts_of(spec, params)).items():
        module = name or _NAMES.get(name_of(layer), name_of(layer))
        trees |= _trees(name, module, layer, tensors)
    return {name: {key: to_jax(f"{name}/{key}", a) for key, a in tree.items()} for name, tree in trees.items()}


def _given(cells: Any) -> Mapping[str, Cell]:
    if not isinstance(cells, Mapping | None):
        raise TypeError(f"cells must be a dict of cells by name, got {shown(cells)}")
    for name, cell in (cells or {}).items():
        if not isinstance(cell, Cell) or cell not in (lstm, rnn_relu):
            raise ValueError(f"cells[{name!r}] must be jr.lstm or jr.rnn_relu, got {shown(cell)}")
    return cells or {}


def _array(name: str, leaf: Any) -> np.ndarray:
    if not is_array(leaf):
        raise FormatError(f"{name} must be an array, got {shown(leaf)}")
    return np.asarray(leaf)


def _parts(arrays: dict[str, Tensors], kinds: Mapping[str, Cell]) -> Parts:
    parts: Parts = {}
    for name, tree in arrays.items():
        owner, _, last = name.rpartition("/")
        match = _CELL.fullmatch(owner)
        cell = kinds.get(owner) or (_KINDS[match[1]] if match else None)
        if cell is None or last not in ("linear", "linear_1"):
            parts[name] = _layer(name, tree)
        elif last == "linear":
            parts[owner] = (lstm, _lstm(name, tree)) if cell == lstm else (rnn_relu, _elman(owner, arrays))
        elif cell == lstm or f"{owner}/linear" not in arrays:
            raise FormatError(f"{owner} must have the module linear of a core, and an LSTM no other, got {name}")
    return parts


def _layer(name: str, tree: Tensors) -> tuple[Layer, Tensors]:
    if set(tree) == {"w_i", "w_h", "b"}:
        return gru_reset_before, _gru(name, tree)
    if set(tree) == {"embeddings"} and tree["embeddings"].ndim == 2:
        return Embedding(*tree["embeddings"].shape), jax_tensors(name, {"weight": tree["embeddings"]})
    if "w" in tree and set(tree) <= {"w", "b"}:
        weight, bias = _of_linear(name, tree)
        tensors = {"weight": weight} | ({} if bias is None else {"bias": bias})
        return Linear(weight.shape[1], weight.shape[0], bias is not None), jax_tensors(name, tensors)
    shapes = ", ".join(f"{key} {a.shape}" for key, a in tree.items())
    raise FormatError(f"cannot tell what {name!r} is, got {shapes}: expected an LSTM, VanillaRNN, GRU, Linear or Embed")


def _of_linear(name: str, tree: Tensors, rows: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """weight (O, I) and bias (O,) or None."""
    w, b = tree.get("w"), tree.get("b")
    if (
        w is None
        or w.ndim != 2
        or (rows is not None and w.shape[1] != rows)
        or (b is not None and b.shape != w.shape[1:])
    ):
        shapes = {key: a.shape for key, a in tree.items()}
        raise FormatError(f"{name} must have w (I, {rows or 'O'}) and b of as many columns, got {shapes}")
    return w.T, b


def _lstm(name: str, tree: Tensors) -> Tensors:
    weight, bias = _of_linear(name, tree)
    size, rest = divmod(weight.shape[0], 4)
    if rest or bias is None or weight.shape[1] <= size:
        raise FormatError(f"{name} must have w (I+H, 4*H) and b (4*H,) of an LSTM, got w {weight.shape[::-1]}")
    inputs = weight.shape[1] - size
    tensors = {"weight_ih": weight[:, :inputs], "weight_hh": weight[:, inputs:], "bias_hh": bias}
    tensors = {key: swapped_igfo(a) for key, a in tensors.items()}
    return jax_tensors(name, tensors | {"bias_ih": ones_of_forget_gate(bias)})


def _elman(owner: str, arrays: dict[str, Tensors]) -> Tensors:
    if f"{owner}/linear_1" not in arrays:
        raise FormatError(f"{owner} has no linear_1, expected linear and linear_1 of a VanillaRNN")
    weight_ih, bias_ih = _of_linear(f"{owner}/linear", arrays[f"{owner}/linear"])
    weight_hh, bias_hh = _of_linear(f"{owner}/linear_1", arrays[f"{owner}/linear_1"], weight_ih.shape[0])
    if bias_ih is None:
        raise FormatError(f"{owner}/linear has no b, expected w and b")
    tensors = {"weight_ih": weight_ih, "weight_hh": weight_hh, "bias_ih": bias_ih}
    return jax_tensors(owner, tensors | {"bias_hh": np.zeros_like(bias_ih) if bias_hh is None else bias_hh})


def _gru(name: str, tree: Tensors) -> Tensors:
    size = tree["b"].shape[0] // 3 if tree["b"].ndim == 1 else 0
    shapes = tree["w_h"].shape, tree["w_i"].shape[1:], tree["b"].shape
    if not size or shapes != ((size, 3 * size), (3 * size,), (3 * size,)):
        found = {key: a.shape for key, a in tree.items()}
        raise FormatError(f"{name} must have w_i (I, 3*H), w_h (H, 3*H) and b (3*H,), got {found}")
    tensors = {"weight_ih": tree["w_i"].T, "weight_hh": tree["w_h"].T, "bias_ih": tree["b"]}
    turned = {key: np.concatenate(_turned(*np.split(a, 3))) for key, a in tensors.items()}
    return jax_tensors(name, turned | {"bias_hh": np.zeros_like(tree["b"])})


def _turned(first: np.ndarray, second: np.ndarray, new: np.ndarray) -> list[np.ndarray]:
    """Gates z, r, a as r, 1 − z, a."""
    return [second, -first, new]


def _turned_back(reset: np.ndarray, update: np.ndarray, new: np.ndarray) -> list[np.ndarray]:
    """The inverse."""
    return [-update, reset, new]


def _trees(name: str, module: str, layer: Layer, tensors: Tensors) -> dict[str, Tensors]:
    arrays = {key: np.asarray(a) for key, a in tensors.items()}
    if isinstance(layer, Embedding):
        return {module: {"embeddings": arrays["weight"]}}
    if isinstance(layer, Linear):
        bias = {"b": arrays["bias"]} if layer.bias else {}
        return {module: {"w": arrays["weight"].T} | bias}
    assert isinstance(layer, Cell)
    check_plain(name, tensors, "Haiku")
    if layer == lstm:
        return {f"{module}/linear": _lstm_tree(tensors)}
    if layer == rnn_relu:
        sides = {"linear": "ih", "linear_1": "hh"}
        return {
            f"{module}/{linear}": {"w": arrays[f"weight_{side}"].T, "b": gates(layer, tensors, f"bias_{side}")[0]}
            for linear, side in sides.items()
        }
    if layer == gru_reset_before:
        sides = {"w_i": gates(layer, tensors, "weight_ih"), "w_h": gates(layer, tensors, "weight_hh")}
        tree = {key: np.concatenate(_turned_back(*blocks)).T for key, blocks in sides.items()}
        return {module: tree | {"b": np.concatenate(_turned_back(*added_biases(layer, tensors)))}}
    refuse(name, layer, "Haiku", "its GRU resets before the matmul, its VanillaRNN is of relu")


def _lstm_tree(tensors: Tensors) -> Tensors:
    bias_ih, bias_hh = (np.concatenate(gates(lstm, tensors, key)) for key in ("bias_ih", "bias_hh"))
    weight = np.concatenate([np.asarray(tensors["weight_ih"]), np.asarray(tensors["weight_hh"])], axis=1)
    return {"w": swapped_igfo(weight).T, "b": swapped_igfo(added(bias_ih - ones_of_forget_gate(bias_ih), bias_hh))}
