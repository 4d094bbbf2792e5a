"""Lyapunov exponents against Gram and Schmidt in NumPy, closed forms and published values."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import dynamics
from jaxrnn.dynamics import _lyapunov

from ..marks import few_of, slow_but
from .systems import NAMES, driven, exponents, grown, henon, linear, loop, random_network, scale


@pytest.mark.parametrize("name", slow_but(("lstm",), NAMES))
def test_every_cell_against_gram_and_schmidt(x64, name):
    """From the same frame, so that no time is needed in which two would find the same directions."""
    cell, params, state, xs = driven(name, steps=60)
    frame = np.asarray(_lyapunov._frame(state, 2))
    expected = exponents(np.asarray(dynamics.jacobians(cell, params, state, xs)), frame, warmup=20)
    found = dynamics.lyapunov_spectrum(cell, params, state, xs, k=2, warmup=20)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_order_of_the_factors(x64):
    """Random matrices do not commute: J_T ... J_1 v grows by what one vector tells."""
    matrices = np.random.default_rng(0).normal(size=(60, 5, 5))
    step = lambda w, h, x: x @ h  # noqa: E731
    zeros = jnp.zeros(5)
    found = dynamics.lyapunov_spectrum(step, (), zeros, matrices, k=3)
    product = np.eye(5)
    for matrix in matrices:
        product = matrix @ product
    columns = _lyapunov._frame(zeros, 3)
    volumes = [np.log(np.linalg.svd(product @ columns[:, :i], compute_uv=False)).sum() for i in (1, 2, 3)]
    np.testing.assert_allclose(np.cumsum(found), np.array(volumes) / 60, rtol=1e-6)
    backwards = dynamics.lyapunov_spectrum(step, (), zeros, matrices[::-1], k=3)
    assert np.abs(found - backwards).max() > 1e-3


@pytest.mark.parametrize(("name", "every"), few_of([("gru", 1), ("rnn", 3)], ["rnn", "gru"], [1, 3]))
def test_the_sum_is_the_mean_log_determinant(x64, name, every):
    cell, params, state, xs = driven(name, steps=50)
    matrices = loop(cell, params, state, xs)[10:]
    found = dynamics.lyapunov_spectrum(cell, params, state, xs, warmup=10, every=every)
    np.testing.assert_allclose(np.sum(found), np.mean(np.log(np.abs(np.linalg.det(matrices)))), rtol=0, atol=1e-10)


def test_an_orthogonal_network_has_none_but_zeros(x64):
    w = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0]
    found = dynamics.lyapunov_spectrum(linear, w, jnp.zeros(16), jnp.zeros((1000, 16)))
    np.testing.assert_allclose(found, 0, rtol=0, atol=1e-12)


def test_at_a_fixed_point_they_are_the_logarithms_of_eigenvalues(x64):
    """Of h' = tanh(W h) at 0, W with real eigenvalues: once the frame has turned, to rounding."""
    rng = np.random.default_rng(0)
    vectors, values = rng.normal(size=(4, 4)), np.array([0.9, -0.7, 0.5, 0.3])
    w = vectors @ np.diag(values) @ np.linalg.inv(vectors)
    found = dynamics.lyapunov_spectrum(lambda w, h, x: jnp.tanh(w @ h), w, jnp.zeros(4), None, warmup=200, length=250)
    np.testing.assert_allclose(found, np.log(np.abs(values)), rtol=0, atol=1e-10)


def test_complex_eigenvalues_at_a_fixed_point(x64):
    """The frame turns for ever, so that the mean comes near as 1/T."""
    w = np.array([[0.5, -0.8, 0], [0.6, 0.4, 0.1], [0, 0, 0.2]])
    found = dynamics.lyapunov_spectrum(lambda w, h, x: w @ h, w, jnp.zeros(3), None, warmup=100, length=5100)
    np.testing.assert_allclose(found, np.log(np.sort(np.abs(np.linalg.eigvals(w)))[::-1]), rtol=0, atol=1e-3)


