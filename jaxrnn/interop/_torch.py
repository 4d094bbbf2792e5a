"""torch: modules, state_dicts, and files of them, which are read as tensors alone and never run."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._cells.gru import gru
from .._cells.lstm import lstm
from .._cells.rnn import rnn, rnn_relu
from .._core.cell import Cell
from .._core.checks import check_choice, shown
from .._layers.embedding import Embedding
from .._layers.linear import Linear
from .._layers.networks import GRU, LSTM, RNN
from ._arrays import FLOATING, FormatError, is_array, required, to_jax
from ._gates import refuse
from ._inference import Asked, inferred
from ._models import Layer, Parts, Spec, Tensors, joined, model_of, parts_of, tensors_of
from ._safetensors import file_at, is_safetensors, read_tensors


def from_torch(
    source: Any,
    prefix: str = "",
    *,
    nonlinearity: str | None = None,
    batch_first: bool | None = None,
    dropout: float | None = None,
    kinds: Mapping[str, type] | None = None,
) -> tuple[Spec, Any]:
    """The layers of a torch module, a state_dict or a file, and their parameters, equal to the bit.

    nn.RNN, nn.LSTM and nn.GRU become `jr.RNN`, `jr.LSTM` and `jr.GRU`; nn.RNNCell, nn.LSTMCell and nn.GRUCell the cells
    `jr.rnn` or `jr.rnn_relu`, `jr.lstm` and `jr.gru`; nn.Linear and nn.Embedding `jr.Linear` and `jr.Embedding`.

    Args:
      source: a torch.nn.Module; a state_dict, of tensors or of arrays; or the path of a file, from `torch.save` of a
        state_dict or in safetensors. A file is read with torch.load(weights_only=True): code in it is not run.
      prefix: which part of the model, as "encoder.rnn". Dicts of dicts, as checkpoints are, count as names with dots.
      nonlinearity: "tanh" or "relu", for an RNN or its cell.
      batch_first: whether x is (N, T, I), for networks.
      dropout: of networks; 0 for None.
      kinds: for what has one tensor, weight, whether it is `jr.Embedding` or `jr.Linear`, by name.

    The last four are what tensors do not say. A module says it by itself, there they must not be given.

    Returns:
      (spec, params): the layer and its parameters, or, for a model of several, a dict of layers and one of parameters,
      under the names that torch gives the modules.

    Raises:
      FormatError: a file is damaged, or holds more than tensors; a layer is none of these; shapes do not fit each
        other; more must be asked for; a module computes what the library's layer does not.
      TypeError: an argument is of the wrong type.
      ImportError: torch, or safetensors, is needed and not installed.

    >>> import jax, jax.numpy as jnp, numpy as np, jaxrnn as jr
    >>> from jaxrnn import interop
    >>> shapes = {"rnn.weight_ih_l0": (12, 4), "rnn.weight_hh_l0": (12, 3), "out.weight": (2, 3), "out.bias": (2,)}
    >>> state_dict = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}       # or torch's tensors
    >>> spec, params = interop.from_torch(state_dict, batch_first=False)
    >>> spec["rnn"]
    LSTM(input_size=4, hidden_size=3, num_layers=1, bias=False, batch_first=False, dropout=0.0, bidirectional=False,
         proj_size=0)
    >>> ys, (h_n, c_n) = spec["rnn"].apply(params["rnn"], jnp.ones((5, 4)))
    >>> spec["out"].apply(params["out"], ys).shape
    (5, 2)
    """
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a str, got {shown(prefix)}")
    asked = Asked(nonlinearity, batch_first, dropout, kinds)
    if isinstance(source, str | os.PathLike):
        return model_of(inferred(_selected(_read(file_at(source)), prefix), asked))
    if isinstance(source, Mapping):
        return model_of(inferred(_selected(source, prefix), asked))
    torch = required("torch")
    if not isinstance(source, torch.nn.Module):
        raise TypeError(f"source must be a torch.nn.Module, a state_dict or a path, got {shown(source)}")
    if asked.given():
        raise FormatError(f"{asked.given()[0]} must not be given for a module, which says it, got {shown(source)}")
    return model_of(_of_module(source, prefix))


def to_torch(spec: Spec, params: Any) -> dict[str, Any]:
    """A state_dict for torch, equal to the bit: `module.load_state_dict(to_torch(spec, params))`.

    Args:
      spec: a network, `jr.Linear`, `jr.Embedding`, or one of the cells `jr.rnn`, `jr.rnn_relu`, `jr.lstm`, `jr.gru`; or
        a dict of them under the names of torch's modules.
      params: of the layer, or of each.

    Returns:
      A dict of tensors on the CPU, which share no memory with params.

    Raises:
      FormatError: params do not fit the spec; an LSTM cell has a projection, or torch has no such cell.
      TypeError: an argument is of the wrong type.
      ImportError: torch is not installed.

    >>> import jax, jaxrnn as jr
    >>> from jaxrnn import interop
    >>> net = jr.GRU(100, 20)
    >>> state_dict = interop.to_torch(net, net.init(jax.random.key(0)))         # doctest: +SKIP
    >>> torch.nn.GRU(100, 20).load_state_dict(state_dict)                       # doctest: +SKIP
    <All keys matched successfully>
    """
    parts = parts_of(spec, params)
    for name, (layer, tensors) in parts.items():
        if isinstance(layer, Cell) and "weight_hr" in tensors:
            raise FormatError(
                f"{joined(name, 'weight_hr')} has no place in torch: only nn.LSTM has a projection, got a cell"
            )
        if isinstance(layer, Cell) and layer not in (rnn, rnn_relu, lstm, gru):
            refuse(name, layer, "torch", "it has nn.RNNCell, nn.LSTMCell and nn.GRUCell, which resets after the matmul")
    return {name: _to_tensor(name, array) for name, array in tensors_of(parts).items()}


def _read(path: pathlib.Path) -> Mapping[str, Any]:
    """The tensors of a file, by name."""
    if is_safetensors(path):
        return read_tensors(path)
    torch = required("torch")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged pickle leads to
        raise FormatError(
            f"{path} must be a state_dict saved by torch.save, or safetensors, and is not read: it is damaged, or "
            f"holds more than tensors, as a module does, whose code is not run: save module.state_dict() "
            f"({type(error).__name__})"
        ) from error
    if not isinstance(found, Mapping):
        raise FormatError(f"{path} must be a state_dict, a dict of tensors by name, got {type(found).__name__}")
    return found


def _selected(tree: Mapping[str, Any], prefix: str) -> Tensors:
    """The tensors below the prefix, as arrays, without it."""
    start = f"{prefix.rstrip('.')}." if prefix else ""
    try:
        flat = _flat(tree, "")
    except RecursionError:
        raise FormatError(
            "source must hold tensors, got dicts that are in themselves, or too many in each other"
        ) from None
    chosen = {name.removeprefix(start): value for name, value in flat.items() if name.startswith(start)}
    if start and not chosen:
        raise FormatError(f"prefix must begin a name of {', '.join(list(flat)[:8])}, got {prefix!r}")
    return {name: to_jax(start + name, _to_array(start + name, value)) for name, value in chosen.items()}


def _flat(tree: Mapping[str, Any], above: str) -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        if not isinstance(name, str):
            raise FormatError(f"a state_dict must have names, got {shown(name)} below {above!r}")
        flat |= _flat(value, joined(above, name)) if isinstance(value, Mapping) else {joined(above, name): value}
    return flat


def _of_module(module: Any, prefix: str) -> Parts:
    try:
        module = module.get_submodule(prefix.rstrip("."))
    except AttributeError as error:
        raise FormatError(f"prefix {prefix!r} must name a part of the module, got none: {error}") from None
    parts = {}
    for name, part in module.named_modules(remove_duplicate=False):
        own = dict(part.named_parameters(recurse=False)) | dict(part.named_buffers(recurse=False))
        if own or type(part) in _layers():
            arrays = {tensor: to_jax(tensor, _to_array(joined(name, tensor), value)) for tensor, value in own.items()}
            parts[name] = _layer(name, part), arrays
    if not parts:
        raise FormatError(f"the module must hold tensors, got none in {type(module).__name__}")
    return parts


def _layer(name: str, module: Any) -> Layer:
    make = _layers().get(type(module))
    if make is None:
        whose = repr(name) if name else "the module"
        raise FormatError(
            f"{whose} is a {type(module).__name__}, expected an RNN, LSTM, GRU, one of their cells, a Linear or an "
            "Embedding: a prefix picks a part of a model"
        )
    return make(module)


def _layers() -> dict[type, Any]:
    """How the layer of each class is made from a module."""
    nn = required("torch").nn
    return {
        nn.RNN: lambda module: RNN(*_sizes(module), nonlinearity=module.nonlinearity, **_options(module)),
        nn.GRU: lambda module: GRU(*_sizes(module), **_options(module)),
        nn.LSTM: lambda module: LSTM(*_sizes(module), **_options(module), proj_size=module.proj_size),
        nn.RNNCell: _elman_cell,
        nn.LSTMCell: lambda module: lstm,
        nn.GRUCell: lambda module: gru,
        nn.Linear: lambda module: Linear(module.in_features, module.out_features, module.bias is not None),
        nn.Embedding: _embedding,
    }


def _sizes(module: Any) -> tuple[int, int, int]:
    return module.input_size, module.hidden_size, module.num_layers


def _options(module: Any) -> dict[str, Any]:
    return {name: getattr(module, name) for name in ("bias", "batch_first", "dropout", "bidirectional")}


def _elman_cell(module: Any) -> Cell:
    check_choice("nonlinearity", module.nonlinearity, ("tanh", "relu"))
    return rnn if module.nonlinearity == "tanh" else rnn_relu


def _embedding(module: Any) -> Embedding:
    if module.max_norm is not None:
        raise FormatError(f"an Embedding with max_norm={module.max_norm} is not supported: it changes its weights")
    return Embedding(module.num_embeddings, module.embedding_dim)


def _to_array(name: str, tensor: Any) -> Any:
    """An array with the tensor's bits, in the same memory if it is on the CPU."""
    if is_array(tensor):
        return tensor
    torch = required("torch")
    if not isinstance(tensor, torch.Tensor):
        raise FormatError(f"{name} must be a tensor, got {shown(tensor)}: a prefix picks a part of a checkpoint")
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized:
        kind = "meta" if tensor.is_meta else "quantized" if tensor.is_quantized else tensor.layout
        raise FormatError(f"{name} must be a dense tensor with values, got a {kind} one")
    dtype = FLOATING.get(str(tensor.dtype).removeprefix("torch."))
    if dtype is None:
        raise FormatError(f"{name} has dtype {tensor.dtype}, expected one of {', '.join(FLOATING)}")
    tensor = tensor.detach().cpu().contiguous()
    return tensor.view(torch.int16).numpy().view(dtype) if dtype == jnp.bfloat16 else tensor.numpy()


def _to_tensor(name: str, array: Any) -> Any:
    torch = required("torch")
    copy = np.array(array)
    if copy.dtype not in FLOATING.values():
        raise FormatError(f"{name} has dtype {copy.dtype}, expected one of {', '.join(FLOATING)}")
    return (
        torch.from_numpy(copy.view(np.int16)).view(torch.bfloat16)
        if copy.dtype == jnp.bfloat16
        else torch.from_numpy(copy)
    )
