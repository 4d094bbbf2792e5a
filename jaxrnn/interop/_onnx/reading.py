"""Operators out of a model: its nodes, and the constants that they take."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..._core.checks import shown
from .._arrays import FormatError, is_array, required, to_jax
from .._models import listed
from .._safetensors import file_at
from .operators import INPUTS, OnnxOperator

_OLDEST = 7  # the opset in which the operators have the form that they have today
_SHARED = ["hidden_size", "direction", "activations", "activation_alpha", "activation_beta", "clip", "layout"]
_ATTRIBUTES = {"RNN": _SHARED, "LSTM": [*_SHARED, "input_forget"], "GRU": [*_SHARED, "linear_before_reset"]}
_DOMAINS = ("", "ai.onnx")


def from_onnx(model: Any, node: str = "", *, tensors: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
    """The operators RNN, LSTM and GRU of an ONNX model, and their parameters, with all that the operators can do.

    Args:
      model: an onnx.ModelProto, or the path of a file.
      node: the name of a node; "" for the only one, or for all of several.
      tensors: arrays by name, for weights that are inputs of the graph.

    A node without a name is called by its operator and its place among those, as LSTM_0.

    Returns:
      (operator, params): a `OnnxOperator`, whose `apply(params, X, ...)` is what the node computes, and its parameters;
      of several nodes a dict of each under their names. `to_layers` makes networks and cells of them.

    Raises:
      FormatError: the file is damaged, or has no such node; weights are missing, are computed in the graph, have wrong
        shapes, or lie in a file that is not there; an attribute has a value that ONNX does not know.
      TypeError: an argument is of the wrong type.
      ImportError: onnx is not installed.

    >>> from jaxrnn import interop
    >>> operator, params = interop.from_onnx("model.onnx")                          # doctest: +SKIP
    >>> Y, Y_h = operator.apply(params, jnp.ones((5, 2, 3)))                        # doctest: +SKIP
    """
    if not isinstance(node, str):
        raise TypeError(f"node must be a str, got {shown(node)}")
    if not isinstance(tensors, Mapping | None):
        raise TypeError(f"tensors must be a dict of arrays by name, got {shown(tensors)}")
    source = _Source(*_parsed(model), tensors or {})
    nodes = source.nodes()
    if node and node not in nodes:
        raise FormatError(f"node must be one of {listed(nodes)}, got {node!r}")
    chosen = {node: nodes[node]} if node else nodes
    found = {name: _operator(source, name, value) for name, value in chosen.items()}
    source.check_use()
    if len(found) == 1:
        return next(iter(found.values()))
    return {name: operator for name, (operator, _) in found.items()}, {name: p for name, (_, p) in found.items()}


class _Source:
    """A model, and where its arrays come from."""

    def __init__(self, model: Any, folder: pathlib.Path | None, tensors: Mapping[str, Any]) -> None:
        self.graph, self._folder, self._tensors, self._unused = model.graph, folder, tensors, set(tensors)
        self._constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self._makers = {name: node for node in self.graph.node for name in node.output if name}
        versions = [entry.version for entry in model.opset_import if entry.domain in _DOMAINS]
        if not versions or min(versions) < _OLDEST:
            raise FormatError(f"model must be of opset {_OLDEST} or later, got {versions[0] if versions else 'none'}")

    def nodes(self) -> dict[str, Any]:
        """The recurrent ones, by name."""
        found: dict[str, Any] = {}
        for node in self.graph.node:
            if node.op_type not in _ATTRIBUTES or node.domain not in _DOMAINS:
                continue
            name = node.name or f"{node.op_type}_{sum(other.op_type == node.op_type for other in found.values())}"
            if name in found:
                raise FormatError(f"model must have one node of each name, got two called {name!r}")
            found[name] = node
        if not found:
            kinds = sorted({node.op_type for node in self.graph.node})
            raise FormatError(
                f"model must have a node RNN, LSTM or GRU in its graph, got {listed(kinds[:8]) or 'none'}"
            )
        return found

    def array(self, name: str, where: str) -> Any:
        """What is called so in the graph."""
        if name in self._tensors:
            self._unused.discard(name)
            if not is_array(self._tensors[name]):
                raise TypeError(f"tensors[{name!r}] must be an array, got {shown(self._tensors[name])}")
            return self._tensors[name]
        constant = self.constant(name, where)
        if constant is not None:
            return constant
        if name in self._makers:
            what = f"computed by a node {self._makers[name].op_type} and must be folded into one"
        else:
            is_input = any(value.name == name for value in self.graph.input)
            what = "an input of the graph, which `tensors` may give" if is_input else "nowhere in the model"
        raise FormatError(f"{where} must be a constant of the model, got {name!r}, which is {what}")

    def constant(self, name: str, where: str) -> np.ndarray | None:
        """An initializer, or what a node Constant gives."""
        if name in self._constants:
            return self._read(self._constants[name], where)
        maker = self._makers.get(name)
        if maker is None or maker.op_type != "Constant":
            return None
        return next((self._read(a.t, where) for a in maker.attribute if a.name == "value"), None)

    def check_use(self) -> None:
        """All that was given was asked for."""
        if self._unused:
            raise FormatError(f"tensors must be weights of the nodes, got {listed(sorted(self._unused))} of none")

    def _read(self, tensor: Any, where: str) -> np.ndarray:
        external = required("onnx.external_data_helper")
        is_elsewhere = external.uses_external_data(tensor)
        if is_elsewhere and self._folder is None:
            raise FormatError(f"{where} lies in another file, which onnx.load must read, or from_onnx by a path")
        try:
            if is_elsewhere:
                external.load_external_data_for_tensor(tensor, str(self._folder))
            return required("onnx.numpy_helper").to_array(tensor)
        except Exception as error:  # whatever damaged tensors, and files that are not there, lead to
            raise FormatError(f"{where} cannot be read from the tensor {tensor.name!r}: {error}") from error


def _parsed(model: Any) -> tuple[Any, pathlib.Path | None]:
    """The model, and the folder in which it lies, None if it was given."""
    kind = required("onnx").ModelProto
    if isinstance(model, kind):
        return model, None
    if not isinstance(model, str | os.PathLike):
        raise TypeError(f"model must be an onnx.ModelProto or a path, got {shown(model)}")
    path = file_at(model)
    data = path.read_bytes()
    try:
        return kind.FromString(data), path.parent
    except Exception as error:  # whatever damaged bytes lead to
        raise FormatError(f"{path} must be an ONNX model, got other bytes, or damaged ones: {error}") from error


def _operator(source: _Source, name: str, node: Any) -> tuple[OnnxOperator, dict[str, Any]]:
    """A node, and its parameters."""
    inputs: dict[str, str] = dict(zip(INPUTS, node.input, strict=False))
    for key in ("W", "R"):
        if not inputs.get(key):
            raise FormatError(f"{name} must have the input {key}, got the inputs {list(node.input)}")
    given = {key: source.array(inputs[key], f"{name}: {key}") for key in ("W", "R", "B", "P") if inputs.get(key)}
    attributes: dict[str, Any] = {"hidden_size": given["R"].shape[-1] if given["R"].ndim else 0} | _attributes(
        name, node
    )
    try:
        operator = OnnxOperator(node.op_type, **attributes, peepholes="P" in given)
        return operator, operator.params(**given) | _initial_states(source, name, inputs)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{name}: {error}") from None


def _attributes(name: str, node: Any) -> dict[str, Any]:
    """Those of a node, as Python's values."""
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.name not in _ATTRIBUTES[node.op_type]:
            raise FormatError(f"{name} has the attribute {attribute.name!r}, which {node.op_type} does not have")
        found[attribute.name] = _plain(name, attribute)
    return found


def _plain(name: str, attribute: Any) -> Any:
    try:
        value = required("onnx.helper").get_attribute_value(attribute)
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, str | int | float):
            return value
        return tuple(item.decode() if isinstance(item, bytes) else item for item in value)
    except (AttributeError, TypeError, ValueError) as error:
        raise FormatError(f"{name}: the attribute {attribute.name!r} cannot be read: {error}") from None


def _initial_states(source: _Source, name: str, inputs: dict[str, str]) -> dict[str, Any]:
    """Those that are constants of the model and not zero; what the graph computes is for `apply`."""
    if inputs.get("sequence_lens") and source.constant(inputs["sequence_lens"], f"{name}: sequence_lens") is not None:
        raise FormatError(f"{name} must take sequence_lens from outside, got a constant: lengths are given to `apply`")
    states = {}
    for key in ("initial_h", "initial_c"):
        constant = source.constant(inputs[key], f"{name}: {key}") if inputs.get(key) else None
        if constant is not None and constant.any():
            states[key] = to_jax(f"{name}: {key}", constant)
    return states
