"""Derivatives of all orders and both modes, in float64, through cells, sequences and networks."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.test_util import check_grads

import jaxrnn as jr

from .cell_table import DISTINCT, FEATURES, make, random_like
from .marks import slow_but

pytestmark = pytest.mark.usefixtures("x64")
STEPS = 4
NETS = {
    "RNN": jr.RNN(3, 2, bidirectional=True),
    "GRU": jr.GRU(3, 2, num_layers=2),
    "LSTM": jr.LSTM(3, 3, num_layers=2, proj_size=2, bidirectional=True),
}


def step(name):
    cell, params = make(name, jnp.float64)
    state, x = random_like(cell.initial_state(params)), random_like(jnp.zeros(FEATURES), seed=1)
    return lambda args: cell.step(*args), (params, state, x)


def unroll(name, **options):
    cell, params = make(name, jnp.float64)
    state, xs = random_like(cell.initial_state(params)), random_like(jnp.zeros((STEPS, FEATURES)), seed=1)
    return lambda args: jr.unroll(cell, *args, return_states=True, **options), (params, xs, state)


def network(name, **options):
    net = NETS[name]
    params, x = net.init(jax.random.key(0), jnp.float64), random_like(jnp.zeros((STEPS, 2, 3)), seed=1)
    return lambda args: net.apply(*args, **options), (params, x)


STEP = {f"step-{name}": functools.partial(step, name) for name in DISTINCT}
WHOLE = {
    **{f"unroll-{name}": functools.partial(unroll, name) for name in DISTINCT},
    "unroll-reverse": functools.partial(unroll, "lstm", reverse=True),
    "unroll-lengths": functools.partial(unroll, "lstm", lengths=2),
    "unroll-checkpoint": functools.partial(unroll, "lstm", checkpoint="sqrt"),
    **{f"network-{name}": functools.partial(network, name) for name in NETS},
    "network-ragged": functools.partial(network, "LSTM", lengths=[4, 1]),
    "network-checkpoint": functools.partial(network, "GRU", checkpoint=3),
}
QUICK = [f"step-{name}" for name in ("gru_reset_before", "indrnn", "lstm_peephole", "mgu", "nested", "slstm")]
FEW = ("unroll-lengths", "unroll-checkpoint", "network-RNN")
FEWER = ("unroll-minimal", "network-RNN")


def flat(name):
    """All outputs (m,) as a function of all inputs (n,), and the inputs."""
    function, arguments = (STEP | WHOLE)[name]()
    vector, unravel = ravel_pytree(arguments)
    return lambda v: ravel_pytree(function(unravel(v)))[0], vector


def scalar(name):
    """A loss that is curved in every output."""
    outputs, vector = flat(name)
    return lambda v: jnp.sum(jnp.sin(outputs(v))), vector


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * max(1, np.abs(b).max()))


@pytest.mark.parametrize("name", [*slow_but(QUICK, STEP), *slow_but(FEW, WHOLE)])
def test_jacobians_agree_with_each_other_and_with_finite_differences(name):
    outputs, vector = flat(name)
    forward, reverse = jax.jit(jax.jacfwd(outputs))(vector), jax.jit(jax.jacrev(outputs))(vector)
    close(forward, reverse)
    directions = np.random.RandomState(0).normal(size=(5, len(vector)))
    run = jax.jit(jax.vmap(outputs))
    differences = (run(vector[None] + 1e-6 * directions) - run(vector[None] - 1e-6 * directions)) / 2e-6
    np.testing.assert_allclose(directions @ forward.T, differences, rtol=0, atol=1e-7 * np.abs(differences).max())


@pytest.mark.parametrize("name", slow_but(FEWER, WHOLE))
def test_second_order(name):
    loss, vector = scalar(name)
    hessian = jax.jit(jax.hessian(loss))(vector)
    close(hessian, hessian.T)
    close(jax.jit(jax.jacrev(jax.jacrev(loss)))(vector), hessian)
    direction = np.random.RandomState(0).normal(size=len(vector))
    gradient = jax.jit(jax.grad(loss))
    difference = (gradient(vector + 1e-6 * direction) - gradient(vector - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(hessian @ direction, difference, rtol=0, atol=1e-7 * np.abs(difference).max())


@pytest.mark.parametrize("name", slow_but(FEWER, WHOLE))
def test_first_order_transformations(name):
    loss, vector = scalar(name)
    many = vector[None] + 0.1 * np.random.RandomState(0).normal(size=(3, len(vector)))
    gradients = jax.jit(jax.vmap(jax.grad(loss)))(many)
    close(gradients[1], jax.jit(jax.grad(loss))(many[1]))
    close(jax.jit(jax.grad(lambda many: jnp.sum(jax.vmap(loss)(many))))(many), gradients)
    close(jax.jit(jax.grad(jax.checkpoint(loss)))(many[0]), gradients[0])
    close(jax.jit(lambda v, d: jax.jvp(loss, (v,), (d,))[1])(many[0], many[1]), many[1] @ gradients[0])


def test_eager_transformations():
    loss, vector = scalar("unroll-lstm")
    gradient, direction = jax.grad(loss)(vector), np.random.RandomState(0).normal(size=len(vector))
    _, linear = jax.linearize(loss, vector)
    _, pullback = jax.vjp(loss, vector)
    close(linear(direction), direction @ gradient)
    close(pullback(2.0)[0], 2 * gradient)


@pytest.mark.slow
def test_third_order():
    loss, vector = scalar("unroll-rnn")
    check_grads(jax.jit(loss), (vector,), order=3, modes=("fwd", "rev"), rtol=1e-5)


def test_a_gradient_of_a_gradient_norm():
    """What gradient penalties and meta-learning differentiate."""
    cell, params = make("gru", jnp.float64)
    xs = random_like(jnp.zeros((STEPS, 2, FEATURES)))

    def norm(params):
        gradient = jax.grad(lambda xs: jnp.sum(jr.unroll(cell, params, xs)[1] ** 2))(xs)
        return jnp.sum(gradient**2)

    check_grads(jax.jit(norm), (params,), order=1, modes=("fwd", "rev"), rtol=1e-6)


def test_an_orthogonal_linear_network_keeps_all_gradients():
    """Every singular value of dh_T/dh_0 is 1 after 1,000 steps."""
    orthogonal = np.linalg.qr(np.random.RandomState(0).normal(size=(64, 64)))[0]
    linear = jr.Cell(
        init=lambda key, input_size, hidden_size: jnp.asarray(orthogonal),
        initial_state=lambda params, batch_shape=(): jnp.zeros((*batch_shape, 64)),
        step=lambda params, h, x: params @ h + x,
        output=lambda h: h,
    )
    params, xs = linear.init(jax.random.key(0), 64, 64), random_like(jnp.zeros((1000, 64)))
    jacobian = jax.jacrev(lambda h0: jr.unroll(linear, params, xs, h0)[0])(jnp.zeros(64))
    np.testing.assert_allclose(np.linalg.svd(jacobian, compute_uv=False), np.ones(64), rtol=0, atol=1e-12)
    chex.assert_trees_all_close(jacobian, np.linalg.matrix_power(orthogonal, 1000), atol=1e-11)
