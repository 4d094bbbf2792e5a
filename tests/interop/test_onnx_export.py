"""Networks and cells as ONNX models: onnxruntime gives their numbers, for other T and N than any that was traced."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn import interop
from jaxrnn.__main__ import main

from ..cell_table import random_like
from ..marks import few_of
from .onnx_models import run

onnx = pytest.importorskip("onnx")

D, H = 3, 4
NETWORKS = {
    "rnn": jr.RNN(D, H),
    "rnn_relu": jr.RNN(D, H, 2, nonlinearity="relu", bidirectional=True),
    "gru": jr.GRU(D, H, 2, bidirectional=True, batch_first=True),
    "gru_no_bias": jr.GRU(D, H, bias=False),
    "lstm": jr.LSTM(D, H, 3, dropout=0.5),
    "lstm_both": jr.LSTM(D, H, 2, bidirectional=True, batch_first=True),
    "one_unit": jr.LSTM(1, 1),
}
CELLS = {name: getattr(jr, name) for name in ("rnn", "rnn_relu", "gru", "gru_reset_before", "lstm", "lstm_peephole")}


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def made(spec, *sizes):
    """Parameters of N(0, 1/4)."""
    like = jax.eval_shape(lambda key: spec.init(key, *sizes), jax.random.key(0))
    return jax.tree.map(lambda a: a / 2, random_like(like))


def states(net, batch):
    """h_0, and c_0 of an LSTM, by name."""
    rows = net.num_layers * (2 if net.bidirectional else 1)
    names = ["h_0", "c_0"] if isinstance(net, jr.LSTM) else ["h_0"]
    return {name: draw(rows, batch, net.hidden_size, seed=1 + i) for i, name in enumerate(names)}


def assert_close(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), theirs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


OPSETS = [14, 22]


@pytest.mark.parametrize(("name", "opset"), few_of(zip(NETWORKS, itertools.cycle(OPSETS)), NETWORKS, OPSETS))
def test_networks_run_in_onnxruntime(name, opset):
    pytest.importorskip("onnxruntime")
    net = NETWORKS[name]
    params = made(net)
    bare = interop.to_onnx(net, params, opset=opset)
    whole = interop.to_onnx(net, params, opset=opset, initial_states=True, lengths=True)
    for model in (bare, whole):
        onnx.checker.check_model(model, full_check=True)
        assert [entry.version for entry in model.opset_import] == [opset]
    for steps, batch in ((5, 2), (1, 1), (8, 3)):
        x = draw(batch, steps, net.input_size) if net.batch_first else draw(steps, batch, net.input_size)
        assert_close(net.apply(params, x), run(bare, {"x": x}))
        given, lengths = states(net, batch), np.arange(steps, steps - batch, -1, np.int32).clip(1)
        h_0 = tuple(given.values()) if len(given) == 2 else given["h_0"]
        assert_close(net.apply(params, x, h_0, lengths=lengths), run(whole, {"x": x, "lengths": lengths} | given))


@pytest.mark.parametrize("name", CELLS)
def test_cells_run_in_onnxruntime(name):
    pytest.importorskip("onnxruntime")
    cell = CELLS[name]
    params, xs = made(cell, D, H), draw(6, 2, D)
    model = interop.to_onnx(cell, params)
    onnx.checker.check_model(model, full_check=True)
    state, ys = jr.unroll(cell, params, xs)
    assert_close([ys, *(a[None] for a in jax.tree.leaves(state))], run(model, {"x": xs}))


def test_the_options_are_apart():
    net = jr.LSTM(D, H)
    names = {}
    for initial_states, lengths in itertools.product((False, True), repeat=2):
        model = interop.to_onnx(net, made(net), initial_states=initial_states, lengths=lengths)
        onnx.checker.check_model(model, full_check=True)
        names[initial_states, lengths] = [value.name for value in model.graph.input]
        assert [value.name for value in model.graph.output] == ["output", "h_n", "c_n"]
    assert names == {
        (False, False): ["x"],
        (False, True): ["x", "lengths"],
        (True, False): ["x", "h_0", "c_0"],
        (True, True): ["x", "h_0", "c_0", "lengths"],
    }


@pytest.mark.parametrize("name", [*NETWORKS, *(f"cell {name}" for name in CELLS)])
def test_there_and_back_is_the_same_to_the_bit(name):
    """But for what the operators do not know: the batch first, dropout."""
    spec = NETWORKS[name] if name in NETWORKS else CELLS[name.removeprefix("cell ")]
    params = made(spec, *((D, H) if isinstance(spec, jr.Cell) else ()))
    again, weights = interop.to_layers(*interop.from_onnx(interop.to_onnx(spec, params)))
    if isinstance(spec, jr.Cell) and not isinstance(again, jr.Cell):
        assert (again.num_layers, again.bidirectional) == (1, False)
        again, weights = interop.split(again, weights)
        again, weights = again["l0"], weights["l0"]
    ours, theirs = ([getattr(net, field) for field in ("input_size", "hidden_size", "num_layers", "bidirectional")]
                    if not isinstance(net, jr.Cell) else net for net in (spec, again))  # fmt: skip
    assert ours == theirs
    assert jax.tree.structure(params) == jax.tree.structure(weights)
    jax.tree.map(np.testing.assert_array_equal, weights, params)


REFUSED = {
    "projection": (jr.LSTM(D, H, proj_size=2), "l0 is a lstm, which ONNX does not hold: it has weight_hr"),
    "linear": (jr.Linear(D, H), "spec is a Linear, which to_onnx does not hold: it writes networks and cells"),
    "embedding": (jr.Embedding(D, H), "spec is a Embedding, which to_onnx does not hold"),
    "dict": ({"rnn": jr.GRU(D, H)}, "spec must be one layer for ONNX, got a dict of layers"),
}


@pytest.mark.parametrize(("spec", "message"), REFUSED.values(), ids=REFUSED)
def test_what_onnx_does_not_hold_is_refused(spec, message):
    params = {name: made(layer) for name, layer in spec.items()} if isinstance(spec, dict) else made(spec)
    with pytest.raises(interop.FormatError, match=message):
        interop.to_onnx(spec, params)


def test_arguments_are_checked():
    net = jr.GRU(D, H)
    params = made(net)
    with pytest.raises(interop.FormatError, match="weight_ih has dtype bfloat16, expected float32"):
        interop.to_onnx(net, jr.cast(params, jnp.bfloat16))
    with pytest.raises(ValueError, match="opset must be at least 14, got 13"):
        interop.to_onnx(net, params, opset=13)
    with pytest.raises(ValueError, match="opset must be at most 22, got 23"):
        interop.to_onnx(net, params, opset=23)
    with pytest.raises(interop.FormatError, match="params of GRU"):
        interop.to_onnx(net, params | {"bias_hh_l0": jnp.ones(3)})


@pytest.fixture
def _files(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    net = jr.GRU(D, H, 2, bidirectional=True)
    interop.save("model.safetensors", net, made(net))


@pytest.mark.usefixtures("_files")
def test_the_command_line(capsys):
    assert main(["convert", "model.safetensors", "model.onnx"]) == 0
    assert main(["convert", "model.onnx", "again.safetensors"]) == 0
    assert interop.load("again.safetensors")[0] == jr.GRU(D, H, 2, bidirectional=True)
    assert main(["verify", "model.safetensors", "model.onnx"]) == 0
    assert "the same: largest difference 0 " in capsys.readouterr().out
    assert main(["inspect", "model.onnx"]) == 0
    assert capsys.readouterr().out.startswith("GRU(input_size=3, hidden_size=4, num_layers=2")
    assert main(["inspect", "model.onnx", "--prefix", "l1"]) == 0
    assert capsys.readouterr().out.startswith("GRU(input_size=8, hidden_size=4, num_layers=1")


@pytest.mark.usefixtures("_files")
def test_the_errors_of_the_command_line(capsys):
    interop.save("lstm.safetensors", jr.LSTM(D, H, proj_size=2), made(jr.LSTM(D, H, proj_size=2)))
    with open("damaged.onnx", "wb") as file:
        file.write(b"{}")
    for arguments, message in (
        (["convert", "lstm.safetensors", "lstm.onnx"], "which ONNX does not hold"),
        (["inspect", "damaged.onnx"], "damaged.onnx must be an ONNX model"),
        (["inspect", "damaged.onnx", "--dropout", "0.5"], "dropout must not be given for damaged.onnx"),
    ):
        assert main(arguments) == 2
        found = capsys.readouterr().err
        assert message in found
        assert found.count("\n") == 1


def test_a_model_says_nothing_of_batch_first():
    net = jr.GRU(3, 4, 2, bidirectional=True, batch_first=True)
    params = net.init(jax.random.key(0))
    read = interop.from_onnx(interop.to_onnx(net, params))
    assert interop.to_layers(*read)[0] == dataclasses.replace(net, batch_first=False)
    assert interop.to_layers(*read, batch_first=True)[0] == net
    with pytest.raises(interop.FormatError, match="batch_first=True is given, but only for networks"):
        interop.to_layers(
            *interop.from_onnx(interop.to_onnx(jr.lstm_peephole, jr.lstm_peephole.init(jax.random.key(0), 3, 4))),
            batch_first=True,
        )
