"""`longterm` and `balance`: what they train on, and that their commands leave what they say."""

import json
import signal
import subprocess

import jax
import numpy as np
import pytest

from experiments._run import STATUS
from experiments.gradients.__main__ import main
from experiments.gradients.longterm_tasks import TASKS
from experiments.gradients.longterm_training import CELLS, Network, Recipe, Setting, train


@pytest.mark.parametrize("steps", [10, 53, 100])
def test_temporal_order_asks_for_the_two_symbols_in_their_order(steps):
    xs, labels = map(np.asarray, TASKS["order"].sample(jax.random.key(0), steps, 500))
    assert xs.shape == (steps, 500, 6)
    np.testing.assert_array_equal(np.sort(xs, axis=-1), np.broadcast_to([0, 0, 0, 0, 0, 1], xs.shape))  # one-hot
    symbols = xs.argmax(axis=-1)
    for sequence, label in zip(symbols.T, labels, strict=True):
        first, second = np.flatnonzero(sequence < 2)
        assert steps // 10 <= first < 2 * steps // 10
        assert 4 * steps // 10 <= second < 5 * steps // 10
        assert label == ["AA", "AB", "BA", "BB"].index("".join("AB"[symbol] for symbol in sequence[[first, second]]))
    assert (np.bincount(labels) > 80).all()
    assert (np.bincount(symbols[symbols > 1])[2:] > 0.2 * np.sum(symbols > 1)).all()


@pytest.mark.parametrize("steps", [10, 53, 100])
def test_adding_asks_for_the_sum_of_the_marked(steps):
    xs, sums = map(np.asarray, TASKS["adding"].sample(jax.random.key(0), steps, 500))
    assert xs.shape == (steps, 500, 2)
    for (numbers, marks), total in zip(xs.transpose(1, 2, 0), sums, strict=True):
        first, second = np.flatnonzero(marks)
        assert 0 <= first < steps // 10 <= second < steps // 2
        assert set(marks) == {0, 1}
        np.testing.assert_allclose(total, numbers[first] + numbers[second], rtol=1e-6)
    assert 0 <= xs[..., 0].min() < 0.01 < 0.99 < xs[..., 0].max() < 1
    np.testing.assert_allclose(np.mean((sums - 1) ** 2), 1 / 6, rtol=0.2)


def test_each_key_has_sequences_of_its_own():
    for task in TASKS.values():
        first, again, other = (np.asarray(task.sample(jax.random.key(k), 20, 3)[0]) for k in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


@pytest.mark.parametrize("cell", CELLS)
def test_initialisation(cell):
    network, hidden = Network("order", cell, 16), 16
    plain, orthogonal = (network.init(jax.random.key(0), 100, flag)["cell"] for flag in (False, True))
    for gate in np.split(np.asarray(orthogonal.weight_hh), len(orthogonal.weight_hh) // hidden):
        np.testing.assert_allclose(gate @ gate.T, np.eye(hidden), atol=1e-5)
    assert np.abs(plain.weight_hh).max() <= 1 / np.sqrt(hidden)
    if cell != "rnn":  # how much of the state is kept, where neither input nor state speaks: 1 to T - 1 steps' worth
        keep = np.asarray(plain.bias_ih + plain.bias_hh)[hidden : 2 * hidden]
        assert (keep > -0.6).all()
        assert (keep < np.log(99) + 0.6).all()
        assert np.exp(keep).max() > 50


@pytest.mark.slow
def test_a_gru_learns_a_short_order_and_its_seeds_do_not_meet():
    recipe, setting = Recipe(hidden=16, batch=16, steps=600, check_every=100), Setting("order", 12, "gru", True, True)
    keys = jax.random.split(jax.random.key(0), 3)
    together = train(setting, recipe, keys)
    assert None not in together.solved_after
    assert together.steps == max(together.solved_after)
    for seed, after in enumerate(together.solved_after):
        row = after // 100 - 1
        assert together.errors[row][seed] < 0.01
        assert all(check[seed] >= 0.01 for check in together.errors[:row])
    alone = train(setting, recipe, keys[1:2])
    assert alone.solved_after == together.solved_after[1:2]


@pytest.mark.slow
def test_longterm_leaves_its_files(tmp_path, capsys):
    out = ["--out", str(tmp_path)]
    options = [
        "longterm",
        "--tasks",
        "order",
        "--cells",
        "rnn",
        "gru",
        "--lengths",
        "10",
        "--steps",
        "2",
        "--seeds",
        "2",
    ]
    assert main([*options, "--hidden", "3", *out]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {"longterm.png", "longterm.json"}
    assert (tmp_path / "longterm.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((tmp_path / "longterm.json").read_text())
    assert results["wall_seconds"] > 0
    assert [(r["cell"], r["clip"], r["orthogonal"]) for r in results["runs"]] == [
        ("rnn", False, False),
        ("rnn", False, True),
        ("rnn", True, False),
        ("rnn", True, True),
        ("gru", False, False),
    ]
    assert all(np.shape(run["last_errors"]) == (2,) and run["seeds"] == 2 for run in results["runs"])
    assert "0/2" in capsys.readouterr().out
    assert main([*options, *out]) == 2
    assert "already holds a run" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_keeps_the_runs_that_were_told(tmp_path, start):
    options = ["--tasks", "order", "--cells", "rnn", "--lengths", "10", "400", "--steps", "100000", "--seeds", "2"]
    command = ["-u", "-m", "experiments.gradients", "longterm", *options, "--out", tmp_path]
    process = start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for line in process.stdout:
        if line.startswith("order"):
            break
    process.send_signal(signal.SIGINT)
    printed, error = process.communicate(timeout=60)
    assert process.returncode == STATUS["interrupted"]
    assert "interrupted after 4 of 8 runs" in printed
    assert "Traceback" not in error
    runs = json.loads((tmp_path / "longterm.json").read_text())["runs"]
    assert [run["length"] for run in runs] == 4 * [10]
    assert (tmp_path / "longterm.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_balance_leaves_its_files(tmp_path, capsys):
    out = ["--out", str(tmp_path)]
    assert main(["balance", "--truncations", "1", "--steps", "300", "--keys", "2", *out]) == 0
    assert (tmp_path / "balance.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((tmp_path / "balance.json").read_text())
    assert results["exact_gradient"] == 6
    assert {name: len(found["losses"]) for name, found in results["methods"].items()} == {
        "TBPTT(1)": 1,
        "RTRL": 1,
        "UORO": 2,
    }
    assert results["methods"]["TBPTT(1)"]["gradient"] == pytest.approx(-1)
    assert results["methods"]["RTRL"]["gradient"] == pytest.approx(6, rel=1e-4)
    printed = capsys.readouterr().out
    assert "TBPTT(1)    gradient -1.00, WRONG sign" in printed
    assert "RTRL        gradient +6.00, right sign" in printed
    assert main(["balance", *out]) == 2


@pytest.mark.parametrize(
    "options",
    [
        ["longterm", "--lengths", "9"],
        ["longterm", "--cells", "mgu"],
        ["longterm", "--seeds", "0"],
        ["balance", "--lr", "0"],
        ["balance", "--truncations", "0"],
    ],
)
def test_bad_options_exit_with_2(options, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(options)
    assert exit_.value.code == 2
    assert options[1] in capsys.readouterr().err


def test_steps_that_are_no_whole_checks_are_an_error(tmp_path, capsys):
    assert main(["longterm", "--steps", "250", "--out", str(tmp_path)]) == 2
    assert "--steps must be below 100 or a multiple of it, got 250" in capsys.readouterr().err
