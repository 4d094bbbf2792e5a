"""ONNX models of one node with random weights, and onnxruntime to run them."""

import dataclasses
from typing import Any

import numpy as np

STEPS, BATCH, FEATURES, HIDDEN = 6, 3, 4, 5
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
ROLES = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
WEIGHTS = ("W", "R", "B", "P")


@dataclasses.dataclass
class Node:
    """A node: its attributes, and arrays for its inputs by their roles; those of WEIGHTS are constants of the model."""

    op_type: str
    arrays: dict[str, np.ndarray]
    attributes: dict[str, Any]

    @property
    def outputs(self) -> list[str]:
        return ["Y", "Y_h", "Y_c"] if self.op_type == "LSTM" else ["Y", "Y_h"]

    def model(self, opset: int = 22, name: str = "rnn", outputs: tuple[str, ...] | None = None) -> Any:
        """With only these outputs, if some are given."""
        from onnx import TensorProto, helper, numpy_helper

        inputs = [role if role in self.arrays else "" for role in ROLES]
        while not inputs[-1]:
            inputs.pop()
        asked = self.outputs if outputs is None else outputs
        named = [output if output in asked else "" for output in self.outputs]
        node = helper.make_node(self.op_type, inputs, named, name=name, **self.attributes)
        constants = [numpy_helper.from_array(self.arrays[role], role) for role in WEIGHTS if role in self.arrays]
        types = {"sequence_lens": TensorProto.INT32}
        values = [
            helper.make_tensor_value_info(role, types.get(role, TensorProto.FLOAT), a.shape)
            for role, a in self.feeds.items()
        ]
        results = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in asked]
        graph = helper.make_graph([node], "graph", values, results, constants)
        imports = [helper.make_opsetid("", opset)]
        version = helper.find_min_ir_version_for(imports)
        return helper.make_model(graph, opset_imports=imports, ir_version=version)

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        return {role: a for role, a in self.arrays.items() if role not in WEIGHTS}


def drawn(
    op_type: str, *, bias=True, peepholes=False, lengths=None, initial=False, dtype=np.float32, seed=0, **attributes
) -> Node:
    """Weights of N(0, 1/4), x and states of N(0, 1)."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(dtype)  # noqa: E731
    directions, rows = 2 if attributes.get("direction") == "bidirectional" else 1, GATES[op_type] * HIDDEN
    arrays = {
        "X": draw(STEPS, BATCH, FEATURES),
        "W": draw(directions, rows, FEATURES) / 2,
        "R": draw(directions, rows, HIDDEN) / 2,
    }
    if bias:
        arrays["B"] = draw(directions, 2 * rows) / 2
    if peepholes:
        arrays["P"] = draw(directions, 3 * HIDDEN)
    if lengths is not None:
        arrays["sequence_lens"] = np.array(lengths, np.int32)
    if initial:
        arrays |= {role: draw(directions, BATCH, HIDDEN) for role in ("initial_h", "initial_c")[: 1 + (rows > 15)]}
    return Node(op_type, arrays, {"hidden_size": HIDDEN} | attributes)


def run(model: Any, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """All outputs, by onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)
