"""`variance` and `costs`: what they measure on, and that their commands leave what they say."""

import json

import jax
import numpy as np
import pytest

from experiments.gradients import costs, variance
from experiments.gradients.__main__ import main


def test_the_string_is_asked_for_once_it_has_been_shown():
    xs, ys = variance.copy_task(jax.random.key(0), 3)
    shown = np.asarray(xs).argmax(1)
    assert set(shown[:3]) <= {0, 1}
    assert shown[3:].tolist() == [3, 2, 2, 2]
    assert np.asarray(ys["symbol"])[4:].tolist() == shown[:3].tolist()
    np.testing.assert_allclose(ys["weight"], [0, 0, 0, 0, 1 / 3, 1 / 3, 1 / 3])


def test_intervals_hold_the_mean_as_often_as_they_say():
    """Of exponential numbers, 100 times: a bootstrap of 100 draws is a little too sure of itself."""
    rng = np.random.default_rng(1)
    found = [variance.interval(rng, rng.exponential(size=100)) for _ in range(100)]
    assert 86 <= sum(each.low < 1 < each.high for each in found) <= 99
    ratio = variance.interval(rng, 3 * rng.exponential(size=4000), rng.exponential(size=4000))
    assert ratio.low < 3 < ratio.high
    assert ratio.high - ratio.low < 0.4


@pytest.mark.slow
def test_variance_leaves_its_files(tmp_path, capsys):
    sizes = ["--hidden", "4", "--longest", "1", "--trained", "10", "--draws", "20"]
    assert main(["variance", *sizes, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "variance.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((tmp_path / "variance.json").read_text())
    for name in ("untrained", "after 10 updates"):
        assert set(results[name]["variance"]) == set(variance.ALGORITHMS)
        assert results[name]["variance"]["OK of rank 8"][0]["value"] < 1e-9  # exact for T = 3
        assert 0 < results[name]["ratio"]["OK / KF-RTRL"][0]["value"] < 1
    assert "KF-RTRL / UORO" in capsys.readouterr().out


@pytest.mark.slow
def test_costs_are_a_table_of_every_algorithm(tmp_path, capsys):
    assert main(["costs", "--sizes", "2", "--steps", "3", "--out", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    results = json.loads((tmp_path / "costs.json").read_text())["costs"]
    for name in costs.ALGORITHMS:
        assert f"| `{name}` |" in table
        assert results[name]["2"]["milliseconds"] > 0
        assert results[name]["2"]["bytes"] > 0
