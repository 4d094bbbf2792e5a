"""`remedies`: what it trains on, what becomes of seeds that diverge, flossing's claim, and the files that it leaves."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.dynamics import remedies, remedies_training
from experiments.dynamics.__main__ import main
from experiments.dynamics.delays import BLANK, GO, CopyMemory, Delayed
from experiments.dynamics.remedies_training import Recipe, Run, Setting, train


@pytest.mark.parametrize("delay", [2, 5, 20])
def test_delayed_copy_and_xor_ask_for_earlier_bits(delay):
    for is_xor in (False, True):
        task = Delayed(delay, is_xor)
        xs, labels = map(np.asarray, task.sample(jax.random.key(0), 50))
        assert xs.shape == (task.steps, 50, 1)
        assert set(np.unique(xs)) == {0, 1}
        bits = xs[..., 0].astype(int)
        for t in range(task.asked_from, task.steps):
            expected = bits[t - delay] ^ (bits[t - delay // 2] if is_xor else 0)
            np.testing.assert_array_equal(labels[t], expected)


def test_copy_memory_asks_for_the_symbols_after_the_sign():
    task = CopyMemory(7)
    xs, labels = map(np.asarray, task.sample(jax.random.key(0), 50))
    assert xs.shape == (27, 50, 10)
    np.testing.assert_array_equal(xs.sum(axis=-1), 1)
    symbols = xs.argmax(axis=-1)
    assert symbols[:10].max() == 7
    np.testing.assert_array_equal(np.argwhere(symbols == GO)[:, 0], 16)  # T - 1 blanks after the ten
    assert (symbols[10:16] == BLANK).all()
    assert (symbols[17:] == BLANK).all()
    assert (labels[: task.asked_from] == BLANK).all()
    np.testing.assert_array_equal(labels[task.asked_from :], symbols[:10])


def test_who_knows_nothing_has_the_loss_that_is_said():
    task = CopyMemory(20)
    _, labels = task.sample(jax.random.key(0), 4)
    certain = 50.0 * jax.nn.one_hot(jnp.full(labels.shape, BLANK), task.classes)
    guesses = jnp.where(
        jnp.arange(task.steps)[:, None, None] < task.asked_from, certain, certain.at[..., BLANK].set(-50)
    )
    losses = remedies_training._entropy(guesses, labels)
    np.testing.assert_allclose(losses.mean(), 10 * np.log(8) / 40, rtol=1e-5)


@pytest.mark.slow
def test_a_seed_that_is_not_finite_stays_and_is_no_number():
    setting, recipe = Setting(Delayed(2), "none", "rnn"), Recipe(3, 2, 2)
    seeds = remedies_training.Seeds(setting, recipe, jax.random.split(jax.random.key(0), 2))
    broken = seeds.params["cell"].weight_ih.at[1].set(jnp.nan)
    seeds.params = {**seeds.params, "cell": seeds.params["cell"]._replace(weight_ih=broken)}
    before = np.asarray(seeds.params["cell"].weight_hh)
    seeds.train(2)
    assert seeds.is_finite.tolist() == [True, False]
    after = np.asarray(seeds.params["cell"].weight_hh)
    assert (after[0] != before[0]).any()
    np.testing.assert_array_equal(after[1], before[1])
    found = remedies_training._held_out(seeds.network, seeds.params, seeds.is_finite, seeds.key_check, 2)
    for values in found:
        assert np.isfinite(values).tolist() == [True, False]
    run = Run(*([np.asarray(values)] for values in found), [2])
    outcome = remedies._outcome(run)
    assert outcome["diverged"] == 1
    assert np.isfinite(outcome["losses"][0])
    assert np.isnan(outcome["standard_errors"][0])


def test_solved_after_is_the_first_check_with_few_errors():
    run = Run([np.array([0.5, 0.01, np.nan]), np.array([0.04, 0.2, np.nan])], [np.zeros(3)] * 2, [100, 200])
    assert run.solved_after == [200, 100, None]


@pytest.mark.slow
def test_remedies_leaves_its_files(tmp_path, capsys):
    options = [
        "--cells",
        "rnn",
        "--remedies",
        "none",
        "floss",
        "--tasks",
        "xor",
        "copy",
        "--delay",
        "4",
        "--length",
        "2",
    ]
    sizes = ["--hidden", "4", "--batch", "2", "--steps", "2", "--seeds", "2", "--out", str(tmp_path)]
    assert main(["remedies", *options, *sizes]) == 0
    for name in ("remedies.png", "losses.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    runs = json.loads((tmp_path / "remedies.json").read_text())["runs"]
    assert [(run["task"], run["delay"], run["remedy"]) for run in runs] == [
        ("xor", 4, "none"),
        ("xor", 4, "floss"),
        ("copy", 2, "none"),
        ("copy", 2, "floss"),
    ]
    assert runs[0]["cost"] == 1
    assert runs[1]["cost"] > 1
    assert all(run["steps"] == [2] and len(run["last_losses"]) == 2 for run in runs)
    assert "0/2" in capsys.readouterr().out


@pytest.fixture
def optimised():
    """What runs for long is compiled as a user's programs are."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.full  # a minute; the experiment shows it
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("optimised")
def test_flossing_learns_what_a_plain_network_does_not():
    """Delayed XOR over 20 steps, 32 units, ten seeds: Engelken 2023."""
    keys = jax.random.split(jax.random.key(0), 10)
    plain, flossed = (
        train(Setting(Delayed(20, is_xor=True), remedy, "rnn"), Recipe(32, 16, 1000), keys)
        for remedy in ("none", "floss")
    )
    assert sum(after is not None for after in plain.solved_after) <= 1
    assert sum(after is not None for after in flossed.solved_after) >= 8


def test_bad_plans_are_one_line(tmp_path, capsys):
    out = ["--out", str(tmp_path / "run")]
    assert main(["remedies", "--cells", "rnn", "--remedies", "chrono", *out]) == 2
    assert "none of --remedies is for any of --cells" in capsys.readouterr().err
    assert main(["remedies", "--steps", "250", *out]) == 2
    assert "--steps must be below 100 or a multiple of it, got 250" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["remedies", "--delay", "1", *out])
    assert "expected a delay of at least 2, got '1'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
