"""ONNX's operators RNN, LSTM and GRU: ONNX's own tests of them, onnxruntime live, derivatives, and what is refused."""

import importlib
import itertools
import os
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn import interop

from ..marks import pairs, slow_but
from .onnx_models import BATCH, FEATURES, HIDDEN, ROLES, STEPS, WEIGHTS, drawn, run

onnx = pytest.importorskip("onnx")


def applied(node, **options):
    """What `from_onnx` makes of the node's model, run on its inputs."""
    operator, params = interop.from_onnx(node.model(**options))
    return operator.apply(params, **{role: jnp.asarray(a) for role, a in node.feeds.items()})


def assert_close(ours, theirs, tolerance=1e-5):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max(initial=0)))


def backend_cases():
    node = importlib.import_module("onnx.backend.test.case.node")
    for module in ("rnn", "gru", "lstm"):
        importlib.import_module(f"onnx.backend.test.case.node.{module}")
    cases = [case for case in node._NodeTestCases if case.model.graph.node[0].op_type in ("RNN", "GRU", "LSTM")]
    return {case.name: case for case in cases}


BACKEND = backend_cases()


def test_all_of_onnx_s_tests_are_here():
    assert len(BACKEND) >= 18


@pytest.mark.parametrize("name", BACKEND)
def test_onnx_s_own(name):
    model, (inputs, outputs) = BACKEND[name].model, BACKEND[name].data_sets[0]
    arrays = dict(zip([value.name for value in model.graph.input], inputs, strict=True))
    node = model.graph.node[0]
    given = {role: arrays[key] for role, key in zip(ROLES, node.input, strict=False) if key}
    tensors = {key: arrays[key] for role, key in zip(ROLES, node.input, strict=False) if role in WEIGHTS and key}
    operator, params = interop.from_onnx(model, tensors=tensors)
    found = operator.apply(params, **{role: a for role, a in given.items() if role not in WEIGHTS})
    named = [a for a, output in zip(found, node.output, strict=False) if output]
    assert_close(named, outputs)


# The attributes that are tried with each other, and the first of each for the first test to be of defaults
ACTIVATIONS = {
    "RNN": ({}, {"activations": ["Relu"]}, {"activations": ["Elu"], "activation_alpha": [0.7]}),
    "GRU": (
        {},
        {"activations": ["HardSigmoid", "ScaledTanh"], "activation_alpha": [0.3, 1.2], "activation_beta": [0.4, 0.8]},
        {"activations": ["Softsign", "LeakyRelu"]},
    ),
    "LSTM": (
        {},
        {"activations": ["Sigmoid", "Softsign", "Relu"]},
        {"activations": ["HardSigmoid", "LeakyRelu", "Affine"], "activation_alpha": [0.3, 0.2, 0.9],
         "activation_beta": [0.6, 0.1]},
    ),
}  # fmt: skip
DIRECTIONS = ("forward", "reverse", "bidirectional")
LENGTHS = (None, (6, 2, 4))
OUTPUTS = (None, ("Y_h",), ("Y",))
FLAGS = {"RNN": (None,), "GRU": ("linear_before_reset",), "LSTM": ("input_forget",)}


def product(op_type):
    """The choices for each argument of `case`."""
    flags = (0,) if op_type == "RNN" else (0, 1)
    peepholes = (False, True) if op_type == "LSTM" else (False,)
    activations = range(len(ACTIVATIONS[op_type]))
    return DIRECTIONS, activations, (None, 0.6), (True, False), peepholes, flags, LENGTHS, (False, True), OUTPUTS


def case(op_type, direction, activation, clip, bias, peepholes, flag, lengths, initial, outputs):
    """The node, and the outputs that it has."""
    directions = 2 if direction == "bidirectional" else 1
    attributes = {key: value * directions for key, value in ACTIVATIONS[op_type][activation].items()}
    attributes |= {} if clip is None else {"clip": clip}
    attributes |= {FLAGS[op_type][0]: flag} if flag else {}
    given = {"bias": bias, "peepholes": peepholes, "lengths": lengths, "initial": initial}
    return drawn(op_type, direction=direction, **given, **attributes), outputs


