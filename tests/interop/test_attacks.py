"""Every argument of the functions of jaxrnn.interop against everything that is no good for it: see attacks.py."""

import os

import jax
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn import interop

from ..attacks import KEY, Argument, Attacks, Door

SHAPES = {"weight_ih_l0": (4, 2), "weight_hh_l0": (4, 4), "weight_ih_l1": (4, 4), "weight_hh_l1": (4, 4)}
STATE_DICT = {f"rnn.{name}": np.ones(shape, np.float32) for name, shape in SHAPES.items()}
NET = jr.GRU(3, 4, 2)
CELL, LSTM = jr.gru.init(KEY, 3, 4), jr.lstm.init(KEY, 3, 4)
PARAMS = jax.tree.map(np.asarray, NET.init(KEY))
SPLIT = interop.split(NET, PARAMS)
OPERATOR = interop.OnnxOperator("LSTM", 4, direction="bidirectional", peepholes=True)
TENSORS = {"W": (2, 16, 3), "R": (2, 16, 4), "B": (2, 32), "P": (2, 12)}
TENSORS = {name: np.ones(shape, np.float32) for name, shape in TENSORS.items()}

DOORS = {
    "from_torch": Door(
        interop.from_torch,
        {
            "source": Argument(STATE_DICT, called="."),  # what is a path, a module and a tree has errors of its own
            "prefix": Argument("rnn"),
            "nonlinearity": Argument("tanh"),
            "batch_first": Argument(True, "bool"),
            "dropout": Argument(0.5, "None, scalar"),
            "kinds": Argument(None, "None, dict"),
        },
        raises=OSError,
    ),
    "to_torch": Door(interop.to_torch, {"spec": Argument(NET), "params": Argument(PARAMS)}),
    "save": Door(
        lambda path, spec, params: (interop.save(path, spec, params), os.unlink(path)),  # or load would find it
        {"path": Argument("unused", "str"), "spec": Argument(NET), "params": Argument(PARAMS)},
        raises=OSError,
    ),
    "from_linen": Door(
        interop.from_linen,
        {"variables": Argument(interop.to_linen(jr.gru, CELL)), "nonlinearity": Argument("tanh", "None")},
    ),
    "from_haiku": Door(
        interop.from_haiku,
        {"params": Argument(interop.to_haiku(jr.lstm, LSTM)), "cells": Argument(None, "None, dict")},
    ),
    "join": Door(
        interop.join,
        {
            "spec": Argument(SPLIT[0]),
            "params": Argument(SPLIT[1]),
            "batch_first": Argument(True, "bool"),
            "dropout": Argument(0.5, "None, scalar"),
        },
    ),
    **{
        f.__name__: Door(f, {"spec": Argument(NET), "params": Argument(PARAMS)})
        for f in (interop.split, interop.to_linen, interop.to_keras)
    },
    "OnnxOperator": Door(
        interop.OnnxOperator,
        {
            "op_type": Argument("LSTM"),
            "hidden_size": Argument(4, "int"),
            "direction": Argument("forward"),
            "activations": Argument((), "list, tuple"),
            "activation_alpha": Argument((), "list, tuple"),
            "activation_beta": Argument((), "list, tuple"),
            "clip": Argument(1.0, "None, int, float, scalar"),
            "input_forget": Argument(0, "bool"),
            "linear_before_reset": Argument(0),
            "layout": Argument(0, "bool"),
            "peepholes": Argument(False, "bool"),
        },
    ),
    "OnnxOperator.params": Door(
        OPERATOR.params,
        {
            "W": Argument(TENSORS["W"]),
            "R": Argument(TENSORS["R"]),
            "B": Argument(TENSORS["B"], "None"),
            "P": Argument(TENSORS["P"]),
        },
    ),
    "OnnxOperator.apply": Door(
        OPERATOR.apply,
        {
            "params": Argument(OPERATOR.params(**TENSORS)),
            "X": Argument(np.ones((5, 3, 3), np.float32)),
            "sequence_lens": Argument(np.array([5, 2, 3]), "None, ints"),
            "initial_h": Argument(np.ones((2, 3, 4), np.float32), "None"),
            "initial_c": Argument(np.ones((2, 3, 4), np.float32), "None"),
        },
    ),
    "to_layers": Door(
        interop.to_layers, {"operator": Argument(OPERATOR), "params": Argument(OPERATOR.params(**TENSORS))}
    ),
    "load": Door(interop.load, {"path": Argument("model")}, raises=OSError),
    "export_apply": Door(
        lambda net, params, lengths, platforms: interop.export_apply(net, params, lengths=lengths, platforms=platforms),
        {
            "net": Argument(NET),
            "params": Argument(PARAMS),
            "lengths": Argument(False, "bool"),
            "platforms": Argument(("cpu",)),
        },
    ),
    "export_step": Door(
        lambda layer, params, x: interop.export_step(layer, params, x, platforms=("cpu",)),
        {"layer": Argument(jr.gru), "params": Argument(CELL), "x": Argument(np.zeros(3, np.float32))},
    ),
}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    interop.save("model", NET, PARAMS)


ONNX_DOORS = {
    "to_onnx": Door(
        interop.to_onnx,
        {
            "spec": Argument(NET),
            "params": Argument(PARAMS),
            "opset": Argument(22),
            "initial_states": Argument(False, "bool"),
            "lengths": Argument(False, "bool"),
        },
    ),
    "from_onnx": Door(
        lambda model, node, tensors: interop.from_onnx(model, node, tensors=tensors),
        {"model": Argument("model.onnx"), "node": Argument("l1"), "tensors": Argument(None, "None, dict")},
        raises=OSError,
    ),
}


class TestDoors(Attacks):
    doors = DOORS
    more_than = 300


class TestOnnxDoors(Attacks):
    doors = ONNX_DOORS
    more_than = 200

    @pytest.fixture(autouse=True)
    def _model(self, _folder):
        onnx = pytest.importorskip("onnx")
        onnx.save(interop.to_onnx(jr.GRU(3, 4, 2), jr.GRU(3, 4, 2).init(KEY)), "model.onnx")
