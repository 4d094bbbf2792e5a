"""python -m jaxrnn: what it writes and says, and how it ends."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn import interop
from jaxrnn.__main__ import main

from ..cell_table import random_like

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

TOLD = ["--batch-first", "--kind", "embed=Embedding"]


@pytest.fixture(autouse=True)
def _files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    layers = {
        "embed": torch.nn.Embedding(7, 3),
        "rnn": torch.nn.LSTM(3, 4, 2, proj_size=2),
        "out": torch.nn.Linear(2, 2),
    }
    torch.save(torch.nn.ModuleDict(layers).state_dict(), "model.pt")
    torch.save(torch.nn.GRU(3, 4, 2, bidirectional=True).double().state_dict(), "gru.pt")
    torch.save(torch.nn.RNN(3, 4).state_dict(), "rnn.pt")


def run(capsys, *arguments):
    """The exit status, stdout and stderr."""
    try:
        status = main([*map(str, arguments)])
    except SystemExit as error:
        status = error.code
    return status, *capsys.readouterr()


def test_there_and_back(capsys):
    assert run(capsys, "convert", "model.pt", "model.safetensors", *TOLD) == (0, "", "")
    assert run(capsys, "convert", "model.safetensors", "again.pth") == (0, "", "")
    before, after = torch.load("model.pt"), torch.load("again.pth")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert interop.load("model.safetensors")[0]["rnn"] == jr.LSTM(3, 4, 2, proj_size=2, batch_first=True)
    assert run(capsys, "verify", "model.pt", "model.safetensors", *TOLD)[0] == 0


def test_float64_and_flax(capsys):
    pytest.importorskip("flax")
    assert run(capsys, "convert", "gru.pt", "gru.msgpack", "--time-first") == (0, "", "")
    status, out, _ = run(capsys, "verify", "gru.pt", "gru.msgpack", "--time-first")
    assert (status, out.startswith("the same: largest difference")) == (0, True)
    assert run(capsys, "convert", "gru.msgpack", "cells.safetensors") == (0, "", "")
    with jax.enable_x64(True):
        spec, params = interop.load("cells.safetensors")
        assert list(spec) == ["l0", "l0_reverse", "l1", "l1_reverse"]
        assert params["l0"].weight_hh.dtype == np.float64


def test_a_small_difference_is_found(capsys):
    state_dict = torch.load("rnn.pt")
    state_dict["bias_hh_l0"][1] += 1e-3
    torch.save(state_dict, "other.pt")
    told = ["--time-first", "--nonlinearity", "tanh"]
    status, out, _ = run(capsys, "verify", "rnn.pt", "other.pt", *told)
    assert (status, out.startswith("not the same: largest difference ")) == (1, True)
    assert 1e-5 < float(out.split()[5]) < 1e-2
    assert run(capsys, "verify", "rnn.pt", "other.pt", *told, "--tolerance", "0.1")[0] == 0
    state_dict["bias_hh_l0"][1] = float("nan")
    torch.save(state_dict, "other.pt")
    assert run(capsys, "verify", "rnn.pt", "other.pt", *told)[0] == 1


def test_another_structure_is_told(capsys):
    one, other = jr.GRU(3, 4), jr.LSTM(3, 4)
    for name, net in (("one", one), ("other", other)):
        interop.save(f"{name}.safetensors", net, net.init(jax.random.key(0)))
    status, out, _ = run(capsys, "verify", "one.safetensors", "other.safetensors")
    assert status == 1
    assert out.startswith("not the same: l0 is gru with weight_hh (12, 4), weight_ih (12, 3) in the first, lstm")


@pytest.mark.parametrize(
    "spec", [jr.gru, jr.gru_reset_before, jr.lstm, jr.lstm_peephole, jr.Linear(3, 4), jr.Embedding(3, 4)]
)
def test_every_kind_is_compared(spec, capsys):
    sizes = (3, 4) if isinstance(spec, jr.Cell) else ()
    params = random_like(jax.eval_shape(lambda key: spec.init(key, *sizes), jax.random.key(0)))
    changed = params | {"weight": params["weight"].at[0, 0].add(1)} if isinstance(params, dict) else None
    changed = changed or params._replace(weight_hh=params.weight_hh.at[0, 0].add(1))
    interop.save("a.safetensors", spec, params)
    interop.save("b.safetensors", spec, changed)
    assert run(capsys, "verify", "a.safetensors", "a.safetensors")[0] == 0
    assert run(capsys, "verify", "a.safetensors", "b.safetensors")[0] == 1


def test_inspect(capsys):
    weight_hh = np.diag([0.5, -2.0, 1.0, 0.0]).astype(np.float32)
    interop.save("cell.safetensors", jr.rnn, jr.AffineParams(np.ones((4, 3), np.float32), weight_hh, None, None))
    status, out, _ = run(capsys, "inspect", "cell.safetensors")
    assert status == 0
    assert out.splitlines() == [
        "jaxrnn.rnn",
        "",
        "tensor     shape   dtype    norm",
        "weight_ih  (4, 3)  float32  3.464",
        "weight_hh  (4, 4)  float32  2.291",
        "",
        "spectral radii of the recurrent matrices, by gate",
        "spec: h 2",
        "",
        "whole: 28 numbers in 2 tensors of float32, all finite; largest spectral radius 2, of spec.h",
    ]
    status, out, _ = run(capsys, "inspect", "model.pt", *TOLD)
    rnn = torch.load("model.pt")
    matrix = (rnn["rnn.weight_hr_l1"] @ rnn["rnn.weight_hh_l1"][8:12]).double().numpy()
    assert f"g {np.abs(np.linalg.eigvals(matrix)).max():.4g}" in next(
        x for x in out.splitlines() if x.startswith("rnn.l1")
    )


def test_inspect_tells_of_nan(capsys):
    state_dict = torch.load("rnn.pt")
    state_dict["weight_hh_l0"][0, 0] = float("inf")
    torch.save(state_dict, "bad.pt")
    status, out, _ = run(capsys, "inspect", "bad.pt", "--time-first", "--nonlinearity", "relu")
    assert status == 0
    assert out.splitlines()[-1] == "not usable: NaN or infinity in 1 of 4 tensors, the first is weight_hh_l0"


ERRORS = {
    "no command": ([], "the following arguments are required: COMMAND"),
    "no file": (["inspect", "none"], "cannot use none: No such file or directory"),
    "a folder": (["inspect", "."], "must be a file, got a folder"),
    "asked for": (["inspect", "rnn.pt", "--time-first"], "nonlinearity must be given"),
    "in vain": (["inspect", "gru.pt", "--time-first", "--nonlinearity", "relu"], "nonlinearity='relu' is given"),
    "both layouts": (["inspect", "gru.pt", "--time-first", "--batch-first"], "not allowed with"),
    "kind": (["inspect", "model.pt", "--kind", "embed"], "expected NAME=Embedding or NAME=Linear, got 'embed'"),
    "format": (["convert", "gru.pt", "out.xyz"], "OUT must end in .safetensors"),
    "is there": (["convert", "gru.pt", "rnn.pt", "--time-first"], "rnn.pt is there: --overwrite"),
    "no place": (["convert", "model.pt", "m.msgpack", *TOLD], "has weight_hr, a projection, which Flax"),
    "no folder": (["convert", "gru.pt", "none/out.pt", "--time-first"], "cannot use none"),
    "damaged": (["inspect", "damaged.safetensors"], "is damaged"),
    "damaged Flax": (["inspect", "damaged.msgpack"], "must be variables that flax.serialization wrote"),
    "damaged in two": (["verify", "gru.pt", "damaged.safetensors", "--time-first"], "is damaged"),
}


@pytest.mark.parametrize(("arguments", "message"), ERRORS.values(), ids=ERRORS)
def test_errors_are_one_line(arguments, message, capsys):
    pytest.importorskip("flax")
    interop.save("damaged.safetensors", jr.gru, jr.gru.init(jax.random.key(0), 2, 3))
    with open("damaged.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    with open("damaged.msgpack", "wb") as file:
        file.write(b"\x93\x00")
    before = sorted(os.listdir())
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.startswith("python -m jaxrnn")
    assert err.count("\n") == 1
    assert sorted(os.listdir()) == before


def test_overwrite(capsys):
    assert run(capsys, "convert", "gru.pt", "rnn.pt", "--time-first", "--overwrite") == (0, "", "")
    assert torch.load("rnn.pt")["weight_ih_l0"].shape == (12, 3)


@pytest.mark.slow
def test_as_a_process():
    command = [sys.executable, "-m", "jaxrnn", "inspect", "gru.pt", "--time-first"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=os.environ | {"PYTHONPATH": root()})
    assert done.stdout.startswith("GRU(input_size=3, hidden_size=4, num_layers=2")
    assert (done.returncode, done.stderr) == (0, "")


def root():
    return os.path.dirname(os.path.dirname(jr.__file__))


def test_another_layout_is_another_function(capsys):
    assert run(capsys, "convert", "model.pt", "model.safetensors", *TOLD)[0] == 0
    told = ["--time-first", *TOLD[1:]]
    expected = "not the same: rnn has batch_first=False in the first, True in the second\n"
    assert run(capsys, "verify", "model.pt", "model.safetensors", *told) == (1, expected, "")