def check(op_type, values):
    node, outputs = case(op_type, *values)
    found = dict(zip(node.outputs, applied(node, outputs=outputs), strict=True))
    assert_close([found[name] for name in outputs or node.outputs], run(node.model(outputs=outputs), node.feeds))


CHOSEN = [(op_type, values) for op_type in ACTIVATIONS for values in pairs(*product(op_type))]


@pytest.mark.parametrize(("op_type", "values"), CHOSEN, ids=[f"{a}-{i}" for i, (a, _) in enumerate(CHOSEN)])
def test_as_onnxruntime(op_type, values):
    """Any two values of the attributes meet."""
    pytest.importorskip("onnxruntime")
    check(op_type, values)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("op_type", ACTIVATIONS)
def test_every_combination_as_onnxruntime(op_type, direction):
    pytest.importorskip("onnxruntime")
    for values in itertools.product((direction,), *product(op_type)[1:]):
        check(op_type, values)


CONSTANTS = {
    "Affine": ([0.7], [0.1]),
    "Relu": ([], []),
    "LeakyRelu": ([0.2], []),
    "ThresholdedRelu": ([0.3], []),
    "Tanh": ([], []),
    "ScaledTanh": ([1.3], [0.6]),
    "Sigmoid": ([], []),
    "HardSigmoid": ([0.3], [0.4]),
    "Elu": ([0.5], []),
    "Softsign": ([], []),
    "Softplus": ([], []),
}
PLACES = [(name, op_type) for name in CONSTANTS for op_type in ("RNN", "GRU", "LSTM")]


