"""The digits experiment: what it holds out, what it learns, and the gradients that it shows."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from experiments import _run
from experiments.digits.__main__ import FILES, NAMES, main
from experiments.digits.data import Examples, Split, load
from experiments.digits.model import CELLS, Classifier, CrossEntropy, gradient_norms
from experiments.digits.train import train

from ..marks import slow_but


def test_a_fifth_of_each_digit_is_held_out():
    images, labels = load_digits(return_X_y=True)
    split = load("rows")
    assert [len(part.labels) for part in split] == [1437, 360]
    together = np.concatenate([part.xs for part in split]).reshape(-1, 64) * 16
    expected = np.column_stack([images, labels])
    found = np.column_stack([together, np.concatenate([part.labels for part in split])])
    np.testing.assert_array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])  # all, each once
    np.testing.assert_allclose(np.bincount(split.test.labels), np.bincount(labels) / 5, atol=1)


def test_the_forms_read_the_same_images():
    for rows, pixels in zip(load("rows"), load("pixels"), strict=True):
        assert rows.xs.shape[1:] == (8, 8)
        assert pixels.xs.shape[1:] == (64, 1)
        np.testing.assert_array_equal(rows.xs.reshape(-1, 64, 1), pixels.xs)
        np.testing.assert_array_equal(rows.labels, pixels.labels)


@pytest.mark.slow
def test_rows_with_a_gru_reach_97_percent():
    run = train(Classifier("gru", 8, 128), load("rows"), epochs=40, seed=0)
    assert run.test_accuracy[-1] >= 0.97


def test_nothing_is_learnt_from_the_test_part():
    split = load("rows")
    nonsense = Split(split.train, Examples(1 - split.test.xs, split.test.labels))
    model = Classifier("rnn", 8, 4)
    runs = [train(model, s, epochs=2, seed=0) for s in (split, nonsense)]
    np.testing.assert_array_equal(*(run.norms_after["h"] for run in runs))
    assert runs[0].test_accuracy[-1] != runs[1].test_accuracy[-1]


@pytest.mark.parametrize("cell", slow_but(("lstm",), CELLS))
def test_gradient_norms_are_finite_differences(x64, cell):
    """Of the loss as a function of one example's state after step t, the rest of the sequence run from there."""
    model, rng = Classifier(cell, 2, 3), np.random.default_rng(0)
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(0, 0.7, a.shape)), _run.init(model, jax.random.key(0)))
    xs, labels = rng.normal(size=(2, 5, 2)), np.array([3, 8])
    norms = gradient_norms(model, params, Examples(xs, labels))
    assert list(norms) == (["h", "c"] if cell == "lstm" else ["h"])

    def loss_from(state, example, t):
        for x in jnp.asarray(xs[example, t:]):
            state = model.cell.step(params["cell"], state, x)
        logits = model.linear.apply(params["linear"], model.cell.output(state))
        return -jax.nn.log_softmax(logits)[labels[example]]

    def difference_norms(example, t):
        state = model.cell.initial_state(params["cell"])
        for x in jnp.asarray(xs[example, :t]):
            state = model.cell.step(params["cell"], state, x)
        leaves, tree = jax.tree.flatten(state)
        found = []
        for index, leaf in enumerate(leaves):
            sides = [
                [
                    loss_from(jax.tree.unflatten(tree, [*leaves[:index], leaf + e, *leaves[index + 1 :]]), example, t)
                    for e in sign * 1e-6 * np.eye(3)
                ]
                for sign in (1, -1)
            ]
            found.append(np.linalg.norm(np.subtract(*sides) / 2e-6))
        return found

    for t in (1, 5):
        expected = np.mean([difference_norms(example, t) for example in range(2)], axis=0)
        np.testing.assert_allclose([values[t - 1] for values in norms.values()], expected, rtol=1e-6, atol=1e-9)


def test_a_plain_rnn_s_gradient_vanishes_over_64_steps():
    split, model = load("pixels"), Classifier("rnn", 1, 128)
    norms = gradient_norms(model, _run.init(model, jax.random.key(0)), Examples(*(a[:32] for a in split.train)))["h"]
    assert norms[0] < 1e-12 < 0.1 < norms[-1]


def test_the_loss_is_the_mean_cross_entropy_of_the_last_state():
    model, split = Classifier("lstm", 8, 5), load("rows")
    params = _run.init(model, jax.random.key(1))
    batch = Examples(*(a[:3] for a in split.train))
    value, (carry, metrics) = CrossEntropy(model)(params, None, batch, jax.random.key(0))
    losses, right = [], []
    for xs, label in zip(jnp.asarray(batch.xs), batch.labels, strict=True):
        state = model.cell.initial_state(params["cell"])
        for x in xs:
            state = model.cell.step(params["cell"], state, x)
        logits = params["linear"]["weight"] @ state.h + params["linear"]["bias"]
        losses.append(-jax.nn.log_softmax(logits)[label])
        right.append(int(logits.argmax()) == label)
    np.testing.assert_allclose(value, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], np.mean(right), rtol=1e-6)
    assert carry is None


@pytest.mark.slow
def test_a_run_leaves_its_files(tmp_path, capsys):
    options = ["--hidden", "4", "--epochs", "2", "--out", str(tmp_path)]
    assert main([*options, "--cell", "rnn"]) == 0
    assert {str(file.relative_to(tmp_path)) for file in tmp_path.iterdir()} == {
        "digits.png",
        "summary.json",
        "rows-rnn",
        "pixels-rnn",
    }
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")
    summary = json.loads((tmp_path / "summary.json").read_text())
    for name, steps in (("rows-rnn", 8), ("pixels-rnn", 64)):
        rows = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        run = summary["runs"][name]
        assert sum("loss" in row for row in rows) == 2 * (1437 // 32)
        assert [row["test_accuracy"] for row in rows if "test_accuracy" in row] == run["test_accuracy"]
        assert np.shape(run["gradient_norms_at_initialisation"]["h"]) == (steps,)
        assert np.shape(run["gradient_norms_after_training"]["h"]) == (steps,)
        assert (tmp_path / name / "checkpoints" / "00000088").is_dir()
    assert "rows, rnn: test accuracy" in capsys.readouterr().out

    before = (tmp_path / "summary.json").read_bytes()
    assert main([*options, "--cell", "gru"]) == 2
    error = capsys.readouterr().err
    assert "already holds a run" in error
    assert error.count("\n") == 1
    assert (tmp_path / "summary.json").read_bytes() == before

    assert main([*options, "--cell", "rnn", "--form", "rows", "--overwrite"]) == 0
    assert not (tmp_path / "pixels-rnn" / "metrics.jsonl").exists()  # nothing of the run before is left


def test_all_is_every_form_with_every_cell():
    assert len(NAMES) == 6
    assert {f"{name}/metrics.jsonl" for name in NAMES} < set(FILES)


@pytest.mark.parametrize(
    "options", [["--form", "columns"], ["--cell", "mgu"], ["--hidden", "0"], ["--epochs", "1.5"], ["--seed", "-1"]]
)
def test_bad_options_exit_with_2(options, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(options)
    assert exit_.value.code == 2
    assert options[0] in capsys.readouterr().err
