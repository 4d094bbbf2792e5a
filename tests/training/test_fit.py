"""The loop: equal to a loop of single steps, whatever the chunk, the parts, the devices."""

import io
import json
import os
import signal
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn as jr
from jaxrnn import gradients, training

from .task import BATCH, HIDDEN, OPTIMIZER, batches, fit, loss, make, plain_loop, rows


def assert_equal_trees(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_close_trees(a, b, atol):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=atol), a, b)


@pytest.mark.parametrize("chunk", [7, *(pytest.param(chunk, marks=pytest.mark.slow) for chunk in (1, 40))])
def test_fit_is_a_plain_loop(chunk):
    params, carry, losses = plain_loop(40)
    result = fit(chunk=chunk)
    assert result.ended == "finished"
    assert int(result.state.step) == 40
    assert_close_trees(result.state.params, params, 1e-5)
    np.testing.assert_allclose(result.state.carry, carry, atol=1e-5)
    logged = [(row["loss"], row["grad_norm"]) for row in result.history]
    np.testing.assert_allclose(logged, losses, rtol=1e-4)
    assert [row["step"] for row in result.history] == list(range(1, 41))
    assert np.shape(result.history[0]["means"]) == (HIDDEN,)
    assert len({row["noise"] for row in result.history}) == 40


def test_the_caller_s_arrays_live_on():
    params, carry, key = make(), jnp.zeros((BATCH, HIDDEN)), jax.random.key(7)
    training.fit(loss, params, OPTIMIZER, batches, 10, chunk=5, carry=carry, key=key)
    assert not any(a.is_deleted() for a in jax.tree.leaves((params, carry, key)))
    assert_equal_trees(params, make())


@pytest.mark.parametrize("parts", [pytest.param(2, marks=pytest.mark.slow), 8])
def test_accumulation_is_the_whole_batch(parts):
    whole, split = fit(), fit(accumulate=parts)
    assert_close_trees(whole.state.params, split.state.params, 1e-5)
    np.testing.assert_allclose(whole.state.carry, split.state.carry, atol=1e-5)
    np.testing.assert_allclose([r["loss"] for r in whole.history], [r["loss"] for r in split.history], rtol=1e-4)
    np.testing.assert_allclose([r["means"] for r in whole.history], [r["means"] for r in split.history], atol=1e-5)


def test_accumulated_parts_add_up_in_float32():
    """In bfloat16 a sum of ones stops at 256."""

    def loss(params, carry, batch, key):
        return jnp.sum(params * batch.mean()), (carry, {})

    params, data = jnp.zeros((), jnp.bfloat16), lambda start, stop: jnp.ones((stop - start, 1024), jnp.bfloat16)
    result = training.fit(loss, params, optax.sgd(1.0), data, steps=1, accumulate=1024)
    assert result.state.params == -1
    assert result.state.params.dtype == jnp.bfloat16


def test_a_mesh_of_one_device_is_none():
    assert_close_trees(fit().state.params, fit(mesh=training.data_mesh(1)).state.params, 1e-5)


def test_evaluations_come_on_time_and_stop_the_run():
    seen = []

    def evaluate(params):
        seen.append(1)
        return {"value": [3.0, 2.0, 2.5, 2.1, 1.0][len(seen) - 1]}

    result = fit(evaluation=training.Evaluation(evaluate, 10, training.early_stopping("value", 2)), steps=100)
    assert [row["step"] for row in result.evaluations] == [10, 20, 30, 40]
    assert [row["value"] for row in result.evaluations] == [3.0, 2.0, 2.5, 2.1]
    assert (result.ended, len(result.history)) == ("stopped", 40)


def test_early_stopping_counts_from_the_least_and_nan_is_never_less():
    nan = float("nan")
    stop = training.early_stopping("value", 2)
    for values, expected in [
        ([1, nan, nan], True),
        ([nan, nan], True),
        ([nan, 1.0, 2.0], False),
        ([1.0, 1.0, 1.0], True),
        ([3.0, 2.0, 2.5, 1.0], False),
        ([1.0], False),
    ]:
        assert stop([{"value": value} for value in values]) is expected
    with pytest.raises(KeyError, match="evaluations have no 'value', they have"):
        stop([{"step": 1, "other": 2.0}])


def test_the_last_step_is_evaluated():
    result = fit(steps=25, evaluation=training.Evaluation(lambda params: {"value": 1.0}, every=20))
    assert [row["step"] for row in result.evaluations] == [20, 25]


