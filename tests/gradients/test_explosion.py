"""What overflows and is not seen has no part in a gradient, and a stream goes on after it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import gradients

from .problems import assert_close

FORWARD = {"rtrl": gradients.rtrl, "snap": gradients.snap}
LEARNERS = {"rtrl": gradients.online.rtrl, "snap": gradients.online.snap}


def chaotic(w, s, x):
    """The logistic map, at 3.999 with 0.69 nats a step; its influence overflows after 130 steps."""
    return w * s * (1 - s) + 0 * x


def restarted(w, s, inputs):
    x, done = inputs
    return chaotic(w, jnp.where(done, jnp.array([0.3, 0.6]), s), x)


def first_unit(w, s, y):
    return y * s[0] ** 2


START, W = jnp.array([0.3, 0.6], jnp.float32), jnp.full(2, 3.999, jnp.float32)
EARLY = gradients.Problem(chaotic, first_unit), (W, START, jnp.zeros(200), jnp.where(jnp.arange(200) < 10, 1.0, 0.0))


@pytest.mark.parametrize("name", FORWARD)
def test_zero_cotangents_meet_an_influence_that_has_overflowed(name):
    problem, args = EARLY
    assert_close(FORWARD[name](problem, *args), gradients.bptt(problem, *args), 1e-5)
    many = jax.vmap(functools.partial(FORWARD[name], problem, W))(*jax.tree.map(lambda a: jnp.stack([a, a]), args[1:]))
    assert_close(many.grads[1], gradients.bptt(problem, *args).grads, 1e-5)


def test_one_unit_overflows_and_the_loss_sees_the_other():
    """SnAp has the two in blocks of their own; RTRL multiplies what each parameter does by all of ∂s_t/∂s_{t-1}."""

    def step(w, s, x):
        return jnp.where(jnp.array([True, False]), w * s + x, chaotic(w, s, x))

    problem = gradients.Problem(step, first_unit)
    args = jnp.array([0.5, 3.999], jnp.float32), START, jnp.ones(150), jnp.ones(150)
    exact = gradients.bptt(problem, *args)
    assert bool(jnp.isfinite(exact.grads).all())
    assert_close(gradients.snap(problem, *args), exact, 1e-5)
    assert_close(gradients.rtrl(problem, *args).grads[0], exact.grads[0], 1e-5)


def test_what_is_seen_of_it_is_not_hidden():
    problem, (w, s, xs, _) = EARLY
    for algorithm in FORWARD.values():
        assert not bool(jnp.isfinite(algorithm(problem, w, s, xs, jnp.ones(200)).grads[0]))


@pytest.mark.parametrize("name", FORWARD)
def test_an_episode_begins_anew_after_an_overflow(name):
    problem = gradients.Problem(restarted, first_unit)
    done = jnp.zeros(320, bool).at[300].set(True)
    args = W, START, (jnp.zeros(320), done), jnp.where(jnp.arange(320) >= 310, 1.0, 0.0)
    alone = gradients.bptt(EARLY[0], W, START, jnp.zeros(20), args[-1][300:])
    assert_close(FORWARD[name](problem, *args), alone, 1e-5)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_forgets_what_has_overflowed(name):
    """As the package's README says it."""
    problem, (w, s, xs, _) = EARLY
    learner = LEARNERS[name](problem)

    def update(carry, x):
        carry, _, grads = learner.update(w, carry, x, 1.0)
        is_finite = jnp.all(jnp.isfinite(grads))
        fresh = learner.init(w, carry.state, x)
        return jax.tree.map(functools.partial(jnp.where, is_finite), carry, fresh), jnp.where(is_finite, grads, 0)

    _, grads = jax.lax.scan(update, learner.init(w, s, xs[0]), jnp.zeros(1000))
    seen = np.asarray(grads[:, 0])
    assert np.isfinite(seen).all()
    assert 1 <= np.sum(seen == 0) <= 10  # once in 130 steps
    assert np.all(seen[-3:] != 0)


def test_uoro_without_a_cotangent_gives_nothing():
    problem, (w, s, xs, ys) = EARLY
    value, grads, _ = gradients.uoro(problem, w, s, xs, ys, key=jax.random.key(0))
    assert bool(jnp.isfinite(value) & jnp.isfinite(grads).all())
