"""Learners on a stream: as whole sequences while the parameters stay, as their recursions when they change."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxrnn as jr
from jaxrnn import gradients

from .problems import STEPS, assert_close, make_problem

pytestmark = pytest.mark.usefixtures("x64")

LEARNERS = {
    "rtrl": (gradients.online.rtrl, {}),
    "snap": (gradients.online.snap, {"order": 1}),
    "uoro": (gradients.online.uoro, {"samples": 2}),
    "tbptt": (gradients.online.tbptt, {"k1": 2, "k2": 4}),
}


def at(tree, t):
    return jax.tree.map(lambda a: a[t], tree)


@pytest.mark.parametrize("problem_name", ["lstm_proj", "nested", "bare"])
@pytest.mark.parametrize("name", LEARNERS)
def test_the_sum_over_a_sequence_is_the_whole_sequences(name, problem_name):
    problem, (params, state, xs, ys) = make_problem(problem_name)
    make, options = LEARNERS[name]
    learner, key = make(problem, **options), jax.random.key(0)
    carry = learner.init(params, state, at(xs, 0), key)
    total, sums = 0.0, jax.tree.map(jnp.zeros_like, params)
    update = jax.jit(learner.update)
    for t in range(STEPS):
        carry, value, grads = update(params, carry, at(xs, t), at(ys, t))
        total, sums = total + value, jax.tree.map(jnp.add, sums, grads)
    if learner.rest is not None:
        sums = jax.tree.map(jnp.add, sums, learner.rest(params, carry))
    keys = {"key": key} if name == "uoro" else {}
    whole = getattr(gradients, name)(problem, params, state, xs, ys, **options, **keys)
    assert_close((total, sums), whole, 1e-12)


def test_equal_arguments_give_the_same_learner():
    problem, _ = make_problem("gru")
    for make, options in LEARNERS.values():
        assert make(problem, **options) is make(problem, **options)
    assert gradients.online.snap(problem) is gradients.online.snap(problem, order=1)


def test_learners_check_what_they_begin_with_and_take_python_numbers():
    learner = gradients.online.rtrl(gradients.Problem(lambda w, h, x: w * h + x, lambda w, h, y: y * h))
    with pytest.raises(TypeError, match="params has dtype int"):
        learner.init(jnp.arange(3), 0.0, 1.0)
    carry = learner.init(3.0, 0.0, 1.0)
    for _ in range(3):
        carry, value, gradient = learner.update(3.0, carry, 1.0, 1.0)
    assert (float(value), float(gradient)) == (13.0, 7.0)  # h_3 = w² + w + 1


def test_rtrl_on_a_stream_keeps_its_influence_while_the_parameters_change():
    """J_t = D_t J_{t-1} + I_t, each factor at the parameters of its own step."""
    problem, (params, state, xs, ys) = make_problem("lstm")
    learner = gradients.online.rtrl(problem)
    carry, update = learner.init(params, state, xs[0]), jax.jit(learner.update)
    flat, state_tree = ravel_pytree(state)
    influence = np.zeros((flat.size, ravel_pytree(params["cell"])[0].size))
    for t in range(STEPS):
        theta, theta_tree = ravel_pytree(params["cell"])

        def step(theta, flat, t=t, theta_tree=theta_tree):
            return ravel_pytree(jr.lstm.step(theta_tree(theta), state_tree(flat), xs[t]))[0]

        immediate, transition = jax.jacrev(step, argnums=(0, 1))(theta, flat)
        flat, influence = step(theta, flat), transition @ influence + immediate
        direct, cotangent = jax.grad(problem.loss, argnums=(0, 1))(params, state_tree(flat), at(ys, t))
        direct["cell"] = theta_tree(ravel_pytree(cotangent)[0] @ influence)
        carry, _, grads = update(params, carry, xs[t], at(ys, t))
        assert_close(grads, direct, 1e-12)
        params = jax.tree.map(lambda p, g: p - 0.05 * g, params, grads)


def test_learning_under_scan_and_vmap():
    """Online RTRL with gradient descent, on several streams at once, is a loop over them."""
    problem, (params, state, xs, ys) = make_problem("gru")
    learner = gradients.online.rtrl(problem)

    def learn(carry, inputs):
        params, inner = carry
        inner, value, grads = learner.update(params, inner, *inputs)
        return (jax.tree.map(lambda p, g: p - 0.05 * g, params, grads), inner), value

    @jax.jit
    def run(xs):
        start = params, learner.init(params, state, xs[0])
        return jax.lax.scan(learn, start, (xs, ys))[1]

    many = jnp.stack([xs, 2 * xs, -xs])
    losses = jax.vmap(run)(many)
    for one, alone in zip(losses, many, strict=True):
        np.testing.assert_allclose(one, run(alone), rtol=1e-12)


def test_init_under_jit_checks_the_budget():
    problem, (params, state, xs, _) = make_problem("rnn")
    learner = gradients.online.rtrl(problem, budget=10)
    with pytest.raises(ValueError, match="above budget=10"):
        jax.jit(functools.partial(learner.init, params, state))(xs[0])