@pytest.mark.parametrize(
    ("name", "op_type"),
    [
        case if (index // 3 + index) % 3 == 0 else pytest.param(*case, marks=pytest.mark.slow)
        for index, case in enumerate(PLACES)
    ],
)
def test_every_activation_in_every_place(name, op_type):
    pytest.importorskip("onnxruntime")
    count = {"RNN": 1, "GRU": 2, "LSTM": 3}[op_type]
    alpha, beta = CONSTANTS[name]
    attributes = {"activations": [name] * count}
    attributes |= {"activation_alpha": alpha * count} if alpha else {}
    attributes |= {"activation_beta": beta * count} if beta else {}
    node = drawn(op_type, **attributes, lengths=(6, 2, 4))
    node.arrays |= {
        role: a / 4 for role, a in node.arrays.items() if role in WEIGHTS
    }  # onnxruntime's Softplus overflows
    assert_close(applied(node), run(node.model(), node.feeds))


def test_the_defaults_of_alpha_and_beta():
    pytest.importorskip("onnxruntime")
    node = drawn("LSTM", activations=["HardSigmoid", "LeakyRelu", "Elu"])
    assert_close(applied(node), run(node.model(), node.feeds))
    assert (
        interop.from_onnx(drawn("RNN", activations=["LeakyRelu"]).model())[0].cells["l0"]
        == (interop.OnnxOperator("RNN", HIDDEN, activations=["leakyrelu"], activation_alpha=[0.01]).cells["l0"])
    )


def test_both_directions_have_activations_of_their_own():
    pytest.importorskip("onnxruntime")
    functions = ["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Elu", "Softsign"]
    node = drawn("LSTM", direction="bidirectional", activations=functions, activation_alpha=[0.3, 0.4])
    assert_close(applied(node), run(node.model(), node.feeds))


@pytest.mark.parametrize("op_type", ["GRU", "LSTM"])
def test_a_sequence_of_length_0(op_type):
    """Of an RNN onnxruntime reads outside of its arrays."""
    pytest.importorskip("onnxruntime")
    node = drawn(op_type, direction="bidirectional", lengths=(0, 6, 3), initial=True)
    assert_close(applied(node), run(node.model(), node.feeds))


@pytest.mark.parametrize("op_type", ["RNN", "GRU", "LSTM"])
def test_layout_1_is_layout_0_with_the_batch_first(op_type):
    """onnxruntime refuses it; ONNX's own tests have it forward, without states."""
    node = drawn(op_type, direction="bidirectional", lengths=(6, 2, 4), initial=True)
    expected = applied(node)
    node.attributes["layout"] = 1
    states = {role: a for role, a in node.arrays.items() if role in ("X", "initial_h", "initial_c")}
    node.arrays |= {role: np.swapaxes(a, 0, 1) for role, a in states.items()}
    y, *last = applied(node)
    assert y.shape == (BATCH, STEPS, 2, HIDDEN)
    assert_close([np.transpose(y, (1, 2, 0, 3)), *(np.swapaxes(a, 0, 1) for a in last)], expected, 0)


LIBRARY = {
    "rnn": (jr.rnn, drawn("RNN")),
    "rnn_relu": (jr.rnn_relu, drawn("RNN", activations=["Relu"])),
    "gru": (jr.gru, drawn("GRU", linear_before_reset=1)),
    "gru_reset_before": (jr.gru_reset_before, drawn("GRU")),
    "lstm": (jr.lstm, drawn("LSTM")),
    "lstm_peephole": (jr.lstm_peephole, drawn("LSTM", peepholes=True)),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_plain_attributes_are_cells_of_the_library(name):
    cell, node = LIBRARY[name]
    operator, params = interop.from_onnx(node.model())
    assert operator.cells == {"l0": cell}
    spec, weights = interop.to_layers(operator, params)
    y, *_ = applied(node)
    if isinstance(spec, jr.Cell):
        assert spec == cell
        _, ys = jr.unroll(spec, weights, jnp.asarray(node.arrays["X"]))
    else:
        ys, _ = spec.apply(weights, jnp.asarray(node.arrays["X"]))
    np.testing.assert_array_equal(ys, y[:, 0])


def test_cells_of_equal_attributes_are_equal():
    make = lambda clip: interop.OnnxOperator("GRU", 4, activations=["Elu", "Tanh"], clip=clip)  # noqa: E731
    for before in (0, 1):
        operator = interop.OnnxOperator("GRU", 4, activations=["Elu", "Tanh"], linear_before_reset=before)
        cell = operator.cells["l0"]
        assert pickle.loads(pickle.dumps(cell)) == cell
        assert hash(pickle.loads(pickle.dumps(operator))) == hash(operator)
    assert make(1.0).cells["l0"] == make(1).cells["l0"] != make(2.0).cells["l0"]
    assert "Elu(1.0), Tanh, clip=1.0" in repr(make(1.0).cells["l0"])
    params = make(1.0).cells["l0"].init(jax.random.key(0), 3, 4)
    assert make(1.0).cells["l0"].step(params, jnp.ones((2, 4)), jnp.ones((2, 3))).shape == (2, 4)


def numpy_lstm(X, W, R, B, P):  # noqa: N803
    """The sum of Y_t cos(t) and of Y_c, with Sigmoid, ScaledTanh(1.25, 0.625) and Tanh, peepholes and coupled gates."""
    sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    h, c, total = np.zeros((BATCH, HIDDEN)), np.zeros((BATCH, HIDDEN)), 0.0
    p_i, p_o, _ = np.split(P[0], 3)
    for t, x in enumerate(X):
        i, o, _, g = np.split(x @ W[0].T + h @ R[0].T + B[0, : 4 * HIDDEN] + B[0, 4 * HIDDEN :], 4, axis=-1)
        i = sigmoid(i + p_i * c)
        c = (1 - i) * c + i * 1.25 * np.tanh(0.625 * g)
        h = sigmoid(o + p_o * c) * np.tanh(c)
        total += np.sum(h) * np.cos(t)
    return total + np.sum(c)


@pytest.mark.usefixtures("x64")
def test_gradients_are_those_of_finite_differences():
    attributes = {
        "activations": ["Sigmoid", "ScaledTanh", "Tanh"],
        "activation_alpha": [1.25],
        "activation_beta": [0.625],
    }
    node = drawn("LSTM", peepholes=True, dtype=np.float64, input_forget=1, **attributes)
    weights = {role: node.arrays[role] for role in WEIGHTS}
    operator, _ = interop.from_onnx(node.model())

    @jax.jit
    def loss(weights, x):
        y, _, c = operator.apply(operator.params(**weights), x)
        return jnp.sum(y * jnp.cos(jnp.arange(STEPS, dtype=float))[:, None, None, None]) + jnp.sum(c)

    x = node.arrays["X"]
    np.testing.assert_allclose(loss(weights, x), numpy_lstm(x, **weights), rtol=1e-12)
    grads = jax.grad(loss)(weights, x)
    rng = np.random.default_rng(1)
    for role, weight in weights.items():
        direction = rng.normal(size=weight.shape)
        one, other = (numpy_lstm(x, **weights | {role: weight + step * direction}) for step in (1e-5, -1e-5))
        np.testing.assert_allclose(np.sum(grads[role] * direction), (one - other) / 2e-5, rtol=1e-7)


def two_nodes():
    """An LSTM that reads a GRU's output, without names."""
    first, second = drawn("GRU", linear_before_reset=1).model(name=""), drawn("LSTM", peepholes=True).model(name="")
    prefixed = onnx.compose.add_prefix(second, "second_", rename_nodes=False)
    first.graph.node.extend(prefixed.graph.node)
    first.graph.initializer.extend(prefixed.graph.initializer)
    return first


def test_several_nodes_by_name(tmp_path):
    onnx.save(two_nodes(), tmp_path / "model.onnx")
    operators, params = interop.from_onnx(tmp_path / "model.onnx")
    assert list(operators) == list(params) == ["GRU_0", "LSTM_0"]
    operator, weights = interop.from_onnx(str(tmp_path / "model.onnx"), "LSTM_0")
    assert operator == operators["LSTM_0"]
    jax.tree.map(np.testing.assert_array_equal, weights, params["LSTM_0"])
    spec, layers = interop.to_layers(operators, params)
    assert spec == {"GRU_0": jr.GRU(FEATURES, HIDDEN), "LSTM_0": jr.lstm_peephole}
    interop.save(tmp_path / "model.safetensors", spec, layers)
    assert interop.load(tmp_path / "model.safetensors")[0] == spec
    with pytest.raises(interop.FormatError, match="node must be one of 'GRU_0', 'LSTM_0', got 'gru'"):
        interop.from_onnx(tmp_path / "model.onnx", "gru")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch speaks of its other exporter, and of the batch that it fixes
def test_what_torch_exports(tmp_path):
    torch = pytest.importorskip("torch")
    module, x = torch.nn.LSTM(FEATURES, HIDDEN, 2, bidirectional=True).eval(), torch.randn(STEPS, BATCH, FEATURES)
    torch.onnx.export(module, (x,), tmp_path / "model.onnx", dynamo=False)
    operators, params = interop.from_onnx(tmp_path / "model.onnx")
    as_layers = lambda tree: {f"l{index}": part for index, part in enumerate(tree.values())}  # noqa: E731
    net, weights = interop.to_layers(as_layers(operators), as_layers(params))
    assert net == jr.LSTM(FEATURES, HIDDEN, 2, bidirectional=True)
    jax.tree.map(np.testing.assert_array_equal, weights, interop.from_torch(module)[1])


def test_cells_in_both_directions():
    node = drawn("GRU", direction="bidirectional", layout=1)
    spec, _ = interop.to_layers(*interop.from_onnx(node.model()))
    assert spec == {"l0": jr.gru_reset_before, "l0_reverse": jr.gru_reset_before}
    node.attributes["linear_before_reset"] = 1
    spec, _ = interop.to_layers(*interop.from_onnx(node.model()))
    assert spec == jr.GRU(FEATURES, HIDDEN, bidirectional=True, batch_first=True)
    spec, _ = interop.to_layers(*interop.from_onnx(drawn("RNN", direction="reverse").model()))
    assert spec == {"l0_reverse": jr.rnn}


def test_constants_of_nodes():
    """Weights may come out of a node Constant; initial states that are constants are kept unless they are zero."""
    node = drawn("LSTM", initial=True)
    expected, model = applied(node), node.model()
    for role in ("W", "initial_h", "initial_c"):
        tensor = onnx.numpy_helper.from_array(node.arrays[role])
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [role], value=tensor))
    for values in (model.graph.initializer, model.graph.input):
        for value in [value for value in values if value.name in ("W", "initial_h", "initial_c")]:
            values.remove(value)
    operator, params = interop.from_onnx(model)
    assert_close(operator.apply(params, node.arrays["X"]), expected, 0)
    with pytest.raises(interop.FormatError, match="operator must have no constant initial_h"):
        interop.to_layers(operator, params)
    model.graph.node[0].attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(np.zeros((1, BATCH, HIDDEN), np.float32)))
    assert "initial_c" not in interop.from_onnx(model)[1]


