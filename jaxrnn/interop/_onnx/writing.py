"""Networks as ONNX models: a node for each layer, and what turns the output of one into the input of the next."""

from typing import Any

import numpy as np

from ..._core.cell import Cell
from ..._core.checks import check_bool, check_int
from .._arrays import FormatError, required
from .._gates import refuse
from .._models import Layer, Network, Parts, Spec, Tensors, joined, parts_of
from .._networks import split_parts
from .cells import LIBRARY
from .operators import INPUTS, tensors_for

_OLDEST, _NEWEST = 14, 22  # opsets of which the operators' definitions are known here
_BYTES = 2**31  # what protobuf takes
_TRAITS = {cell: traits for traits, cell in LIBRARY.items()}


def to_onnx(
    spec: Spec, params: Any, *, opset: int = _NEWEST, initial_states: bool = False, lengths: bool = False
) -> Any:
    """A network, or a cell over a sequence, as an ONNX model of the operators RNN, LSTM and GRU, in float32.

    The graph takes what `apply` takes and gives what it gives, under the same names: x (T, N, I), or (N, T, I) of a
    network with batch_first, and output, h_n and, of an LSTM, c_n. T and N are not fixed. A cell is a network of one
    layer. The nodes are called l0, l1, ...: `to_layers` makes the network again of what `from_onnx` reads. There is no
    dropout in the graph.

    Args:
      spec: `jr.RNN`, `jr.LSTM` or `jr.GRU`, or one of the cells `jr.rnn`, `jr.rnn_relu`, `jr.lstm`, `jr.lstm_peephole`,
        `jr.gru`, `jr.gru_reset_before`.
      params: of the layer, in float32.
      opset: of ONNX, from 14 to 22.
      initial_states: whether the graph takes h_0, and c_0 of an LSTM, (num_layers*directions, N, H), too.
      lengths: whether it takes lengths, (N,) of int32, too, from 1 to T.

    Returns:
      An onnx.ModelProto, for `onnx.save` or, by its `SerializeToString()`, for onnxruntime.

    Raises:
      FormatError: params do not fit the spec, are not float32 or too many for one file; the LSTM has a projection; the
        spec is a dict of layers, a Linear or an Embedding.
      ValueError: opset is not one of those.
      TypeError: an argument is of the wrong type.
      ImportError: onnx is not installed.

    >>> import jax, jaxrnn as jr
    >>> from jaxrnn import interop
    >>> net = jr.GRU(100, 20)
    >>> model = interop.to_onnx(net, net.init(jax.random.key(0)))                   # doctest: +SKIP
    >>> onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})         # doctest: +SKIP
    """
    check_int("opset", opset, minimum=_OLDEST)
    if opset > _NEWEST:
        raise ValueError(f"opset must be at most {_NEWEST}, got {opset}")
    check_bool("initial_states", initial_states)
    check_bool("lengths", lengths)
    levels = _levels(spec, parts_of(spec, params))
    graph = _Graph(levels, is_batch_first=isinstance(spec, Network) and spec.batch_first)
    return graph.model(opset, initial_states, lengths)


def _levels(spec: Spec, parts: Parts) -> list[tuple[Cell, list[Tensors]]]:
    """The cell of each layer, and its tensors in each direction."""
    if isinstance(spec, dict):
        raise FormatError("spec must be one layer for ONNX, got a dict of layers, which does not say what feeds what")
    found: list[tuple[Cell, list[Tensors]]] = []
    for name, (layer, tensors) in split_parts(parts).items():
        if not isinstance(layer, Cell) or layer not in _TRAITS:
            refuse(name, layer, "to_onnx", "it writes networks and cells")
        _check_held(name, layer, tensors)
        if name.endswith("_reverse"):
            found[-1][1].append(tensors)
        else:
            found.append((layer, [tensors]))
    if sum(a.nbytes for _, tensors in parts.values() for a in tensors.values()) >= _BYTES:
        raise FormatError(f"params must have fewer than {_BYTES} bytes, as one file of ONNX takes no more, got more")
    return found


def _check_held(name: str, layer: Layer, tensors: Tensors) -> None:
    if "weight_hr" in tensors:
        refuse(name, layer, "ONNX", "it has weight_hr, and the operator LSTM feeds back h without a projection")
    dtype = np.asarray(tensors["weight_ih"]).dtype
    if dtype != np.float32:
        raise FormatError(f"{joined(name, 'weight_ih')} has dtype {dtype}, expected float32: jr.cast makes it so")


