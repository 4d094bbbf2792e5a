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
        {"layer": Argument(jr.gru), "params": Argument(CELL), "x": Argument(np.zeros(3, np.float32), "shapes, nan")},
    ),
}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    interop.save("model", NET, PARAMS)


class TestDoors(Attacks):
    doors = DOORS
    more_than = 300
