"""Memory of inputs and of states, where it is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import dynamics

from .systems import driven, loop, scale


def shift(w, h, x):
    return jnp.concatenate([x, h[:-1]])


def leak(w, h, x):
    return w * h + x


def noise(steps, columns=1):
    return np.random.default_rng(0).normal(size=(steps, columns))


def test_a_shift_register_remembers_as_many_as_it_has(x64):
    found = dynamics.memory_capacity(shift, (), jnp.zeros(4), noise(3000), delays=8)
    np.testing.assert_allclose(found[:4, 0], 1, atol=1e-10)
    assert np.abs(found[4:]).max() < 5 / 3000**0.5
    assert abs(np.sum(found) - 4) < 0.05


def test_one_leaky_number(x64):
    """h_t = Σ w^k x_{t-k}: R²_k = (1 - w²) w^2k."""
    found = dynamics.memory_capacity(leak, jnp.array([0.8]), jnp.zeros(1), noise(100_000), delays=5, warmup=50)
    np.testing.assert_allclose(found[:, 0], 0.36 * 0.64 ** np.arange(5), atol=0.01)


def test_chance_is_taken_off(x64):
    """Of 50 numbers that know nothing, least squares from 200 times would explain a quarter."""
    step = lambda w, h, x: x[1:]  # noqa: E731
    xs = noise(200, 51)
    found = dynamics.memory_capacity(step, (), jnp.zeros(50), xs, delays=3)
    assert np.abs(found[:, 0]).mean() < 0.15
    np.testing.assert_allclose(found[0, 1:], 1, atol=1e-10)


def test_against_least_squares_in_numpy(x64):
    cell, params, state, xs = driven("gru", steps=60)
    states = []
    for x in xs:
        state = cell.step(params, state, x)
        states.append(state)
    regressors = np.column_stack([np.array(states)[9:], np.ones(51)])
    target = np.asarray(xs)[7:58, 1]
    rest = target - regressors @ np.linalg.lstsq(regressors, target)[0]
    expected = 1 - (rest @ rest / 46) / (np.var(target, ddof=1))
    state = jnp.asarray(np.asarray(driven("gru")[2]))
    found = dynamics.memory_capacity(cell, params, state, xs, delays=3, warmup=9)
    np.testing.assert_allclose(found[2, 1], expected, rtol=1e-9)


def test_influence_decays_as_the_slowest_mode(x64):
    decay = dynamics.influence_decay(leak, jnp.array([0.9, 0.2]), jnp.zeros(2), jnp.zeros((100, 2)), lags=30)
    np.testing.assert_allclose(decay.norms, 0.9 ** np.arange(1, 31), rtol=1e-10)
    np.testing.assert_allclose(decay.time_constant, -1 / np.log(0.9), rtol=1e-10)


def test_influence_is_the_mean_over_stretches(x64):
    cell, params, state, xs = driven("lstm", steps=25)
    matrices, logs = loop(cell, params, state, xs), np.zeros(6)
    for start in (4, 10, 16):
        product = np.eye(8)
        for k in range(6):
            product = matrices[start + k] @ product
            logs[k] += np.log(np.linalg.norm(product, 2)) / 3
    decay = dynamics.influence_decay(cell, params, state, xs, lags=6, warmup=4)
    np.testing.assert_allclose(decay.log_norms, logs, rtol=1e-9)
    np.testing.assert_allclose(decay.time_constant, -1 / np.polyfit(np.arange(6), logs, 1)[0], rtol=1e-9)


def test_beyond_what_float32_holds():
    w = jnp.full(1, 0.01, jnp.float32)
    decay = dynamics.influence_decay(scale, w, jnp.zeros(1, jnp.float32), None, lags=100, length=100)
    np.testing.assert_allclose(decay.log_norms[-1], 100 * np.log(0.01), rtol=1e-5)
    np.testing.assert_allclose(decay.time_constant, -1 / np.log(0.01), rtol=1e-5)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, np.inf), (0.0, 0.0), (2.0, -1 / np.log(2))])
def test_time_constants_of_what_does_not_decay(x64, factor, expected):
    decay = dynamics.influence_decay(scale, jnp.array([factor]), jnp.ones(1), None, lags=5, length=10)
    np.testing.assert_allclose(decay.time_constant, expected)


def test_both_are_a_vmap_over_states(x64):
    cell, params, _, xs = driven("rnn", steps=40)
    states = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4)))
    curves = jax.vmap(lambda h: dynamics.memory_capacity(cell, params, h, xs, delays=3))(states)
    decays = jax.jit(jax.vmap(lambda h: dynamics.influence_decay(cell, params, h, xs, lags=5).norms))(states)
    for h, curve, decay in zip(states, curves, decays, strict=True):
        np.testing.assert_allclose(curve, dynamics.memory_capacity(cell, params, h, xs, delays=3), rtol=1e-9)
        np.testing.assert_allclose(decay, dynamics.influence_decay(cell, params, h, xs, lags=5).norms, rtol=1e-9)


H, XS = jnp.ones(2), jnp.ones((5, 2))
ERRORS = {
    "few": (dynamics.memory_capacity, {"delays": 3}, r"xs has T = 5 time steps, of which warmup and delays leave 3"),
    "axes": (dynamics.memory_capacity, {"xs": XS[0], "delays": 1}, r"xs has shape \(2,\), expected \(T, I\)"),
    "no delay": (dynamics.memory_capacity, {"delays": 0}, "delays must be at least 1, got 0"),
    "lags": (dynamics.influence_decay, {"lags": 6}, "T is 5, of which warmup=0 leaves 5, below lags = 6"),
    "warmup": (dynamics.influence_decay, {"lags": 2, "warmup": 9}, "T is 5, of which warmup=9 leaves 0, below lags"),
    "one lag": (dynamics.influence_decay, {"lags": 1}, "lags must be at least 2, got 1"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    function, options, message = ERRORS[case]
    with pytest.raises((ValueError, TypeError), match=message):
        function(**{"step": scale, "params": H, "state": H, "xs": XS, **options})