class _Graph:
    """A graph as it is put together. Between layers all is (T, N, directions*H)."""

    def __init__(self, levels: list[tuple[Cell, list[Tensors]]], *, is_batch_first: bool) -> None:
        self._helper, self._types = required("onnx.helper"), required("onnx").TensorProto
        self._levels, self._is_batch_first = levels, is_batch_first
        self._traits = _TRAITS[levels[0][0]]
        self._states = ("h", "c") if self._traits.op_type == "LSTM" else ("h",)
        self._directions, (_, self._hidden) = len(levels[0][1]), levels[0][1][0]["weight_hh"].shape
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def model(self, opset: int, initial_states: bool, lengths: bool) -> Any:
        """The whole of it."""
        from ... import __version__

        starts = {f"initial_{state}": self._split(f"{state}_0") for state in self._states} if initial_states else {}
        shared = {"sequence_lens": "lengths"} if lengths else {}
        current = self._swapped("x", "x_by_time")
        for index in range(len(self._levels)):
            current = self._layer(index, current, {key: names[index] for key, names in starts.items()} | shared)
        self._node("Identity", [self._swapped(current, "output_by_batch")], "output")
        for state in self._states:
            self._node("Concat", [f"l{index}_{state}" for index in range(len(self._levels))], f"{state}_n", axis=0)
        graph = self._helper.make_graph(
            self._nodes, "jaxrnn", self._inputs(initial_states, lengths), self._outputs(), self._constants
        )
        imports = [self._helper.make_opsetid("", opset)]
        version = self._helper.find_min_ir_version_for(imports)
        made = {"producer_name": "jaxrnn", "producer_version": __version__, "ir_version": version}
        return self._helper.make_model(graph, opset_imports=imports, **made)

    def _layer(self, index: int, x: str, given: dict[str, str]) -> str:
        """A node and its constants; the name of its output, (T, N, directions*H)."""
        name, tensors = f"l{index}", tensors_for(self._traits.op_type, self._levels[index][1])
        names = {"X": x} | {key: self._constant(f"{name}_{key}", a) for key, a in tensors.items()} | given
        inputs = [names.get(role, "") for role in INPUTS]
        while not inputs[-1]:
            inputs.pop()
        outputs = [f"{name}_Y", *(f"{name}_{state}" for state in self._states)]
        self._nodes.append(
            self._helper.make_node(self._traits.op_type, inputs, outputs, name=name, **self._attributes())
        )
        by_batch = self._node("Transpose", outputs[:1], f"{name}_Y_by_batch", perm=[0, 2, 1, 3])
        shape = self._constant(f"{name}_shape", np.array([0, 0, self._directions * self._hidden], np.int64))
        return self._node("Reshape", [by_batch, shape], f"{name}_output")

    def _attributes(self) -> dict[str, Any]:
        direction = "bidirectional" if self._directions == 2 else "forward"
        attributes = {"hidden_size": self._hidden, "direction": direction}
        if self._traits.op_type == "RNN":
            attributes["activations"] = [f.name for f in self._traits.functions] * self._directions
        if self._traits.op_type == "GRU":
            attributes["linear_before_reset"] = int(self._traits.linear_before_reset)
        return attributes

    def _split(self, name: str) -> list[str]:
        """A state's part for each layer."""
        parts = [f"l{index}_{name}" for index in range(len(self._levels))]
        sizes = self._constant(f"{name}_sizes", np.full(len(parts), self._directions, np.int64))
        self._nodes.append(self._helper.make_node("Split", [name, sizes], parts, axis=0))
        return parts

    def _swapped(self, name: str, new: str) -> str:
        """(N, T, ·) as (T, N, ·), and back, of what has the batch first."""
        return self._node("Transpose", [name], new, perm=[1, 0, 2]) if self._is_batch_first else name

    def _inputs(self, initial_states: bool, lengths: bool) -> list[Any]:
        inputs = [self._sequence("x", self._levels[0][1][0]["weight_ih"].shape[1])]
        if initial_states:
            inputs += [self._state(f"{state}_0") for state in self._states]
        return inputs + ([self._helper.make_tensor_value_info("lengths", self._types.INT32, ["N"])] if lengths else [])

    def _outputs(self) -> list[Any]:
        last = [self._state(f"{state}_n") for state in self._states]
        return [self._sequence("output", self._directions * self._hidden), *last]

    def _sequence(self, name: str, features: int) -> Any:
        shape = ["N", "T", features] if self._is_batch_first else ["T", "N", features]
        return self._helper.make_tensor_value_info(name, self._types.FLOAT, shape)

    def _state(self, name: str) -> Any:
        shape = [len(self._levels) * self._directions, "N", self._hidden]
        return self._helper.make_tensor_value_info(name, self._types.FLOAT, shape)

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(self._helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _constant(self, name: str, array: np.ndarray) -> str:
        self._constants.append(required("onnx.numpy_helper").from_array(array, name))
        return name
