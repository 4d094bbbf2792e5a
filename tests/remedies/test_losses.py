"""Terms of a loss: Ω against its definition, AR and TAR against loops, flossing against its goal."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn as jr
from jaxrnn import gradients, remedies

from ..cell_table import random_like
from ..gradients.problems import make_problem
from ..marks import slow_but

NAMES = ["rnn", "gru", "lstm", "nested", "bare", "slstm"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", slow_but(("nested",), NAMES))
def test_omega_is_that_of_flow(name):
    problem, args = make_problem(name)
    np.testing.assert_allclose(remedies.omega(problem, *args), gradients.flow(problem, *args).omega, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_the_gradient_of_omega_is_the_papers():
    """Of (|λ W diag(1 − h²)| / |λ| − 1)² with λ and h taken as they are, by Jacobians in NumPy and a finite step."""
    problem, (params, state, xs, ys) = make_problem("rnn")
    states = [np.asarray(state)]
    for x in xs:
        states.append(np.asarray(jr.rnn.step(params["cell"], states[-1], x)))
    cotangents = np.asarray(gradients.state_gradients(problem, params, state, xs, ys))
    cell = {name: np.asarray(a) for name, a in params["cell"]._asdict().items()}

    def total(weight):
        value = 0.0
        for k in range(1, len(xs)):
            a = cell["weight_ih"] @ np.asarray(xs[k]) + cell["bias_ih"] + weight @ states[k] + cell["bias_hh"]
            arrived = (cotangents[k] * (1 - np.tanh(a) ** 2)) @ weight
            value += (np.linalg.norm(arrived) / np.linalg.norm(cotangents[k]) - 1) ** 2
        return value

    weight, direction = cell["weight_hh"], np.random.default_rng(0).normal(size=(4, 4))
    np.testing.assert_allclose(remedies.omega(problem, params, state, xs, ys), total(weight), rtol=1e-10)
    grads = jax.grad(lambda params: remedies.omega(problem, params, state, xs, ys))(params)
    slope = (total(weight + 1e-6 * direction) - total(weight - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(np.sum(direction * np.asarray(grads["cell"].weight_hh)), slope, rtol=1e-7)
    assert not grads["out"].any()


def last_square(params, h, y):
    return y * jnp.sum(h**2)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_omega_where_no_gradient_arrives_is_0():
    problem, weights = gradients.Problem(jr.rnn, last_square), jnp.zeros(5).at[2].set(1)
    params = jr.rnn.init(jax.random.key(0), 3, 4, dtype=jnp.float64)
    args = jnp.zeros(4), jnp.ones((5, 3)), weights
    value, grads = jax.value_and_grad(lambda params: remedies.omega(problem, params, *args))(params)
    np.testing.assert_allclose(value, gradients.flow(problem, params, *args).omega, rtol=1e-9)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    nothing = remedies.omega(problem, params, args[0], args[1], jnp.zeros(5))
    assert nothing == 0
    assert remedies.omega(problem, params, args[0], args[1][:1], weights[:1]) == 0  # T = 1


def test_omega_of_an_orthogonal_linear_network_is_0_and_a_batch_is_a_vmap():
    problem = gradients.Problem(orthogonal, last_square)
    params = jax.random.orthogonal(jax.random.key(0), 8)
    xs, ys = random_like([jnp.zeros((3, 20, 8)), jnp.zeros((3, 20))])
    many = jax.vmap(lambda xs, ys: remedies.omega(problem, params, jnp.zeros(8), xs, ys))(xs, ys.at[:, :-1].set(0))
    np.testing.assert_allclose(many, np.zeros(3), atol=1e-10)


def orthogonal(weight, h, x):
    return weight @ h + x


def test_omega_of_gradients_that_are_not_finite_is_nan():
    problem = gradients.Problem(orthogonal, last_square)
    assert np.isnan(remedies.omega(problem, 1e30 * jnp.eye(2), jnp.ones(2), jnp.ones((9, 2)), jnp.ones(9)))


@pytest.mark.parametrize("lengths", [None, [5, 0, 1]])
def test_ar_and_tar_are_loops(lengths):
    ys = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    kept = [ys[:length, n] for n, length in enumerate(lengths or [5] * 3)]
    padded = ys if lengths is None else np.where(np.arange(5)[:, None, None] < np.array(lengths)[:, None], ys, np.nan)
    squares = np.concatenate([part.ravel() ** 2 for part in kept])
    changes = np.concatenate([np.diff(part, axis=0).ravel() ** 2 for part in kept])
    np.testing.assert_allclose(remedies.activation_regulariser(padded, lengths), squares.mean(), rtol=1e-6)
    np.testing.assert_allclose(remedies.temporal_activation_regulariser(padded, lengths), changes.mean(), rtol=1e-6)
    for function in (remedies.activation_regulariser, remedies.temporal_activation_regulariser):
        grads = jax.jit(jax.grad(function))(jnp.asarray(padded), None if lengths is None else jnp.array(lengths))
        assert np.isfinite(grads).all()


def test_ar_and_tar_of_nothing_are_0():
    one = jnp.ones((1, 2, 3))
    assert remedies.temporal_activation_regulariser(one) == 0
    assert remedies.temporal_activation_regulariser(one, [1, 1]) == 0
    assert remedies.activation_regulariser(one, [0, 0]) == 0


def test_ar_and_tar_of_few_bits_are_sums_in_float32():
    ys = jnp.full((4000, 2), 0.1, jnp.bfloat16)
    value = remedies.activation_regulariser(ys)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, float(ys[0, 0]) ** 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("ys", "lengths", "error", "words"),
    [
        (np.ones(3, np.float32), None, ValueError, r"ys has shape \(3,\), expected \(T, \*batch, R\)"),
        (np.ones((3, 2), np.int32), None, TypeError, "ys must be floating-point, got int32"),
        ([[1.0]], None, TypeError, "ys must be an array, got list"),
        (np.ones((3, 2, 1), np.float32), [4, 0], ValueError, r"lengths must lie in \[0, 3\]"),
        (np.ones((3, 2, 1), np.float32), [1], ValueError, r"lengths has shape \(1,\), expected \(2,\)"),
    ],
)
def test_errors(ys, lengths, error, words):
    for function in (remedies.activation_regulariser, remedies.temporal_activation_regulariser):
        with pytest.raises(error, match=words):
            function(ys, lengths)


def test_omega_names_what_is_wrong():
    with pytest.raises(TypeError, match=r"problem must be a jaxrnn.gradients.Problem, got Cell"):
        remedies.omega(jr.rnn, None, None, None, None)


def flossed(params, xs, k, steps, rate):
    """The parameters after descent on the k largest exponents, averaged over a batch of inputs."""
    optimizer = optax.adam(rate)

    def loss(params, xs):
        state = jnp.zeros(params.weight_hh.shape[1])
        return jnp.mean(jax.vmap(lambda xs: remedies.floss(jr.rnn, params, state, xs, k, warmup=20))(xs))

    @jax.jit
    def run(params, xs):
        def advance(carry, _):
            params, opt_state = carry
            updates, opt_state = optimizer.update(jax.grad(loss)(params, xs), opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

        return jax.lax.scan(advance, (params, optimizer.init(params)), None, length=steps)[0][0]

    return run(params, xs)


@pytest.mark.slow
def test_flossing_moves_exponents_to_zero():
    """An rnn of 32 units: the first 8 within 0.05, on inputs that it was not flossed on."""
    dynamics = pytest.importorskip("jaxrnn.dynamics")
    params = jr.rnn.init(jax.random.key(0), 4, 32)
    seen, unseen = random_like(jnp.zeros((2, 2, 120, 4)))
    spectrum = functools.partial(dynamics.lyapunov_spectrum, jr.rnn, state=jnp.zeros(32), k=8, warmup=20)
    before = spectrum(params=params, xs=unseen[0])
    with jax.numpy_dtype_promotion("standard"):  # Optax needs it
        params = flossed(params, seen, 8, 300, 0.003)
    after = spectrum(params=params, xs=unseen[0])
    assert np.abs(before).max() > 0.2
    assert np.abs(after).max() < 0.05


@pytest.mark.usefixtures("x64")
def test_floss_and_its_gradient():
    """Of a linear network h′ = W h, whose exponents are log|eig W|: Σ log² of them, and a finite step."""
    pytest.importorskip("jaxrnn.dynamics")
    weight = np.diag([0.5, 2.0, 0.9])
    value = functools.partial(remedies.floss, orthogonal, state=jnp.zeros(3), xs=jnp.zeros((60, 3)), k=2, warmup=40)
    np.testing.assert_allclose(value(params=weight), np.log(2) ** 2 + np.log(0.9) ** 2, rtol=1e-6)
    grads = jax.grad(lambda weight: value(params=weight))(jnp.asarray(weight))
    np.testing.assert_allclose(np.diag(grads), [0, np.log(2), 2 * np.log(0.9) / 0.9], atol=1e-6)