def test_the_henon_map(x64):
    """Published: 0.41922 and -1.62319, whose sum is log 0.3; dimension 1.2583 (Sprott 2003, appendix A)."""
    params, state = (1.4, 0.3), {"x": 0.1, "y": 0.1}
    found = dynamics.lyapunov(henon, params, state, None, warmup=100, length=100_100, blocks=20)
    assert np.all(np.abs(found.exponents - np.array([0.41922, -1.62319])) < 3 * found.standard_errors)
    assert 1e-5 < found.standard_errors[0] < 2e-3
    np.testing.assert_allclose(np.sum(found.exponents), math.log(0.3), rtol=1e-10)
    assert abs(found.dimension - 1.2583) < 3 * found.standard_errors[0] / 1.62
    np.testing.assert_allclose(found.entropy, found.exponents[0])


@pytest.mark.slow
def test_the_lorenz_system(x64):
    """Published: 0.9056, 0 and -14.5723 nats per unit of time (Sprott 2003); a step is one of Runge and Kutta's."""

    def derivative(h):
        x, y, z = h
        return jnp.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    def step(dt, h, x):
        a = derivative(h)
        b = derivative(h + dt / 2 * a)
        c = derivative(h + dt / 2 * b)
        d = derivative(h + dt * c)
        return h + dt / 6 * (a + 2 * b + 2 * c + d)

    found = dynamics.lyapunov(step, 0.01, jnp.ones(3), None, warmup=2000, length=202_000, blocks=20)
    rates, errors = found.exponents / 0.01, found.standard_errors / 0.01
    assert np.all(np.abs(rates - np.array([0.9056, 0, -14.5723])) < 3 * errors + np.array([0, 1e-3, 0.02]))
    assert errors[0] < 0.02
    assert abs(found.dimension - 2.0621) < 0.002


def test_a_random_network_is_chaotic_above_a_gain_of_one(x64):
    def largest(gain):
        step, w = random_network(1.0, 100)
        return dynamics.lyapunov_spectrum(step, gain * w, jnp.ones(100), None, k=1, warmup=500, length=1500)[0]

    below, above = jax.vmap(largest)(jnp.array([0.8, 2.0]))
    assert below < -0.1
    assert above > 0.1


@pytest.mark.slow
def test_one_vector_and_qr_give_the_same_largest_exponent(x64):
    cell, params, state, xs = driven("rnn", steps=100)
    found = [dynamics.lyapunov_spectrum(cell, params, state, xs, k=k, warmup=20)[0] for k in (1, 2, 4)]
    np.testing.assert_allclose(found, found[0], rtol=1e-9)


@pytest.mark.parametrize("every", [7, *(pytest.param(every, marks=pytest.mark.slow) for every in (2, 100))])
def test_fewer_decompositions_give_the_same(x64, every):
    """7 divides neither the warm-up nor what follows it."""
    cell, params, state, xs = driven("rnn", steps=160)
    expected = dynamics.lyapunov_spectrum(cell, params, state, xs, k=2, warmup=60)
    found = dynamics.lyapunov_spectrum(cell, params, state, xs, k=2, warmup=60, every=every)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("every", "units"), few_of([(1, 8), (5, 64)], [1, 5], [8, 64]))
