"""The dynamics experiments: theory, the task, and that the commands leave what they say."""

import json
import math

import numpy as np
import pytest
from scipy.integrate import quad

from experiments.dynamics import flip_flop, mean_field, training
from experiments.dynamics.__main__ import main


def normal(function):
    """∫Dz, by another quadrature."""
    return quad(lambda z: function(z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi), -12, 12)[0]


@pytest.mark.parametrize("gain", [1.1, 1.5, 3.0])
def test_mean_field_theory_is_self_consistent(gain):
    sigma = math.sqrt(mean_field.variance(gain))
    assert math.isclose(sigma**2, gain**2 * normal(lambda z: math.tanh(sigma * z) ** 2), rel_tol=1e-8)
    slope = gain**2 * normal(lambda z: (1 - math.tanh(sigma * z) ** 2) ** 2)
    assert math.isclose(mean_field.largest_exponent(gain), 0.5 * math.log(slope), rel_tol=1e-7)


def test_mean_field_theory_crosses_zero_at_one():
    assert math.isclose(mean_field.largest_exponent(0.5), math.log(0.5))
    assert mean_field.largest_exponent(1.0) == 0
    assert 0 < mean_field.largest_exponent(1.05) < 0.05


def test_the_flip_flop_says_what_it_last_heard():
    xs, ys = flip_flop.draw(np.random.default_rng(0), 50, 4, 3)
    assert np.abs(xs[0]).min() == 1
    last = xs[0]
    for x, y in zip(xs, ys, strict=True):
        last = np.where(x == 0, last, x)
        np.testing.assert_array_equal(y, last)
    assert 0.05 < np.mean(xs[1:] != 0) < 0.2


def test_where_a_training_breaks():
    losses = [1.0, 0.2, 0.1, 0.15, 0.9, 0.1]
    exponents = [-0.1, -0.2, 0.1, 0.2, 0.3, 0.1]
    course = training.Course(
        [10, 20, 30, 40, 50, 60],
        [np.full((1, 4), value) for value in exponents],
        [np.array([value]) for value in losses],
        [np.ones(1)] * 6,
    )
    finding = training._finding(course, np.full((1, 4), -0.1), 0)
    assert (finding.broke, finding.least, finding.chaotic) == (50, 0.1, 30)
    assert "broke by step 50" in training.verdict(finding)
    assert "it said so before" in training.verdict(finding)
    late = training._finding(course._replace(exponents=[np.full((1, 4), -0.1)] * 6), np.full((1, 4), -0.1), 0)
    assert "never above 0: it did not say so" in training.verdict(late)


@pytest.mark.slow
def test_spectrum_leaves_its_files(tmp_path, capsys):
    sizes = ["--sizes", "16", "32", "--networks", "2", "--warmup", "20", "--steps", "40"]
    assert main(["spectrum", *sizes, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "spectrum.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((tmp_path / "spectrum.json").read_text())
    assert len(results["largest"]["32"]["means"]) == len(results["gains"])
    assert len(results["spectra"]["4"]["2.0"]["exponents"]) == 4
    assert "theory, N -> ∞" in capsys.readouterr().out


@pytest.mark.slow
def test_training_leaves_its_files(tmp_path, capsys):
    assert main(["training", "--hidden", "4", "--steps", "4", "--every", "2", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((tmp_path / "training.json").read_text())
    assert results["after_steps"] == [2, 4]
    assert [network["gain"] for network in results["networks"]] == list(training.GAINS)
    assert "did not learn, nor break" in capsys.readouterr().out


@pytest.mark.slow
def test_one_bit_is_held_by_two_stable_points(tmp_path, capsys):
    options = ["--bits", "1", "--hidden", "8", "--steps", "600", "--candidates", "60"]
    assert main(["fixedpoints", *options, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "fixedpoints.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((tmp_path / "fixedpoints.json").read_text())
    assert results["held"] == 2
    assert "2 of the 2 combinations of bits are held" in capsys.readouterr().out


def test_an_interval_that_does_not_divide_is_one_line(tmp_path, capsys):
    assert main(["training", "--steps", "10", "--every", "3", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["spectrum", "--sizes", "16", "16", "--out", str(tmp_path / "run")]) == 2
    assert "--sizes must have two different ones at least, got 16" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
