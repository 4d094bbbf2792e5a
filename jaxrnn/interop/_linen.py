"""flax.linen: a kernel for each gate, (I, H), and the biases that its cells have.

SimpleCell:    h′ = tanh(W_i x + b_i + W_h h)
LSTMCell:      the bias stands with W_h alone
GRUCell:       the bias stands with W_i, and b_hn with W_hn
MGUCell:       as the GRUCell; without reset_gate there is no b_hn
ConvLSTMCell:  one kernel (*places, I, 4H) and bias for all gates, i, g, f, o, and a 1 that is added in the forget gate
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._cells.conv_lstm import conv_lstm
from .._cells.gru import gru
from .._cells.gru_reset_before import gru_reset_before
from .._cells.lstm import lstm
from .._cells.mgu import mgu, mgu_without_reset
from .._cells.rnn import rnn, rnn_relu
from .._core.cell import Cell
from .._core.checks import check_choice, shown
from .._layers.embedding import Embedding
from .._layers.linear import Linear
from ._arrays import FormatError, is_array, to_jax
from ._gates import added, added_biases, check_plain, gates, ones_of_forget_gate, refuse, swapped_igfo
from ._models import Layer, Parts, Spec, Tensors, joined, listed, model_of, parts_of
from ._networks import split_parts

_GATES = {lstm: "ifgo", gru: "rzn", mgu: "fn", mgu_without_reset: "fn"}
_HAS_BIAS = {  # as Flax's cells have them
    lstm: {"hi", "hf", "hg", "ho"},
    gru: {"ir", "iz", "in", "hn"},
    mgu: {"if", "in", "hn"},
    mgu_without_reset: {"if", "in"},
    rnn: {"i"},
}


def from_linen(variables: Any, *, nonlinearity: str | None = None) -> tuple[Spec, Any]:
    """The cells, Dense and Embed in variables of flax.linen, as layers of the core.

    LSTMCell and OptimizedLSTMCell become `jr.lstm`, GRUCell `jr.gru`, MGUCell `jr.mgu` or `jr.mgu_without_reset`,
    SimpleCell `jr.rnn` or `jr.rnn_relu`, ConvLSTMCell `jr.conv_lstm` with the number of its axes as input_ndim. Biases
    that Flax's cells lack are zeros; the 1 of ConvLSTMCell's forget gate is added to its bias. Of what variables do not
    show, gate_fn is to be the sigmoid, activation_fn tanh (or relu, for SimpleCell), residual False, padding "SAME".

    Args:
      variables: {"params": ...}, or what is in it.
      nonlinearity: "tanh" or "relu", for SimpleCell.

    Returns:
      (spec, params): a cell and its parameters, or dicts of them, names with dots for those in each other; `join`
      makes networks of cells.

    Raises:
      FormatError: a tensor is missing, or belongs to nothing of these; nonlinearity must be given.
      TypeError: an argument is of the wrong type.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from flax import linen as nn
    >>> from jaxrnn import interop
    >>> layer = nn.RNN(nn.LSTMCell(8))
    >>> variables = layer.init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> spec, params = interop.from_linen(variables)
    >>> spec
    {'cell': jaxrnn.lstm}
    >>> state, ys = jr.unroll(jr.lstm, params["cell"], jnp.ones((5, 2, 3)))
    """
    if not isinstance(variables, Mapping):
        raise TypeError(f"variables must be a dict of parameters, got {shown(variables)}")
    if nonlinearity is not None:
        check_choice("nonlinearity", nonlinearity, ("tanh", "relu"))
    try:
        parts = _parts("", variables.get("params", variables), nonlinearity)
    except RecursionError:
        raise FormatError("variables must hold parameters, got too many dicts in each other") from None
    if not parts:
        raise FormatError("variables must hold parameters of a cell, Dense or Embed, got none")
    return model_of(parts)


def to_linen(spec: Spec, params: Any) -> dict[str, Any]:
    """Variables for flax.linen: of a cell, or of the modules that have the names of spec.

    The two biases of a gate are added up, since Flax has one, and are zeros for bias=False; networks become cells, see
    `split`.

    Raises:
      FormatError: params do not fit the spec; an LSTM has a projection; a GRU resets before the matmul.
      TypeError: an argument is of the wrong type.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from flax import linen as nn
    >>> from jaxrnn import interop
    >>> variables = interop.to_linen(jr.gru, jr.gru.init(jax.random.key(0), 3, 8))
    >>> h, y = nn.GRUCell(8).apply(variables, jnp.ones(8), jnp.ones(3))
    >>> y.shape
    (8,)
    """
    return {"params": nested({name: _tree(name, *part) for name, part in split_parts(parts_of(spec, params)).items()})}


def nested(trees: dict[str, Any]) -> Any:
    """The trees in dicts of dicts, by their names' parts."""
    if list(trees) == [""]:
        return trees[""]
    root: dict[str, Any] = {}
    for name, tree in trees.items():
        *above, last = name.split(".")
        place = root
        for part in above:
            place = place.setdefault(part, {})
        place[last] = tree
    return root