def test_on_chunk_sees_rows_and_state_and_may_stop():
    steps = []

    def on_chunk(new, state):
        steps.append((len(new), new[-1]["step"], int(state.step)))
        return len(steps) == 2

    result = fit(on_chunk=on_chunk)
    assert steps == [(10, 10, 10), (10, 20, 20)]
    assert (result.ended, len(result.history)) == ("stopped", 20)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_after_the_chunk(tmp_path):
    def on_chunk(new, state):
        if new[-1]["step"] == 20:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    folder = training.RunFolder(tmp_path / "run")
    result = fit(on_chunk=on_chunk, folder=folder)
    assert (result.ended, len(result.history)) == ("interrupted", 20)
    assert signal.getsignal(signal.SIGINT) is before
    resumed = fit(folder=training.RunFolder(tmp_path / "run", resume=True))
    assert rows(resumed) == rows(fit())
    assert_equal_trees(resumed.state.params, fit().state.params)


@pytest.mark.usefixtures("ctrl_c")
def test_an_ignored_sigint_stays_ignored():
    """As a script's job in the background has it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    result = fit(on_chunk=lambda new, state: os.kill(os.getpid(), signal.SIGINT))
    assert result.ended == "finished"
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_fit_runs_outside_the_main_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(fit(steps=10)))
    thread.start()
    thread.join()
    assert results[0].ended == "finished"


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_the_first_step_that_is_not_finite_stops_the_run(where, tmp_path):
    def poisoned(params, carry, batch, key):
        value, aux = loss(params, carry, batch, key)
        bad = key_step(key)
        if where == "loss":
            return jnp.where(bad, jnp.nan, value), aux
        root = jnp.sqrt(jnp.where(bad, 0.0, 1.0) * params["out"]["bias"][0] ** 2)  # infinite slope at 0
        return value + 0 * root, aux

    def key_step(key):
        return (jax.random.key_data(key) == jax.random.key_data(jax.random.fold_in(jax.random.key(7), 23))).all()

    with pytest.raises(training.NonFiniteLossError, match="step 24") as info:
        fit(loss=poisoned, folder=training.RunFolder(tmp_path / "run", every=10))
    assert info.value.row["step"] == 24
    assert ("norm of the gradient" in str(info.value)) == (where == "gradient")
    assert len(info.value.result.history) == 23
    assert_close_trees(info.value.result.state.params, plain_loop(23)[0], 1e-5)
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["00000010", "00000020"]
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 23


def test_the_bar_is_quiet_when_not_on_a_terminal(capsys):
    fit(steps=10)
    assert capsys.readouterr() == ("", "")


def test_the_bar_shows_loss_rate_and_time_left_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    fit(evaluation=training.Evaluation(lambda params: {"value": 1.5}))
    shown = terminal.getvalue()
    assert "40/40" in shown
    assert "loss=" in shown
    assert "value=1.5" in shown
    assert "step/s" in shown
    terminal.truncate(0)
    fit(progress=False)
    assert terminal.getvalue() == ""


def test_metrics_are_the_rows(tmp_path):
    folder = training.RunFolder(tmp_path / "run")
    result = fit(folder=folder, evaluation=training.Evaluation(lambda params: {"value": 2.0}, every=20))
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert [line for line in lines if "loss" in line] == result.history
    assert [line for line in lines if "value" in line] == result.evaluations
    assert [line["step"] for line in lines[18:23]] == [19, 20, 20, 21, 22]


BAD = {
    "steps": ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
    "chunk": ({"chunk": 2.5}, TypeError, "chunk must be an int"),
    "accumulate": (
        {"accumulate": 3},
        ValueError,
        r"carry has a batch of 8, expected a multiple of 1 \(devices of the mesh\) times 3 \(accumulate\)",
    ),
    "evaluation.every": (
        {"evaluation": training.Evaluation(dict, every=15)},
        ValueError,
        "evaluation.every must be a multiple of chunk=10, got 15",
    ),
    "a function for an evaluation": ({"evaluation": dict}, TypeError, "evaluation must be a training.Evaluation, got"),
    "a path for a folder": ({"folder": "runs"}, TypeError, "folder must be a training.RunFolder, got str"),
    "a number for a mesh": ({"mesh": 2}, TypeError, "mesh must be a mesh from training.data_mesh, got int"),
    "another mesh": ({"mesh": jax.make_mesh((1,), ("batch",))}, ValueError, "mesh must have one Auto axis, 'data'"),
    "what an evaluation returns": (
        {"evaluation": training.Evaluation(lambda p: 1.0)},
        TypeError,
        "evaluation.function must return a dict of numbers",
    ),
    "arrays from an evaluation": (
        {"evaluation": training.Evaluation(lambda p: {"v": np.ones(3)})},
        TypeError,
        "a dict of numbers, got",
    ),
    "a learner for a loss": (
        {"loss": gradients.online.rtrl(gradients.Problem(jr.rnn, lambda params, h, y: h.sum()))},
        TypeError,
        r"or a gradient such as training.over_streams\(learner\), .*, got Learner",
    ),
    "what a gradient returns": (
        {"loss": training.StepGradient(loss)},
        TypeError,
        r"a gradient must return \(value, \(carry, metrics\)\)",
    ),
    "grads unlike params": (
        {"loss": training.StepGradient(lambda p, c, b, k: ((p["out"]["bias"].sum(), (c, {})), p["out"]))},
        ValueError,
        "a gradient must return grads like params",
    ),
    "a metric's name": (
        {"loss": lambda p, c, b, k: (p["out"]["bias"].sum(), (c, {"step": 1.0}))},
        ValueError,
        r"metrics must not be named \['step'\]",
    ),
    "what loss returns": (
        {"loss": lambda p, c, b, k: p["out"]["bias"].sum()},
        TypeError,
        r"loss must return \(value, \(carry, metrics\)\)",
    ),
    "not a scalar": (
        {"loss": lambda p, c, b, k: (p["out"]["bias"], (c, {}))},
        ValueError,
        r"loss must return a real scalar value, got float32\[3\]",
    ),
    "another carry": (
        {"loss": lambda p, c, b, k: (p["out"]["bias"].sum(), (c[:, :2], {}))},
        ValueError,
        "a carry like the one it was given",
    ),
    "an evaluation's name": (
        {"evaluation": training.Evaluation(lambda p: {"loss": 1.0})},
        ValueError,
        r"must not be named \['loss'\]",
    ),
}


@pytest.mark.parametrize(("options", "error", "message"), BAD.values(), ids=BAD)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        fit(**options)


def test_an_evaluation_checks_its_fields():
    with pytest.raises(TypeError, match=r"function must be a function \(params\) -> dict of numbers, got dict"):
        training.Evaluation({})
    with pytest.raises(TypeError, match=r"stop must be a function \(evaluations\) -> bool, got int"):
        training.Evaluation(dict, stop=3)
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        training.Evaluation(dict, every=0)


def test_batches_of_a_wrong_number_of_steps():
    with pytest.raises(ValueError, match=r"batches\(0, 10\) has shape \(9, 8, 6, 3\), expected \(10, batch, ...\)"):
        training.fit(loss, make(), OPTIMIZER, lambda start, stop: batches(start, stop - 1), 10, chunk=10)


def test_a_mesh_larger_than_the_devices():
    with pytest.raises(ValueError, match="a mesh of 4096 devices was asked for, there are"):
        training.data_mesh(4096)


@pytest.mark.parametrize(("size", "seed"), [(3, 0), (10, 1), (4, 2)])
def test_shuffled_epochs_hold_each_example_once(size, seed):
    source = training.shuffled({"x": np.arange(10), "y": -np.arange(10)}, size, seed)
    per_epoch = 10 // size
    chunk = source(0, 3 * per_epoch)
    np.testing.assert_array_equal(chunk["x"], -chunk["y"])
    epochs = chunk["x"].reshape(3, per_epoch * size)
    assert all(len(set(epoch)) == per_epoch * size for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    np.testing.assert_array_equal(source(2, 5)["x"], chunk["x"][2:5] if per_epoch > 1 else source(2, 5)["x"])
    other = training.shuffled({"x": np.arange(10), "y": -np.arange(10)}, size, seed + 1)(0, 1)["x"]
    assert not np.array_equal(other, chunk["x"][:1])


def test_shuffled_refuses_what_it_cannot_batch():
    with pytest.raises(ValueError, match="the same number of examples"):
        training.shuffled({"x": np.arange(10), "y": np.arange(9)}, 2)
    with pytest.raises(ValueError, match="data has 10 examples, expected at least batch_size=11"):
        training.shuffled(np.arange(10), 11)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        training.shuffled(np.arange(10), 0)


def test_data_may_be_tensors_but_parameters_may_not():
    """Data is on the host, and becomes NumPy's; what needs a gradient or another device does not."""
    torch = pytest.importorskip("torch")
    data = torch.arange(12.0).reshape(6, 2)
    np.testing.assert_array_equal(training.shuffled(data, 3)(0, 2), training.shuffled(data.numpy(), 3)(0, 2))
    with pytest.raises(TypeError, match=r"data\['x'\] must be what NumPy makes an array of, got torch.float32\[6\]"):
        training.shuffled({"x": torch.ones(6, requires_grad=True)}, 3)
    with pytest.raises(TypeError, match=r"params\['w'\] must be an array, got torch.float32\[2\]"):
        training.fit(loss, {"w": torch.ones(2)}, OPTIMIZER, batches, 10)
    with pytest.raises(TypeError, match="carry must be an array, got torch"):
        fit(carry=torch.zeros(8, 4))
    with pytest.raises(TypeError, match=r"optimizer must be an optax.GradientTransformation, .*, got Adam"):
        training.fit(loss, make(), torch.optim.Adam([torch.ones(1)]), batches, 10)