@pytest.mark.parametrize("opset", [7, 14, 22])
def test_opsets(opset):
    node = drawn("LSTM")
    assert_close(applied(node, opset=opset), applied(node), 0)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_dtypes(dtype):
    with jax.enable_x64(dtype == "float64"):
        node = drawn("GRU", dtype=dtype)
        y, _ = applied(node)
        assert y.dtype == dtype
    if dtype == "float64":
        with pytest.raises(interop.FormatError, match="rnn: W has dtype float64, and JAX keeps float32"):
            interop.from_onnx(node.model())


def test_external_data(tmp_path):
    path, node = tmp_path / "model.onnx", drawn("GRU")
    onnx.save(node.model(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    operator, params = interop.from_onnx(path)
    assert_close(operator.apply(params, node.arrays["X"]), applied(node), 0)
    with pytest.raises(interop.FormatError, match="rnn: W lies in another file"):
        interop.from_onnx(onnx.load(path, load_external_data=False))
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(interop.FormatError, match="rnn: W cannot be read from the tensor 'W'"):
        interop.from_onnx(path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(interop.FormatError, match="rnn: W cannot be read from the tensor 'W'"):
        interop.from_onnx(path)


def changed(attribute=None, value=None, op_type="LSTM", drop=(), **arrays):
    """The model of a node with another attribute, other arrays, or fewer constants."""
    node = drawn(op_type)
    node.arrays |= arrays
    if attribute:
        node.attributes[attribute] = value
    model = node.model()
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name in drop]:
        model.graph.initializer.remove(tensor)
    return model


def edited(edit, op_type="LSTM"):
    model = drawn(op_type).model()
    edit(model)
    return model


def computed(model):
    model.graph.node.insert(0, onnx.helper.make_node("Neg", ["X"], ["W"]))
    model.graph.initializer.remove(next(tensor for tensor in model.graph.initializer if tensor.name == "W"))


def constant_lengths(model):
    model.graph.node[0].input.append("B")
    model.graph.node[0].input[4:] = ["lengths"]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([6, 2, 4], np.int32), "lengths"))