def of_dense(name: str, tree: Any, *, has_bias: bool | None) -> tuple[np.ndarray, np.ndarray | None]:
    """weight (O, I) and bias of a kernel and its bias; None for one that may have one."""
    expected = {"kernel"} if has_bias is False else {"kernel", "bias"}
    names = set(tree) if isinstance(tree, Mapping) else set()
    missing = {"kernel"} - names if has_bias is None else expected - names
    if missing or names - expected:
        wrong = f"has no {listed(sorted(missing))}" if missing else f"has {listed(sorted(map(str, names - expected)))}"
        raise FormatError(f"{name} {wrong}, expected {listed(sorted(expected))}")
    kernel, bias = (_array(joined(name, key), tree[key]) if key in tree else None for key in ("kernel", "bias"))
    if kernel is None or kernel.ndim != 2 or (bias is not None and bias.shape != kernel.shape[1:]):
        shapes = [None if a is None else a.shape for a in (kernel, bias)]
        raise FormatError(f"{name} must have a kernel (I, O) and a bias (O,), got the shapes {shapes}")
    return kernel.T, bias


def dense(name: str, weight: Any, bias: Any) -> dict[str, Any]:
    """The inverse."""
    tree = {"kernel": to_jax(name, np.asarray(weight).T)}
    return tree if bias is None else tree | {"bias": to_jax(name, np.asarray(bias))}


def linear_or_embedding(name: str, tree: Mapping[str, Any]) -> tuple[Layer, Tensors] | None:
    """Dense or Embed, if the tree is one of them."""
    if "kernel" in tree:
        weight, bias = of_dense(name, tree, has_bias=None)
        tensors = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        return Linear(weight.shape[1], weight.shape[0], bias is not None), jax_tensors(name, tensors)
    if set(tree) == {"embedding"}:
        table = _array(joined(name, "embedding"), tree["embedding"])
        if table.ndim != 2:
            raise FormatError(f"{joined(name, 'embedding')} must be (V, D), got the shape {table.shape}")
        return Embedding(*table.shape), jax_tensors(name, {"weight": table})
    return None


def tree_of_layer(name: str, layer: Linear | Embedding, tensors: Tensors) -> dict[str, Any]:
    """The inverse."""
    if isinstance(layer, Embedding):
        return {"embedding": to_jax(name, np.asarray(tensors["weight"]))}
    return dense(name, tensors["weight"], tensors.get("bias"))


def jax_tensors(name: str, tensors: dict[str, np.ndarray]) -> Tensors:
    """Arrays of JAX of those of NumPy."""
    return {key: to_jax(joined(name, key), a) for key, a in tensors.items()}


