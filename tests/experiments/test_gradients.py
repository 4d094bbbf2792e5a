"""The gradients experiment: what its commands find, print and leave behind."""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _run
from experiments.gradients import __main__ as command
from experiments.gradients import compare, derive, explode, networks, powers, recall
from experiments.gradients.__main__ import main

from ..marks import slow_but

TINY = ["--steps", "6", "--hidden", "4", "--distances", "3", "1", "--training-steps", "2", "--networks", "2"]


def problem(**sizes):
    return derive.make_problem(
        argparse.Namespace(**{"steps": 3, "inputs": 2, "hidden": 3, "outputs": 2, "seed": 1, **sizes})
    )


@pytest.mark.parametrize("loss", slow_but(("cross-entropy",), derive.LOSSES))
def test_terms_are_derivatives_of_untied_weights(loss):
    """∂L_t/∂W at s is the derivative with respect to a W of its own for step s, of the loss at t alone."""
    weights, xs, targets = problem()
    found = derive.derive(loss, weights, xs, targets)

    def loss_at(t, untied):
        U, W, V, b, c = untied  # noqa: N806
        h = jnp.zeros(3)
        for s in range(t + 1):
            h = jnp.tanh(U[s] @ xs[s] + W[s] @ h + b[s])
        y = jax.nn.softmax(V[t] @ h + c[t])
        return -jnp.sum(targets[t] * jnp.log(y)) if loss == "cross-entropy" else 0.5 * jnp.sum((y - targets[t]) ** 2)

    with jax.enable_x64(True):
        untied = [jnp.stack([a] * len(xs)) for a in weights]
        for t in range(len(xs)):
            exact = jax.jit(jax.grad(loss_at, argnums=1), static_argnums=0)(t, untied)
            exact = dict(zip(derive.Weights._fields, exact, strict=True))
            for name in ("U", "W", "b"):
                np.testing.assert_allclose(getattr(found.terms, name)[t], exact[name], rtol=1e-12, atol=1e-15)
            for name in ("V", "c"):
                np.testing.assert_allclose(getattr(found.terms, name)[t], exact[name][t], rtol=1e-12, atol=1e-15)