def short(a, axis):
    return np.take(a, range(a.shape[axis] - 1), axis)


WRONG = drawn("LSTM", peepholes=True).arrays
REFUSED = {
    "activation": (lambda: changed("activations", ["Sigmoid", "Gelu", "Tanh"]), "rnn: activations must be .* 'Gelu'"),
    "too few activations": (lambda: changed("activations", ["Sigmoid"]), "rnn: activations must be 3 of LSTM"),
    "too many alphas": (lambda: changed("activation_alpha", [1.0]), "activation_alpha must have at most 0"),
    "alpha of an RNN": (
        lambda: changed("activation_alpha", [1.0, 2.0], "RNN"),
        "activation_alpha must have one for each of Tanh, got 2",
    ),
    "no default": (
        lambda: changed("activations", ["Affine", "Tanh"], "GRU"),
        "activation_alpha must be given for Affine",
    ),
    "direction": (lambda: changed("direction", "backward"), "rnn: direction must be .* got 'backward'"),
    "layout": (lambda: changed("layout", 2), "rnn: layout must be 0 or 1, got 2"),
    "clip": (lambda: changed("clip", -1.0), r"rnn: clip must be positive, got -1\.0"),
    "type": (lambda: changed("clip", "x"), "rnn: clip must be a number, got 'x'"),
    "tensor": (lambda: changed("clip", onnx.numpy_helper.from_array(np.ones(2))), "rnn: the attribute 'clip' cannot"),
    "attribute": (lambda: changed("output_sequence", 1), "rnn has the attribute 'output_sequence', which LSTM"),
    "of another": (lambda: changed("linear_before_reset", 1), "which LSTM does not have"),
    "hidden_size": (
        lambda: changed("hidden_size", 4),
        r"rnn: W has shape \(1, 20, 4\), expected \(1, 16, input_size\)",
    ),
    "huge hidden_size": (lambda: changed("hidden_size", 2**60), "rnn: W has shape"),
    "W": (lambda: changed(W=short(WRONG["W"], 1)), r"rnn: W has shape \(1, 19, 4\)"),
    "axes of W": (lambda: changed(W=WRONG["W"][0]), r"rnn: W has shape \(20, 4\)"),
    "R": (lambda: changed(R=short(WRONG["R"], 1)), r"rnn: R has shape \(1, 19, 5\)"),
    "no axes of R": (lambda: changed(R=np.float32(1).reshape(())), r"rnn: R has shape \(\), expected \(1, 20, 5\)"),
    "B": (lambda: changed(B=short(WRONG["B"], 1)), r"rnn: B has shape \(1, 39\), expected \(1, 40\)"),
    "P": (lambda: changed(P=short(WRONG["P"], 1)), r"rnn: P has shape \(1, 14\), expected \(1, 15\)"),
    "directions": (lambda: changed("direction", "bidirectional"), r"rnn: W has shape \(1, 20, 4\), expected \(2, 20"),
    "mixed": (lambda: changed(R=WRONG["R"].astype(np.float16)), "rnn: R has dtype float16, expected float32"),
    "integers": (
        lambda: changed(W=WRONG["W"].astype(np.int32), R=WRONG["R"].astype(np.int32), B=WRONG["B"].astype(np.int32)),
        "rnn: W has dtype int32",
    ),
    "missing": (lambda: changed(drop=["W"]), "rnn: W must be a constant of the model, got 'W', which is nowhere"),
    "computed": (lambda: edited(computed), "rnn: W must be a constant of the model, .* computed by a node Neg"),
    "no R": (lambda: edited(lambda m: m.graph.node[0].input.__delitem__(slice(2, 4))), "rnn must have the input R"),
    "no W": (lambda: edited(lambda m: m.graph.node[0].input.__setitem__(1, "")), "rnn must have the input W"),
    "lengths": (lambda: edited(constant_lengths), "rnn must take sequence_lens from outside"),
    "opset": (lambda: edited(lambda m: setattr(m.opset_import[0], "version", 6)), "must be of opset 7 or later, got 6"),
    "no opset": (lambda: edited(lambda m: m.ClearField("opset_import")), "must be of opset 7 or later, got none"),
    "no node": (
        lambda: edited(lambda m: setattr(m.graph.node[0], "op_type", "Conv")),
        "RNN, LSTM or GRU .* got 'Conv'",
    ),
    "other domain": (lambda: edited(lambda m: setattr(m.graph.node[0], "domain", "com.x")), "must have a node RNN"),
    "two of a name": (lambda: edited(lambda m: m.graph.node.append(m.graph.node[0])), "got two called 'rnn'"),
    "empty": (onnx.ModelProto, "model must be of opset"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(make, message):
    with pytest.raises(interop.FormatError, match=message) as caught:
        interop.from_onnx(make())
    assert "\n" not in str(caught.value)


def test_tensors_are_inputs_of_the_graph():
    model = changed(drop=["W"])
    model.graph.input.append(onnx.helper.make_tensor_value_info("W", onnx.TensorProto.FLOAT, WRONG["W"].shape))
    with pytest.raises(interop.FormatError, match="'W', which is an input of the graph, which `tensors` may give"):
        interop.from_onnx(model)
    operator, _ = interop.from_onnx(model, tensors={"W": WRONG["W"]})
    assert operator.hidden_size == HIDDEN
    with pytest.raises(interop.FormatError, match="tensors must be weights of the nodes, got 'x' of none"):
        interop.from_onnx(model, tensors={"W": WRONG["W"], "x": WRONG["W"]})
    with pytest.raises(TypeError, match=r"tensors\['W'\] must be an array, got 3"):
        interop.from_onnx(model, tensors={"W": 3})


OWN = {
    "activations": {"activations": ["Elu"]},
    "clip": {"clip": 1.0},
}


@pytest.mark.parametrize("name", OWN)
def test_cells_that_the_library_does_not_have_are_no_layers(name):
    operator, params = interop.from_onnx(drawn("RNN", **OWN[name]).model())
    with pytest.raises(interop.FormatError, match=r"operator must be of a cell that the library has, got .*RNN: "):
        interop.to_layers(operator, params)


def test_layers_of_one_network_fit_each_other():
    """Names that end in l0, l1, ... say that operators are those."""
    plain, other = (drawn("RNN", layout=layout).model() for layout in (0, 1))
    for name, model, message in (
        ("rnn.l1", other, "rnn.l1 must have layout=0 as the layer below it, got 1"),
        ("rnn.l0", plain, "rnn.l0 must have a name of its own"),
        ("rnn.l1", plain, "rnn: weight_ih_l1 has shape|weight_ih_l1 has shape"),
    ):
        found = {"rnn": interop.from_onnx(plain), name: interop.from_onnx(model)}
        with pytest.raises(interop.FormatError, match=message):
            interop.to_layers(*({key: pair[index] for key, pair in found.items()} for index in (0, 1)))


@pytest.mark.parametrize("seed", slow_but([0], range(4)))
def test_damaged_files_raise_one_error(seed, tmp_path):
    """Cut anywhere, and with bytes changed anywhere, they give weights of the right shapes or a FormatError."""
    path, random = tmp_path / "model.onnx", np.random.default_rng(seed)
    node = drawn("LSTM", peepholes=True, activations=["HardSigmoid", "Tanh", "Softsign"], clip=2.0)
    whole, refused = node.model().SerializeToString(), 0
    for _ in range(150):
        data = bytearray(whole)
        if random.random() < 0.3:
            data = data[: random.integers(len(data))]
        else:  # the names, shapes and attributes, which few of all bytes are
            parts = [random.integers(len(data)), random.integers(150), len(data) - 1 - random.integers(300)]
            data[parts[random.integers(3)]] ^= 1 << random.integers(8)
        path.write_bytes(data)
        try:
            operator, params = interop.from_onnx(path)
        except interop.FormatError:
            refused += 1
        else:
            assert params["l0"].weight_hh.shape == (20, operator.hidden_size)  # ONNX has no digest of the numbers
    assert 30 < refused < 150


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"{}", os.urandom(1000)], ids=["empty", "zeros", "text", "random"])
def test_garbage_is_refused(data, tmp_path):
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(interop.FormatError, match=r"model\.onnx must be an ONNX model|must be of opset"):
        interop.from_onnx(tmp_path / "model.onnx")
