"""Learners on a stream: as whole sequences while the parameters stay, as their recursions when they change."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxrnn as jr
from jaxrnn import gradients

from .problems import AFFINE, GUESS, NAMES, STEPS, STILL, assert_close, make_problem

pytestmark = pytest.mark.usefixtures("x64")

LEARNERS = {
    "rtrl": (gradients.online.rtrl, {}),
    "snap": (gradients.online.snap, {"order": 1}),
    "uoro": (gradients.online.uoro, {"samples": 2}),
    "tbptt": (gradients.online.tbptt, {"k1": 2, "k2": 4}),
    "kf_rtrl": (gradients.online.kf_rtrl, {"samples": 2}),
    "ok": (gradients.online.ok, {"rank": 2}),
    "rflo": (gradients.online.rflo, {}),
    "eprop": (gradients.online.eprop, {}),
    "dni": (gradients.online.dni, {"k": 2, "synthesizer": GUESS, "optimizer": STILL}),
}
STOCHASTIC = ("uoro", "kf_rtrl", "ok")
NEED_PARTS = ("kf_rtrl", "ok", "rflo", "eprop")
QUICK_ON_BARE = ("rtrl", "uoro", "dni")


def cases(affine, names):
    """Each learner on each kind of step that it takes; slow, but for one: a bare function, or this cell."""
    return [
        pytest.param(name, problem, marks=() if problem == quick else pytest.mark.slow)
        for name in LEARNERS
        for quick in ["bare" if name in QUICK_ON_BARE else affine]
        for problem in names
        if problem in AFFINE or name not in NEED_PARTS
    ]


def at(tree, t):
    return jax.tree.map(lambda a: a[t], tree)


@pytest.mark.parametrize(("name", "problem_name"), cases("lstm_proj", NAMES))
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
    keys = {"key": key} if name in STOCHASTIC else {}
    whole = getattr(gradients, name)(problem, params, state, xs, ys, **options, **keys)
    assert_close((total, sums, carry.state), whole, 1e-12)


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


def streams(problem_name):
    """Three streams of one problem, batch first after time."""
    problem, (params, state, xs, ys) = make_problem(problem_name)
    real = lambda a: jnp.issubdtype(a.dtype, jnp.floating)  # noqa: E731
    states = jax.tree.map(lambda a: jnp.stack([a, 2 * a, -a] if real(a) else [a] * 3), state)
    many_xs, many_ys = jax.tree.map(lambda a: jnp.stack([a, a[::-1], 0.5 * a], axis=1), (xs, ys))
    return problem, params, states, many_xs, many_ys


def sum_of(trees):
    return jax.tree.map(lambda *leaves: sum(map(np.asarray, leaves)), *trees)


@pytest.mark.parametrize(("name", "problem_name"), cases("lstm", ["lstm", "lstm_proj", "gru", "bare"]))
def test_a_batch_of_streams_is_a_loop_over_them(name, problem_name):
    problem, params, states, xs, ys = streams(problem_name)
    make, options = LEARNERS[name]
    one, many, key = make(problem, **options), gradients.online.batched(make(problem, **options)), jax.random.key(0)
    carry = many.init(params, states, at(xs, 0), key)
    alone = [one.init(params, at(states, b), at(at(xs, 0), b), k) for b, k in enumerate(jax.random.split(key, 3))]
    update, update_alone = jax.jit(many.update), jax.jit(one.update)
    for t in range(STEPS):
        carry, value, grads = update(params, carry, at(xs, t), at(ys, t))
        each = []
        for b in range(3):
            alone[b], *found = update_alone(params, alone[b], at(at(xs, t), b), at(at(ys, t), b))
            each.append(found)
        assert_close((value, grads), sum_of(each), 1e-11)
    for b in range(3):
        assert_close(at(carry.state, b), alone[b].state, 1e-12)
    if one.rest is not None:
        assert_close(many.rest(params, carry), sum_of([one.rest(params, inner) for inner in alone]), 1e-11)


def test_a_batch_propagates_when_its_time_has_come():
    """The clock is shared: the scan back stands inside a condition, not in both sides of a selection."""
    problem, params, states, xs, ys = streams("lstm")
    learner = gradients.online.tbptt(problem, k1=2, k2=4)
    many = gradients.online.batched(learner)

    def primitives(update, carry):
        jaxpr = jax.make_jaxpr(update)(params, carry, at(xs, 0), at(ys, 0)).jaxpr
        return {equation.primitive.name for equation in jaxpr.eqns}

    carry = many.init(params, states, at(xs, 0))
    assert "cond" in primitives(many.update, carry)
    assert "scan" not in primitives(many.update, carry)
    by_vmap = jax.vmap(learner.update, in_axes=(None, 0, 0, 0))
    carry = jax.vmap(learner.init, in_axes=(None, 0, 0))(params, states, at(xs, 0))
    assert "scan" in primitives(by_vmap, carry)


def test_streams_of_a_batch_draw_signs_of_their_own():
    problem, params, states, xs, _ = streams("lstm")
    same = jax.tree.map(lambda a: jnp.stack([a[0]] * 2), states)
    learner = gradients.online.batched(gradients.online.uoro(problem))
    carry = learner.init(params, same, xs[0, :2], jax.random.key(0))
    assert carry.key.shape == (2, 2)
    assert np.any(carry.key[0] != carry.key[1])


def test_batched_is_cached_and_checks_what_it_is_given():
    problem, params, states, xs, _ = streams("gru")
    learner = gradients.online.snap(problem)
    assert gradients.online.batched(learner) is gradients.online.batched(learner)
    with pytest.raises(TypeError, match=r"learner must be a jaxrnn\.gradients\.Learner, got function"):
        gradients.online.batched(gradients.online.snap)
    with pytest.raises(ValueError, match=r"batch axis first in every leaf, got state \(3, 4\), x \(2, 3\)"):
        gradients.online.batched(learner).init(params, states, xs[0, :2])
    with pytest.raises(ValueError, match="needs a key"):
        gradients.online.batched(gradients.online.uoro(problem)).init(params, states, xs[0])