def test_a_lost_rank_is_minus_infinity_in_float32(every, units):
    """A product of rank 3 has three exponents, whatever rounding leaves of the others."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(units, 3)))[0]
    w = jnp.asarray(basis @ np.diag([1, 0.8, 0.6]) @ basis.T, jnp.float32)
    step = lambda w, h, x: w @ h  # noqa: E731
    found = dynamics.lyapunov(step, w, jnp.zeros(units, jnp.float32), None, k=6, length=50, every=every)
    np.testing.assert_allclose(found.exponents[:3], np.log([1, 0.8, 0.6]), atol=0.1)
    assert np.isneginf(found.exponents[3:]).all()
    assert found.dimension < 4


def test_silent_units_are_no_nan():
    step = lambda w, h, x: jnp.maximum(w @ h - 1, 0)  # noqa: E731
    w = jnp.eye(4, dtype=jnp.float32)
    assert np.isneginf(dynamics.lyapunov_spectrum(step, w, jnp.zeros(4, jnp.float32), None, length=20)).all()
    assert np.isneginf(dynamics.lyapunov_spectrum(step, w, jnp.zeros(4, jnp.float32), None, k=1, length=20)).all()


@pytest.mark.parametrize(("dtype", "second"), [(jnp.float32, -np.inf), (jnp.float64, np.log(1e-12))])
def test_what_rounding_cannot_tell_is_minus_infinity(x64, dtype, second):
    w = jnp.array([1, 1e-12], dtype)
    found = dynamics.lyapunov_spectrum(lambda w, h, x: w * h, w, jnp.ones(2, dtype), None, warmup=5, length=10)
    np.testing.assert_allclose(found, [0, second], rtol=1e-6, atol=1e-6)


def test_derivatives_go_through_the_decomposition(x64):
    cell, params, state, xs = driven("rnn", steps=30)

    @jax.jit
    def total(w):
        found = dynamics.lyapunov_spectrum(cell, params._replace(weight_hh=w), state, xs, k=2, every=2)
        return found[0] + 2 * found[1]

    direction = np.random.default_rng(0).normal(size=(4, 4))
    slope = np.sum(jax.grad(total)(params.weight_hh) * direction)
    ends = [total(params.weight_hh + sign * 1e-6 * direction) for sign in (1, -1)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-6, rtol=1e-5)


def test_of_one_number_the_derivative_is_one_over_it(x64):
    w = jnp.array([0.7])
    slope = jax.grad(lambda w: dynamics.lyapunov_spectrum(scale, w, jnp.ones(1), None, length=9)[0])(w)
    np.testing.assert_allclose(slope, 1 / w, rtol=1e-12)


def test_standard_errors_are_those_of_independent_factors(x64):
    """h' = x h: log|x_t| is drawn anew at each step."""
    xs = np.exp(np.random.default_rng(0).normal(size=(5000, 1)))
    found = dynamics.lyapunov(lambda w, h, x: 1e-9 * x * h, (), jnp.zeros(1), xs, blocks=50)
    np.testing.assert_allclose(found.exponents[0], np.mean(np.log(1e-9 * xs)), rtol=1e-12)
    assert 0.7 < found.standard_errors[0] * 5000**0.5 < 1.4
    means = np.log(1e-9 * xs).reshape(50, 100).mean(axis=1)
    np.testing.assert_allclose(found.standard_errors[0], means.std(ddof=1) / 50**0.5, rtol=1e-9)
    assert np.isnan(dynamics.lyapunov(scale, jnp.ones(1), jnp.ones(1), None, length=1).standard_errors).all()


def test_a_warm_up_counts_nothing_and_state_is_the_last(x64):
    """The first ten steps stretch by 3, the others by 2."""
    xs = jnp.where(jnp.arange(30) < 10, 3.0, 2.0)
    found = dynamics.lyapunov(lambda w, h, x: x * h, (), jnp.ones(()), xs, warmup=10, every=4)
    np.testing.assert_allclose(found.exponents, [math.log(2)], rtol=1e-12)
    np.testing.assert_allclose(found.state, 3.0**10 * 2.0**20)


def test_an_ensemble_is_a_vmap(x64):
    cell, params, _, xs = driven("rnn", steps=20)
    states = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)))
    found = jax.vmap(lambda h: dynamics.lyapunov(cell, params, h, xs, k=2))(states)
    for i, h in enumerate(states):
        each = dynamics.lyapunov(cell, params, h, xs, k=2)
        np.testing.assert_allclose(found.exponents[i], each.exponents, rtol=1e-10)
        np.testing.assert_allclose(found.standard_errors[i], each.standard_errors, rtol=1e-8)


