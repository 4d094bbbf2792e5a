"""`charlm train --gradient`: by any algorithm of `jaxrnn.gradients`, resumed to the bit."""

import jax
import numpy as np
import pytest

from experiments._corpus import make_corpus, streams
from experiments.charlm.__main__ import main
from experiments.charlm.gradient import KINDS, canonical
from experiments.charlm.train import Config
from jaxrnn import training

from ..marks import slow_but
from .test_charlm import losses, metrics, train

LENGTH, BATCH = 10, 8


@pytest.mark.parametrize("dtype", slow_but(("float32",), ["float32", "bfloat16"]))
@pytest.mark.parametrize("name", slow_but(("snap",), KINDS))
def test_a_run_by_each_gradient_learns_and_can_be_read(text, tmp_path, capsys, name, dtype):
    options = [
        "--gradient",
        name,
        "--steps",
        40,
        "--evaluate-every",
        20,
        "--hidden",
        6,
        "--cell",
        "gru",
        "--lr",
        "2e-2",
        "--dtype",
        dtype,
    ]
    assert train(text, tmp_path, *options, "--embedding", 0) == 0
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]
    assert training.RunFolder(tmp_path).saved_config()["gradient"] == canonical(name)
    assert main(["eval", "--run", str(tmp_path), "--part", "test"]) == 0
    assert "nats" in capsys.readouterr().out


def step_of(gradient, layers):
    """Losses and gradients of four steps, the third where the streams begin anew; and the last state."""
    config = Config(gradient, "lstm", 5, layers, embedding=0, batch=BATCH, length=LENGTH)
    corpus = make_corpus("to be or not to be, that is the question. " * 20, (100.0, 0.0, 0.0))
    model = config.model(corpus.vocabulary)
    params = model.init(jax.random.key(1))
    objective, carry = config.objective(model), config.carry(model, params)
    if not isinstance(objective, training.StepGradient):
        objective = training.StepGradient(jax.value_and_grad(objective, has_aux=True))
    batches, found = streams(corpus.part("train"), BATCH, LENGTH, 0)(8, 12), []
    assert batches["begins"].any(axis=1).tolist() == [False, False, True, False]
    for step in range(4):
        batch = jax.tree.map(lambda a, step=step: a[step], batches)
        (value, (carry, _)), grads = jax.jit(objective.function)(params, carry, batch, jax.random.key(step))
        found.append((value, grads))
    return found, getattr(carry, "state", carry)


@pytest.mark.parametrize("layers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_windows_of_a_step_are_bptt(layers):
    """The states are carried and reset alike, the loss is the same mean, and so is its gradient."""
    (ours, state), (theirs, expected) = (step_of(name, layers) for name in (f"tbptt:k1={LENGTH},k2={LENGTH}", "bptt"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), ours, theirs)
    states = jax.tree.leaves(state), jax.tree.leaves(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), *states)


def test_an_influence_ends_where_its_stream_begins_anew():
    """RTRL is back-propagation to where the streams began, two steps before and after they begin anew."""
    (ours, _), (exact, _) = step_of("rtrl", 1), step_of(f"tbptt:k1=1,k2={2 * LENGTH}", 1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), ours, exact)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["snap", "uoro:samples=2", "tbptt:k1=7,k2=13"])
def test_a_run_resumes_to_the_bit(text, tmp_path, name):
    """Stopped between two propagations, its memory of the streams is in the checkpoint."""
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    options = ["--gradient", name, "--steps", 20, "--evaluate-every", 10, "--checkpoint-every", 10, "--hidden", 5]
    options += ["--embedding", 0]
    assert train(text, whole, *options) == 0
    assert train(text, halves, *options, "--keep", 5) == 0
    newest = halves / "checkpoints" / "00000020"
    newest.rename(tmp_path / "away")
    assert train(text, halves, *options, "--keep", 5, "--resume") == 0
    rows = [[{n: v for n, v in row.items() if n != "seconds"} for row in metrics(folder)] for folder in (whole, halves)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("said", "full"),
    [
        ("bptt", "bptt"),
        ("tbptt", "tbptt:k1=16,k2=64"),
        ("tbptt:k2=20", "tbptt:k1=16,k2=20"),
        ("artbp:cut=0.25", "artbp:cut=0.25"),
        ("rtrl", "rtrl"),
        ("snap:order=2", "snap:order=2"),
        ("uoro", "uoro:samples=1"),
    ],
)
def test_what_is_not_said_has_its_default(said, full):
    assert canonical(said) == full == canonical(full)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("adam", "expected bptt, tbptt, artbp, rtrl, snap, uoro, got 'adam'"),
        ("snap:k1=3", "snap has no argument 'k1', it has: order"),
        ("rtrl:order=2", "rtrl has no argument 'order', it has: none"),
        ("bptt:k1=3", "bptt has no argument 'k1', it has: none"),
        ("snap:order=two", "order of snap must be of type int, got 'two'"),
        ("tbptt:k1=5,k2=2", "k1 must be at most k2"),
        ("snap:order=0", "order must be at least 1, got 0"),
        ("artbp:cut=1", r"cut must lie in [0, 1), got 1.0"),
    ],
)
def test_bad_gradients_exit_with_2(said, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--gradient", said])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--embedding", "4"], ["--dropout", "0.1"], ["--tied"]])
def test_what_other_gradients_cannot_have_is_an_error(option, text, tmp_path, capsys):
    assert main(["train", "--text", str(text), "--out", str(tmp_path), "--gradient", "snap", *option]) == 2
    assert f"{option[0]} is for --gradient bptt alone, got --gradient snap:order=1" in capsys.readouterr().err