def test_sums_of_terms_are_jax_grad():
    for loss in derive.LOSSES:
        found = derive.derive(loss, *problem(steps=9, hidden=5))
        assert max(found.deviation.values()) < 1e-13
        for ours, theirs in zip(found.totals(), found.by_jax, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.slow
def test_derive_prints_every_term_and_leaves_its_files(tmp_path, capsys):
    assert main(["derive", "--out", str(tmp_path)]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {"derive.png", "derive.json"}
    assert (tmp_path / "derive.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((tmp_path / "derive.json").read_text())
    assert results["arguments"]["steps"] == 4
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 120
    for loss in derive.LOSSES:
        assert f"=== {loss}: " in out
        found = results["losses"][loss]
        for name in "UWVbc":
            terms, total = np.array(found["terms"][name]), np.array(found["sums"][name])
            np.testing.assert_allclose(terms.sum(axis=(0, 1) if name in "UWb" else 0), total)
            np.testing.assert_allclose(total, found["jax_grad"][name], rtol=1e-10, atol=1e-15)
        for norms in np.array(found["term_norms"]["W"]):
            assert "".join(f"{norm:10.2e}" for norm in norms[norms > 0]) in out
        for row in found["sums"]["W"]:
            assert "".join(f"{value:8.4f}" for value in row) in out


@pytest.mark.slow
def test_derive_of_one_step_and_of_many(tmp_path, capsys):
    """One unit and one step: no gradient of W at all, as h_0 = 0; and tables that do not fit are left out."""
    ones = ["--steps", "1", "--inputs", "1", "--hidden", "1", "--outputs", "1"]
    assert main(["derive", *ones, "--out", str(tmp_path / "one")]) == 0
    assert main(["derive", "--steps", "40", "--out", str(tmp_path / "many")]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 120
    assert "too many to print, in derive.json" in out


def test_derive_fails_where_the_sums_are_not_the_gradient(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(derive, "_output_error", lambda loss, weights, h, target: np.ones(2))
    assert main(["derive", "--steps", "2", "--hidden", "2", "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("gradients derive: error: with the loss cross-entropy, the sums for U, W, V, b, c are not")
    assert error.count("\n") == 1


@pytest.mark.parametrize("factor", powers.FACTORS)
def test_powers_as_gradients(factor):
    expected = factor ** np.arange(powers.STEPS, -1, -1)
    np.testing.assert_allclose(powers.norms(factor, 1, seed=0), expected, rtol=1e-12)
    np.testing.assert_allclose(powers.norms(factor, powers.UNITS, seed=0), expected, rtol=1e-11)


def test_the_notes_numbers():
    assert powers.norms(1.01, 1, 0)[0] == pytest.approx(37.78343433288728, rel=1e-12)
    assert powers.norms(0.99, 1, 0)[0] == pytest.approx(0.02551796445229112, rel=1e-12)


def test_the_rnn_stays_below_the_bound_of_its_singular_value():
    for gain in (0.9, 1.0, 1.1, 1.5):
        curve = networks.curve(f"rnn-orthogonal-{gain}", steps=20, hidden=8, seed=0)
        assert curve.factor == pytest.approx(gain, rel=1e-12)
        assert (curve.norms <= curve.factor ** np.arange(19, -1, -1) * (1 + 1e-12)).all()
        assert curve.norms[-1] == pytest.approx(1, rel=1e-12)


def test_initialisations_do_what_they_say(x64):
    gru = networks.init("gru-update-3.0", 4, jax.random.key(0))
    np.testing.assert_array_equal((gru.bias_ih + gru.bias_hh)[4:8], 3)
    lstm = networks.init("lstm-forget-1.0", 4, jax.random.key(0))
    np.testing.assert_array_equal((lstm.bias_ih + lstm.bias_hh)[4:8], 1)
    rnn = networks.init("rnn-orthogonal-1.1", 4, jax.random.key(0)).weight_hh
    np.testing.assert_allclose(rnn @ rnn.T, 1.21 * np.eye(4), atol=1e-12)


def test_the_first_token_alone_decides():
    tokens, labels = recall.draw(jax.random.key(0), 50, 7)
    kinds = np.asarray(tokens.argmax(axis=-1))
    np.testing.assert_array_equal(kinds[0], labels)
    assert set(kinds[0]) == set(range(recall.LABELS))
    assert kinds[1:].min() >= recall.LABELS


@pytest.mark.slow
def test_recall_of_a_near_token_is_learnt_and_chrono_is_what_reaches_far():
    assert (recall.accuracies("rnn", 2, 30, steps=250, networks=2, seed=0) > 0.95).all()
    assert recall.accuracies("lstm", 30, 30, steps=250, networks=2, seed=0).max() < 0.5
    assert (recall.accuracies("lstm-chrono", 30, 30, steps=250, networks=2, seed=0) > 0.95).all()


@pytest.mark.slow
def test_explode_leaves_its_files(tmp_path, capsys):
    assert main(["explode", *TINY, "--out", str(tmp_path)]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {"explode.png", "explode.json"}
    assert (tmp_path / "explode.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((tmp_path / "explode.json").read_text())
    assert results["powers"]["1.01"]["norms_from_h_0"]["one unit"][0] == pytest.approx(1.01**365, rel=1e-12)
    assert list(results["networks"]) == list(networks.INITIALISATIONS)
    assert all(len(network["norms_from_h_1"]) == 6 for network in results["networks"].values())
    assert {name: list(found["accuracies"]) for name, found in results["recall"].items()} == {
        name: ["1", "3"] for name in recall.NETWORKS
    }
    assert np.shape(results["recall"]["rnn"]["accuracies"]["3"]) == (2,)
    out = capsys.readouterr().out
    assert "1.01^365 = 37.783434332887, dh_T/dh_0 by jax.grad 37.783434332887" in out

    before = (tmp_path / "explode.json").read_bytes()
    assert main(["explode", *TINY, "--out", str(tmp_path)]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (tmp_path / "explode.json").read_bytes() == before


def interrupted(*args):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("module", "function", "powers_done", "networks_done", "recall_done"),
    [
        pytest.param(explode.powers, "norms", 0, 0, {}, marks=pytest.mark.slow),
        (explode.networks, "curve", 2, 0, {}),
        pytest.param(
            *(explode.recall, "accuracies", 2, 12, {"rnn": {"label": "rnn", "accuracies": {}}}), marks=pytest.mark.slow
        ),
    ],
    ids=["powers", "networks", "recall"],
)
def test_explode_interrupted_leaves_what_is_there(
    tmp_path, monkeypatch, module, function, powers_done, networks_done, recall_done
):
    monkeypatch.setattr(module, function, interrupted)
    assert main(["explode", *TINY, "--out", str(tmp_path)]) == _run.STATUS["interrupted"]
    results = json.loads((tmp_path / "explode.json").read_text())
    assert (len(results["powers"]), len(results["networks"])) == (powers_done, networks_done)
    assert results["recall"] == recall_done
    assert (tmp_path / "explode.png").exists()


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_command_has_help_and_a_folder_of_its_own(name, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert f"runs/gradients/{name}" in out
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize("options", [[], ["implode"], ["explode", "--distances", "0"], ["derive", "--hidden", "x"]])
def test_bad_options_exit_with_2(options, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(options)
    assert exit_.value.code == 2
    assert "error" in capsys.readouterr().err


def test_echo_says_what_came_before():
    xs, ys = compare.echo(jax.random.key(0), 40)
    x = np.asarray(xs[:, 0])
    assert set(x) == {-1.0, 1.0}
    for t in range(40):
        assert ys[t] == sum(weight * x[t - delay] for delay, weight in compare.DELAYS.items() if t >= delay)


@pytest.mark.slow
def test_compare_measures_every_algorithm_and_leaves_its_files(tmp_path, capsys):
    sizes = ["--hidden", "3", "--steps", "6", "--batch", "2", "--trained", "2", "--repeats", "3", "--seconds", "1"]
    assert main(["compare", *sizes, "--out", str(tmp_path)]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {"compare.png", "quality.png", "compare.json"}
    results = json.loads((tmp_path / "compare.json").read_text())
    out = capsys.readouterr().out
    for name in compare.ALGORITHMS:
        assert name in out
        exact = results["quality"]["algorithms"][name]["total"]["relative_error"] < 1e-5
        assert exact == (name in {"bptt", "bptt sqrt", "bptt revolve", "tbptt 5, 20", "rtrl"})
        curve = results["learning"][name]
        assert len(curve["losses"]) == len(curve["seconds"]) >= 1
    # Equal parameters and data: whatever the algorithm, the first loss is the same.
    assert len({round(curve["losses"][0], 5) for curve in results["learning"].values()}) == 1
