"""Jacobians, their products and singular values, and the spectra of recurrent weights, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn import dynamics

from ..marks import slow_but
from .systems import NAMES, driven, grown, linear, loop, scale


@pytest.mark.parametrize("name", slow_but(("lstm", "nested"), NAMES))
def test_every_cell_against_a_loop(x64, name):
    cell, params, state, xs = driven(name, steps=6)
    expected = loop(cell, params, state, xs)
    found = dynamics.jacobians(cell, params, state, xs)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(found, dynamics.jacobians(cell.step, params, state, xs))


def test_of_an_elman_cell_it_is_a_slope_times_the_weights(x64):
    cell, params, state, xs = driven("rnn")
    found = dynamics.jacobians(cell, params, state, xs)
    for t, x in enumerate(xs):
        state = cell.step(params, state, x)
        np.testing.assert_allclose(found[t], (1 - state[:, None] ** 2) * params.weight_hh, rtol=1e-12)


def test_operators_are_the_jacobians_and_their_transposes(x64):
    cell, params, state, xs = driven("lstm")
    vectors = np.random.default_rng(0).normal(size=(12, 8))
    matrices = np.asarray(dynamics.jacobians(cell, params, state, xs))
    along = dynamics.jacobian_operators(cell, params, state, xs)
    np.testing.assert_allclose(along.push(vectors), np.einsum("tij,tj->ti", matrices, vectors), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(along.pull(vectors), np.einsum("tji,tj->ti", matrices, vectors), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(along.states.h[1], cell.step(params, state, xs[0]).h, rtol=1e-14)
    local = dynamics.linearise(cell, params, state, xs[0])
    np.testing.assert_allclose(local.push(vectors[0]), matrices[0] @ vectors[0], rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(local.state.c, cell.step(params, state, xs[0]).c, rtol=1e-14)


def test_a_step_with_a_reverse_derivative_alone(x64):
    @jax.custom_vjp
    def spike(v):
        return (v > 0).astype(float)

    spike.defvjp(lambda v: (spike(v), v), lambda v, ct: (ct / (1 + jnp.abs(v)) ** 2,))
    w, h = np.random.default_rng(0).normal(size=(3, 3)), jnp.array([0.1, -0.2, 0.3])
    found = dynamics.jacobians(lambda w, h, x: spike(w @ h), w, h, None, length=1)[0]
    np.testing.assert_allclose(found, w / (1 + np.abs(w @ h))[:, None] ** 2, rtol=1e-12)


def test_what_is_not_a_real_number_in_the_state_has_no_part(x64):
    """A complex number is two, a counter none."""

    def step(w, state, x):
        return {"z": w * state["z"], "count": state["count"] + 1}

    state = {"z": jnp.array([1 + 1j]), "count": jnp.array(0)}
    found = dynamics.jacobians(step, jnp.array(0.5 + 2j), state, None, length=2)
    np.testing.assert_allclose(found, [[[0.5, -2], [2, 0.5]]] * 2, rtol=1e-14)


@pytest.mark.parametrize("lag", [1, 3, *(pytest.param(lag, marks=pytest.mark.slow) for lag in (2, 7, 12))])
def test_singular_values_over_a_lag(x64, lag):
    cell, params, state, xs = driven("gru")
    matrices = loop(cell, params, state, xs)
    expected = []
    for t in range(lag, 13):
        product = np.eye(4)
        for matrix in matrices[t - lag : t]:
            product = matrix @ product
        expected.append(np.linalg.svd(product, compute_uv=False))
    found = dynamics.jacobian_singular_values(cell, params, state, xs, lag)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)
    numbers = dynamics.condition_numbers(cell, params, state, xs, lag)
    np.testing.assert_allclose(numbers, [values[0] / values[-1] for values in expected], rtol=1e-6)


def test_norms_of_products(x64):
    cell, params, state, xs = driven("lstm")
    product, expected = np.eye(8), []
    for matrix in loop(cell, params, state, xs):
        product = matrix @ product
        expected.append(np.linalg.norm(product, 2))
    np.testing.assert_allclose(dynamics.jacobian_product_norms(cell, params, state, xs), expected, rtol=1e-10)


@pytest.mark.slow
def test_an_orthogonal_network_keeps_all_lengths(x64):
    w = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 64)))[0]
    zeros = jnp.zeros(64)
    values = dynamics.jacobian_singular_values(linear, w, zeros, jnp.zeros((1000, 64)), lag=1000)
    np.testing.assert_allclose(values, 1, rtol=0, atol=1e-12)


def test_batched_jitted_and_differentiated(x64):
    cell, params, _, xs = driven("rnn")
    states = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)))
    found = jax.jit(jax.vmap(lambda h: dynamics.jacobians(cell, params, h, xs)))(states)
    for h, each in zip(states, found, strict=True):
        np.testing.assert_allclose(each, dynamics.jacobians(cell, params, h, xs), rtol=1e-12)
    slope = jax.grad(lambda w: dynamics.jacobians(scale, w, jnp.ones(1), None, length=1).sum())(jnp.array([0.3]))
    np.testing.assert_allclose(slope, 1)


def test_half_precision_is_measured_in_float32():
    found = dynamics.jacobians(scale, jnp.full(2, 0.5, jnp.bfloat16), jnp.ones(2, jnp.bfloat16), None, length=2)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, [0.5 * np.eye(2)] * 2)


def test_spectra_of_recurrent_weights(x64):
    params = jr.lstm.init(jax.random.key(0), 3, 4, dtype=jnp.float64)
    gates = np.asarray(params.weight_hh).reshape(4, 4, 4)
    radii = [np.abs(np.linalg.eigvals(gate)).max() for gate in gates]
    np.testing.assert_allclose(dynamics.spectral_radii(params)[".weight_hh"], radii, rtol=1e-10)
    norms = [np.linalg.norm(gate, 2) for gate in gates]
    np.testing.assert_allclose(dynamics.spectral_norms({"cell": params})["['cell'].weight_hh"], norms, rtol=1e-10)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_spectra_of_low_precision_are_those_of_the_same_weights(dtype):
    params = jr.gru.init(jax.random.key(0), 3, 8, dtype=dtype)
    wide = np.asarray(params.weight_hh, np.float64).reshape(3, 8, 8)
    radii, norms = dynamics.spectral_radii(params)[".weight_hh"], dynamics.spectral_norms(params)[".weight_hh"]
    assert radii.dtype == norms.dtype == jnp.float32
    np.testing.assert_allclose(radii, np.abs(np.linalg.eigvals(wide)).max(axis=-1), rtol=1e-5)
    np.testing.assert_allclose(norms, np.linalg.norm(wide, 2, (-2, -1)), rtol=1e-5)


def test_a_projection_is_part_of_the_recurrent_weights(x64):
    net = jr.LSTM(3, 4, proj_size=2, bidirectional=True)
    params = net.init(jax.random.key(0), dtype=jnp.float64)
    found = dynamics.spectral_radii(params)
    assert list(found) == ["['weight_hh_l0']", "['weight_hh_l0_reverse']"]
    whole = np.asarray(params["weight_hh_l0_reverse"]).reshape(4, 4, 2) @ np.asarray(params["weight_hr_l0_reverse"])
    expected = [np.abs(np.linalg.eigvals(gate)).max() for gate in whole]
    np.testing.assert_allclose(found["['weight_hh_l0_reverse']"], expected, rtol=1e-10)


H, XS = jnp.ones(2), jnp.ones((5, 2))
ERRORS = {
    "not finite": ((scale, H, jnp.array([1, jnp.nan]), XS), {}, "state is not finite"),
    "a leaf not finite": ((scale, H, {"h": jnp.array([jnp.inf])}, XS), {}, r"state\['h'\] is not finite"),
    "structure": ((grown, H, H, XS), {}, "the state that step returns is"),
    "shape": ((lambda w, h, x: jnp.append(h, h), H, H, XS), {}, r"has shape \(4,\), expected \(2,\)"),
    "no length": ((scale, H, H, None), {}, "length must be the number of steps T where xs holds no arrays, got None"),
    "two lengths": ((scale, H, H, XS), {"length": 4}, "length is 4, but xs has 5 time steps"),
    "no steps": ((scale, H, H, XS[:0]), {}, r"xs has shape \(0, 2\), expected \(T, ...\)"),
    "no step": ((3, H, H, XS), {}, "step must be a jaxrnn.Cell or a function"),
    "two arguments": ((lambda w, h: h, H, H, XS), {}, r"step must be a function \(params, state, x\) -> state"),
    "an integer state": ((scale, H, jnp.arange(2), XS), {}, "state must have a floating-point leaf"),
    "text": ((scale, "w", H, XS), {}, "params must be an array, got str"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    arguments, options, message = ERRORS[case]
    with pytest.raises((ValueError, TypeError), match=message):
        dynamics.jacobians(*arguments, **options)


def test_errors_of_options():
    with pytest.raises(ValueError, match="lag is 6, above the number of steps T = 5"):
        dynamics.jacobian_singular_values(scale, H, H, XS, lag=6)
    with pytest.raises(TypeError, match="lag must be an int"):
        dynamics.jacobian_singular_values(scale, H, H, XS, lag=1.5)
    with pytest.raises(ValueError, match=r"params hold no weight_hh, .* but \['w'\]"):
        dynamics.spectral_radii({"w": H})
    with pytest.raises(ValueError, match=r"params\['weight_hh'\] has shape \(5, 2\), expected \(G\*H, R\)"):
        dynamics.spectral_norms({"weight_hh": jnp.ones((5, 2))})
