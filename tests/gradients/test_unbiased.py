"""Estimators by chance have the exact gradient as their mean; wrong ones would be found out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxrnn import gradients
from jaxrnn.gradients._algorithms import outer, uoro

from ..marks import few_of, slow_but
from .problems import assert_close, make_problem

pytestmark = pytest.mark.usefixtures("x64")


def projections(size):
    """20 fixed unit directions."""
    directions = np.random.default_rng(12345).normal(size=(20, size))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def z_scores(estimate, exact, draws):
    """By how many standard errors the mean of an estimator misses, along each direction; the largest error itself."""
    exact = ravel_pytree(exact)[0]
    directions = jnp.asarray(projections(exact.size))

    @jax.jit
    def means(keys):
        one = jax.vmap(lambda key: directions @ ravel_pytree(estimate(key))[0])
        values = jax.lax.map(one, keys)
        return values.reshape(-1, len(directions))

    values = means(jax.random.split(jax.random.key(2024), (draws // 500, 500)))
    errors = values.std(0, ddof=1) / np.sqrt(len(values))
    return np.abs((values.mean(0) - directions @ exact) / errors), float(errors.max() / jnp.linalg.norm(exact))


def small_problem():
    """An Elman network of 4 units over 6 steps."""
    problem, (params, state, xs, ys) = make_problem("rnn")
    return problem, (params, state, xs[:6], jax.tree.map(lambda a: a[:6], ys))


ESTIMATORS = {
    "artbp": (functools.partial(gradients.artbp, cut=0.3), 20_000),
    "uoro": (functools.partial(gradients.uoro, samples=4), 20_000),
    "kf_rtrl": (gradients.kf_rtrl, 20_000),
    "ok": (gradients.ok, 20_000),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_unbiased(name):
    problem, args = small_problem()
    algorithm, draws = ESTIMATORS[name]
    exact = gradients.bptt(problem, *args)[1]
    scores, error = z_scores(lambda key: algorithm(problem, *args, key=key)[1], exact, draws)
    assert error <= 0.02
    assert scores.max() <= 4


def _zero(grads):
    return jax.tree.map(jnp.zeros_like, grads)


def _scaled(grads):
    return jax.tree.map(lambda a: 1.1 * a, grads)


def _one_dropped(grads):
    return grads | {"cell": grads["cell"]._replace(bias_ih=jnp.zeros_like(grads["cell"].bias_ih))}


SPOILT = {"zero": _zero, "scaled": _scaled, "one dropped": _one_dropped}


@pytest.mark.parametrize(("name", "spoilt"), few_of([("artbp", "scaled"), ("uoro", "one dropped")], ESTIMATORS, SPOILT))
def test_wrong_estimators_are_found_out(name, spoilt):
    problem, args = small_problem()
    algorithm, draws = ESTIMATORS[name]
    exact = gradients.bptt(problem, *args)[1]

    def estimate(key):  # a zero without any scatter would divide by 0
        grads = SPOILT[spoilt](algorithm(problem, *args, key=key)[1])
        return jax.tree.map(lambda a: a + 1e-9 * jax.random.normal(key, a.shape, a.dtype), grads)

    scores, _ = z_scores(estimate, exact, draws)
    assert scores.max() > 4


@pytest.mark.slow
def test_a_uoro_without_its_last_signs_is_found_out(monkeypatch):
    """The term of the present step, dropped from one of the two vectors."""
    monkeypatch.setattr(outer, "joined", lambda pushed, right, signs, immediate: (pushed + signs, right))
    problem, args = small_problem()
    uoro._learner.cache_clear()
    exact = gradients.bptt(problem, *args)[1]
    scores, _ = z_scores(lambda key: gradients.uoro(problem, *args, key=key, samples=3)[1], exact, 2_000)
    jax.clear_caches()
    assert scores.max() > 4


@pytest.mark.slow
def test_more_samples_are_the_mean_of_as_many():
    """uoro(samples=S) has 1/S of the variance."""
    problem, args = small_problem()
    exact = ravel_pytree(gradients.bptt(problem, *args)[1])[0]

    def variance(samples, draws):
        keys = jax.random.split(jax.random.key(1), draws)
        run = jax.vmap(lambda key: ravel_pytree(gradients.uoro(problem, *args, key=key, samples=samples)[1])[0])
        return float(np.sum((np.asarray(run(keys)) - np.asarray(exact)) ** 2) / draws)

    assert 0.7 <= 8 * variance(8, 2_000) / variance(1, 16_000) <= 1.4


@pytest.mark.parametrize("name", slow_but(("nested",), ["rnn", "gru", "lstm", "stack", "nested", "bare"]))
def test_every_step_gives_an_unbiased_estimate(name):
    """Within 4 standard errors on every kind of state, with fewer draws."""
    problem, args = make_problem(name)
    exact = gradients.bptt(problem, *args)[1]
    scores, _ = z_scores(lambda key: gradients.uoro(problem, *args, key=key, samples=4)[1], exact, 2_000)
    assert scores.max() <= 4


def test_keys_decide():
    problem, args = make_problem("lstm")
    run = functools.partial(gradients.uoro, problem, *args)
    first, again, other = (run(key=jax.random.key(k))[1] for k in (0, 0, 1))
    assert_close(first, again, 0)
    assert not np.allclose(first["cell"].weight_hh, other["cell"].weight_hh)
    assert_close(first["out"], gradients.bptt(problem, *args)[1]["out"], 1e-12)  # the read-out's gradient is exact