def elman(name: str, nonlinearity: str | None) -> Cell:
    """`jr.rnn` or `jr.rnn_relu`, by what was given."""
    if nonlinearity is None:
        raise FormatError(
            f'nonlinearity must be given for {name or "the cell"}, "tanh" or "relu": tensors do not say it, got None'
        )
    return rnn if nonlinearity == "tanh" else rnn_relu


def _array(name: str, leaf: Any) -> np.ndarray:
    leaf = leaf.unbox() if hasattr(leaf, "unbox") else leaf  # of what carries names of axes
    if not is_array(leaf):
        raise FormatError(f"{name} must be an array, got {shown(leaf)}")
    return np.asarray(leaf)


def _parts(name: str, tree: Any, nonlinearity: str | None) -> Parts:
    if not isinstance(tree, Mapping):
        raise FormatError(f"{name or 'variables'} must be of a cell, Dense or Embed, got {shown(tree)}")
    if any(str(key).startswith("weight_ih") for key in tree):
        raise FormatError(
            f"{name or 'variables'} must be of Flax's own modules, got those of jaxrnn.linen: they are the core's, as "
            "jr.LSTMParams(**params) for jr.lstm, or as they are for jr.LSTM"
        )
    found = _cell(name, tree, nonlinearity) or _convolution(name, tree) or linear_or_embedding(name, tree)
    if found is not None:
        return {name: found}
    parts: Parts = {}
    for key, below in tree.items():
        parts |= _parts(joined(name, str(key)), below, nonlinearity)
    return parts


def _cell(name: str, tree: Mapping[str, Any], nonlinearity: str | None) -> tuple[Cell, Tensors] | None:
    """The cell whose names these are; of two names on, one that lacks some is a damaged one."""
    for cell, letters in {rnn: [""], **_GATES}.items():
        names = {side + letter for side in "ih" for letter in letters}
        if set(tree) <= names and len(tree) > 1:
            if missing := names - set(tree):
                raise FormatError(
                    f"{name or 'the cell'} has no {listed(sorted(missing))}, expected {listed(sorted(names))}"
                )
            if cell == mgu and not (isinstance(tree["hn"], Mapping) and "bias" in tree["hn"]):
                cell = mgu_without_reset
            tensors = _tensors(name, tree, cell, letters)
            return elman(name, nonlinearity) if cell == rnn else cell, tensors
    return None


def _convolution(name: str, tree: Mapping[str, Any]) -> tuple[Cell, Tensors] | None:
    """A ConvLSTMCell, if the tree is one."""
    if set(tree) != {"ih", "hh"}:
        return None
    (weight_ih, bias_ih), (weight_hh, bias_hh) = (_of_conv(joined(name, key), tree[key]) for key in ("ih", "hh"))
    if weight_ih.shape[2:] != weight_hh.shape[2:] or weight_ih.shape[0] != weight_hh.shape[0] or weight_hh.ndim > 5:
        raise FormatError(
            f"{name or 'the cell'} must have kernels of the same one to three sizes and as many gates in ih and hh, "
            f"got {weight_ih.shape} and {weight_hh.shape} in torch's order"
        )
    tensors = {"weight_ih": weight_ih, "weight_hh": weight_hh}
    tensors |= {"bias_ih": bias_ih + ones_of_forget_gate(bias_ih), "bias_hh": bias_hh}
    return conv_lstm._replace(input_ndim=weight_ih.ndim - 1), jax_tensors(name, tensors)


