"""Influence balancing (Tallec and Ollivier 2017): the short-term gradient points the wrong way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.gradients.balance import PROBLEM, influence, learn, learners, step
from jaxrnn import gradients

from ..marks import slow_but

UNITS, POSITIVE = 23, 10
SIGNS = np.array([1.0] * POSITIVE + [-1.0] * (UNITS - POSITIVE))
MATRIX = 0.5 * np.eye(UNITS) + 0.5 * np.eye(UNITS, k=1)
STEPS = 400


def influence_back(steps):
    """dh¹_t/dθ through the last steps alone: Σ_{j<k} (Aʲ s)₁."""
    return sum((np.linalg.matrix_power(MATRIX, j) @ SIGNS)[0] for j in range(steps))


def gradients_at(learner, theta):
    """What a learner gives at each step from h = 0, for a θ that stays; and the losses."""

    def update(carry, _):
        carry, value, gradient = learner.update(jnp.asarray(theta), carry, None, None)
        return carry, (gradient, value)

    start = learner.init(jnp.asarray(theta), jnp.zeros(UNITS), None, None)
    return [np.asarray(a) for a in jax.lax.scan(update, start, length=STEPS)[1]]


def exact(theta, back=STEPS):
    """The gradient of each step's loss, through at most `back` steps, by the recurrence written out."""
    h, found = np.zeros(UNITS), []
    for t in range(1, STEPS + 1):
        h = MATRIX @ h + theta * SIGNS
        found.append((h[0] - 1) * influence_back(min(t, back)))
    return np.array(found)


def test_the_step_is_the_paper_s(x64):
    h = np.random.default_rng(0).normal(size=UNITS)
    np.testing.assert_allclose(step(jnp.asarray(0.3), jnp.asarray(h), None), MATRIX @ h + 0.3 * SIGNS, rtol=1e-14)


def test_the_influence_changes_its_sign():
    """In all e₁ᵀ (I - A)⁻¹ s = -6; it is positive as far as 40 steps back."""
    whole = np.linalg.solve(np.eye(UNITS) - MATRIX, SIGNS)[0]
    assert influence() == pytest.approx(whole) == pytest.approx(-6)
    found = [influence(k) for k in range(1, 101)]
    np.testing.assert_allclose(found, [influence_back(k) for k in range(1, 101)], rtol=1e-12)
    assert min(found[:40]) > 0 > max(found[40:])
    np.testing.assert_allclose(found[:POSITIVE], np.arange(1, POSITIVE + 1))


@pytest.mark.slow
@pytest.mark.parametrize("truncation", [1, 10, 30])
def test_short_truncation_has_the_wrong_sign(x64, truncation):
    ours, _ = gradients_at(gradients.online.tbptt(PROBLEM, k1=1, k2=truncation), 0.1)
    np.testing.assert_allclose(ours, exact(0.1, truncation), rtol=1e-10)
    assert ours[-1] < 0 < exact(0.1)[-1]


@pytest.mark.parametrize("name", slow_but(("RTRL",), ["RTRL", "TBPTT(400)"]))
def test_the_exact_gradient_has_the_right_sign(x64, name):
    ours, values = gradients_at(learners([STEPS])[name], 0.1)
    np.testing.assert_allclose(ours, exact(0.1), rtol=1e-10)
    assert ours[-1] > 0
    np.testing.assert_allclose(values[-1], 0.5 * (0.1 * influence() - 1) ** 2, rtol=1e-6)  # at rest


def last_over_first(name, steps=20_000, keys=1):
    losses = learn(learners([1, 10, 100])[name], steps, 1e-5, jax.random.split(jax.random.key(0), keys)).losses
    assert losses.shape == (keys, steps)
    return losses[:, -1] / losses[:, 0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RTRL", "TBPTT(100)"])
def test_the_exact_gradient_learns(name):
    assert last_over_first(name) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["TBPTT(1)", "TBPTT(10)"])
def test_short_truncation_makes_the_loss_grow(name):
    assert last_over_first(name) > 2


@pytest.mark.slow
def test_uoro_learns():
    ratios = last_over_first("UORO", keys=9)
    assert np.median(ratios) < 1e-2
    assert (ratios < 0.5).all()


@pytest.mark.slow
def test_uoro_is_right_on_average():
    found = learn(learners([])["UORO"], 10, 1e-5, jax.random.split(jax.random.key(1), 32))
    assert found.standard_error < 1
    assert abs(found.gradient - 6) < 3 * found.standard_error