def test_a_second_call_does_not_trace_again():
    traced = []

    def step(w, h, x):
        traced.append(1)
        return w * h

    call = lambda w: dynamics.lyapunov_spectrum(step, w, jnp.ones(1), jnp.ones((5, 1)))  # noqa: E731
    call(jnp.array([0.5]))
    first = len(traced)
    call(jnp.array([0.6]))
    assert len(traced) == first


DIMENSIONS = {  # exponents, size: dimension, entropy
    "Hénon": ([0.41922, -1.62319], 2, 1 + 0.41922 / 1.62319, 0.41922),
    "stable": ([-0.1, -0.2], 2, 0, 0),
    "a limit cycle": ([0, -0.2, -0.3], 3, 1, 0),
    "two positive": ([0.5, 0.25, -0.5, -1], 4, 3 + 0.25 / 1, 0.75),
    "all of the space": ([0.5, -0.25], 2, 2, 0.5),
    "too few for the dimension": ([0.5, -0.25], 3, math.nan, 0.5),
    "too few for both": ([0.5, 0.25], 3, math.nan, math.nan),
    "enough": ([0.5, -0.75], 3, 1 + 0.5 / 0.75, 0.5),
    "a lost rank": ([0.5, -math.inf], 3, 1, 0.5),
    "not a number": ([math.nan, -1], 2, math.nan, math.nan),
}


@pytest.mark.parametrize("case", DIMENSIONS)
def test_dimension_and_entropy(x64, case):
    values, size, dimension, entropy = DIMENSIONS[case]
    np.testing.assert_allclose(dynamics.kaplan_yorke_dimension(jnp.array(values), size), dimension, rtol=1e-12)
    np.testing.assert_allclose(dynamics.entropy_rate(jnp.array(values), size), entropy, rtol=1e-12)


def test_a_trajectory_that_diverges_says_so(x64):
    step = lambda w, h, x: h * h  # noqa: E731
    with pytest.raises(ValueError, match=r"is not finite by step 11 of T = 30"):
        dynamics.lyapunov_spectrum(step, (), jnp.array([1.999, 1.0]), None, length=30)
    found = jax.jit(lambda h: dynamics.lyapunov(step, (), h, None, length=30))(jnp.array([1.999, 1.0]))
    assert np.isnan(found.exponents).all()
    assert np.isnan(found.dimension)
    w = jnp.array([2.0])
    with pytest.raises(ValueError, match=r"not finite by step 1024 of T = 2000"):  # whose Jacobian stays 2
        dynamics.lyapunov_spectrum(scale, w, jnp.ones(1), None, warmup=1500, length=2000)


H, XS = jnp.ones(2), jnp.ones((5, 2))
ERRORS = {
    "k": ({"k": 3}, "k is 3, above n = 2, the real numbers in the state"),
    "no k": ({"k": 0}, "k must be at least 1, got 0"),
    "half a k": ({"k": 1.5}, "k must be an int"),
    "warmup": ({"warmup": 5}, "warmup is 5, of T = 5 steps: none is left to measure"),
    "negative": ({"warmup": -1}, "warmup must be at least 0, got -1"),
    "every": ({"every": 0}, "every must be at least 1, got 0"),
    "blocks": ({"blocks": 1}, "blocks must be at least 2, got 1"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    options, message = ERRORS[case]
    with pytest.raises((ValueError, TypeError), match=message):
        dynamics.lyapunov(scale, H, H, XS, **options)


def test_errors_of_what_goes_with_it():
    with pytest.raises(ValueError, match="the state that step returns is"):
        dynamics.lyapunov_spectrum(grown, H, H, XS)
    with pytest.raises(ValueError, match="state is not finite"):
        dynamics.lyapunov_spectrum(scale, H, jnp.array([jnp.nan, 1]), XS)
    with pytest.raises(ValueError, match=r"exponents have shape \(2,\), expected \(k,\) with k from 1 to size = 1"):
        dynamics.kaplan_yorke_dimension(H, 1)
    with pytest.raises(TypeError, match="exponents must be an array, got list"):
        dynamics.entropy_rate([1.0], 1)