def _of_conv(name: str, tree: Any) -> tuple[np.ndarray, np.ndarray]:
    """weight (4H, I, *places) and bias (4H,), zeros if there is none, gates i, f, g, o."""
    arrays = {key: _array(joined(name, key), tree[key]) for key in tree} if isinstance(tree, Mapping) else {}
    kernel, bias = arrays.get("kernel"), arrays.get("bias")
    if arrays.keys() - {"kernel", "bias"} or kernel is None or kernel.ndim < 3 or kernel.shape[-1] % 4:
        raise FormatError(f"{name} must have a kernel (*places, I, 4H) and a bias (4H,), got {shown(tree)}")
    bias = np.zeros(kernel.shape[-1], kernel.dtype) if bias is None else bias
    if bias.shape != kernel.shape[-1:]:
        raise FormatError(f"{name} must have a bias of shape {kernel.shape[-1:]}, got {bias.shape}")
    return swapped_igfo(np.moveaxis(kernel, (-1, -2), (0, 1))), swapped_igfo(bias)


def _conv(name: str, tensors: Tensors, side: str) -> dict[str, Any]:
    """The inverse of `_of_conv`."""
    bias = np.concatenate(gates(conv_lstm, tensors, f"bias_{side}"))
    bias = bias - ones_of_forget_gate(bias) if side == "ih" else bias
    kernel = np.moveaxis(swapped_igfo(np.asarray(tensors[f"weight_{side}"])), (0, 1), (-1, -2))
    return {"kernel": to_jax(name, kernel), "bias": to_jax(name, swapped_igfo(bias))}


def _tensors(name: str, tree: Mapping[str, Any], cell: Cell, letters: Any) -> Tensors:
    found: dict[str, list[np.ndarray]] = {"weight_ih": [], "weight_hh": [], "bias_ih": [], "bias_hh": []}
    for side in "ih":
        for letter in letters:
            key = side + letter
            weight, bias = of_dense(joined(name, key), tree[key], has_bias=key in _HAS_BIAS[cell])
            found[f"weight_{side}h"].append(weight)
            found[f"bias_{side}h"].append(np.zeros(weight.shape[0], weight.dtype) if bias is None else bias)
    _check_alike(name, found)
    return jax_tensors(name, {key: np.concatenate(blocks) for key, blocks in found.items()})


def _check_alike(name: str, found: dict[str, list[np.ndarray]]) -> None:
    for key, blocks in found.items():
        alike = {(a.shape, a.dtype.name) for a in blocks}
        if len(alike) > 1:
            raise FormatError(
                f"{name or 'the cell'} must have gates of one shape and dtype in {key}, got {sorted(alike)}"
            )


def _tree(name: str, layer: Layer, tensors: Tensors) -> dict[str, Any]:
    if isinstance(layer, Linear | Embedding):
        return tree_of_layer(name, layer, tensors)
    assert isinstance(layer, Cell)
    check_in_flax(name, layer, tensors)
    if layer.step == conv_lstm.step:
        return {side: _conv(name, tensors, side) for side in ("ih", "hh")}
    cell = rnn if layer == rnn_relu else layer
    letters = _GATES.get(cell, [""])
    biases = flax_biases(layer, tensors)
    weights = {side: gates(layer, tensors, f"weight_{side}h") for side in "ih"}
    return {
        side + letter: dense(
            name, weights[side][index], biases[side][index] if side + letter in _HAS_BIAS[cell] else None
        )
        for side in "ih"
        for index, letter in enumerate(letters)
    }


def check_in_flax(name: str, layer: Cell, tensors: Tensors) -> None:
    """Neither package of Flax has a reset before the matmul, a projection or peepholes."""
    if layer == gru_reset_before:
        refuse(name, layer, "Flax", "its GRUCell resets after the matmul")
    check_plain(name, tensors, "Flax")


def flax_biases(layer: Cell, tensors: Tensors) -> dict[str, list[np.ndarray]]:
    """The biases beside W_i and W_h, gate by gate, where Flax has one of each."""
    if layer not in (gru, mgu):
        return dict.fromkeys("ih", added_biases(layer, tensors))
    bias_ih, bias_hh = gates(layer, tensors, "bias_ih"), gates(layer, tensors, "bias_hh")
    return {"i": [*map(added, bias_ih[:-1], bias_hh[:-1]), bias_ih[-1]], "h": bias_hh}
