"""Truncated BPTT against a NumPy loop, and ARTBP without cuts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn import gradients

from ..marks import few_of, slow_but
from .problems import NAMES, STEPS, assert_close, differ, make_problem, reference

pytestmark = pytest.mark.usefixtures("x64")


FAR = [(1, STEPS), (3, STEPS), (STEPS, STEPS), (99, 99)]


@pytest.mark.parametrize(("name", "ks"), few_of(zip(("lstm", "bare", "gru", "rnn"), FAR, strict=True), NAMES, FAR))
def test_far_enough_back_is_exact(name, ks):
    (k1, k2), (problem, args) = ks, make_problem(name)
    assert_close(gradients.tbptt(problem, *args, k1=k1, k2=k2), reference(problem, *args), 1e-12)


def rnn_loss(params, h, y):
    return jnp.sum((params["out"] @ h - y) ** 2)


def numpy_tbptt(p, out, h0, xs, ys, k1, k2):
    """Williams and Peng's BPTT(k2; k1) of an Elman network, written out in NumPy."""
    steps, hs = len(xs), [h0]
    for x in xs:
        hs.append(np.tanh(p["weight_ih"] @ x + p["bias_ih"] + p["weight_hh"] @ hs[-1] + p["bias_hh"]))
    errors = [out @ h - y for h, y in zip(hs[1:], ys, strict=True)]
    grads = {name: np.zeros_like(a) for name, a in p.items()}
    previous = 0
    for end in range(1, steps + 1):
        if end % k1 and end != steps:
            continue
        delta = np.zeros_like(h0)
        for t in range(end, max(0, end - k2), -1):
            if t > previous:
                delta = delta + 2 * out.T @ errors[t - 1]
            before = delta * (1 - hs[t] ** 2)
            grads["weight_ih"] += np.outer(before, xs[t - 1])
            grads["weight_hh"] += np.outer(before, hs[t - 1])
            grads["bias_ih"] += before
            grads["bias_hh"] += before
            delta = p["weight_hh"].T @ before
        previous = end
    direct = sum(2 * np.outer(error, h) for error, h in zip(errors, hs[1:], strict=True))
    return sum(float(error @ error) for error in errors), grads, direct


@pytest.mark.parametrize(
    ("k1", "k2"),
    [(2, 3), (5, 12), (13, 13), *(pytest.param(k1, k2, marks=pytest.mark.slow) for k1, k2 in [(1, 1), (3, 5), (4, 4)])],
)
def test_equal_to_a_numpy_loop(k1, k2):
    steps, generator = 17, np.random.default_rng(0)
    cell = jr.rnn.init(jax.random.key(0), 3, 4, dtype=jnp.float64)
    out, h0 = generator.normal(size=(2, 4)), generator.normal(size=4)
    xs, ys = generator.normal(size=(steps, 3)), generator.normal(size=(steps, 2))
    value, recurrent, direct = numpy_tbptt(jax.tree.map(np.asarray, cell._asdict()), out, h0, xs, ys, k1, k2)
    problem = gradients.Problem(jr.rnn, rnn_loss, lambda params: params["cell"])
    ours, grads, _ = gradients.tbptt(problem, {"cell": cell, "out": jnp.asarray(out)}, h0, xs, ys, k1=k1, k2=k2)
    np.testing.assert_allclose(ours, value, rtol=1e-12)
    assert_close(grads["cell"]._asdict(), recurrent, 1e-12)
    assert_close(grads["out"], direct, 1e-12)


def test_truncation_is_felt():
    problem, args = make_problem("lstm")
    exact = gradients.bptt(problem, *args)[1]
    far, near = (differ(gradients.tbptt(problem, *args, k1=1, k2=k2)[1], exact) for k2 in (4, 1))
    assert 1e-4 < far < near


@pytest.mark.parametrize("name", slow_but(("bare",), ["lstm_proj", "stack", "bare"]))
def test_artbp_without_cuts_is_exact(name):
    problem, args = make_problem(name)
    expected = reference(problem, *args)
    assert_close(gradients.artbp(problem, *args, key=jax.random.key(0), cut=0), expected, 1e-12)
    cuts = jnp.zeros(STEPS - 1).at[2].set(0.5)
    assert differ(gradients.artbp(problem, *args, key=jax.random.key(0), cut=cuts)[1], expected[1]) > 1e-3


def test_a_ring_on_an_endless_stream_takes_the_present_parameters():
    """A learner whose parameters change, against vector-Jacobian products written out."""
    problem, (params, state, xs, ys) = make_problem("gru")
    k1, k2 = 2, 3
    learner = gradients.online.tbptt(problem, k1=k1, k2=k2)
    carry = learner.init(params, state, xs[0])
    states, cotangents, update = [], [], jax.jit(learner.update)
    step = problem.step.step
    for t in range(STEPS):
        y = jax.tree.map(lambda a, t=t: a[t], ys)
        states.append(carry.state)
        carry, _, grads = update(params, carry, xs[t], y)
        direct, cotangent = jax.grad(problem.loss, argnums=(0, 1))(params, carry.state, y)
        cotangents.append(cotangent)
        if (t + 1) % k1 == 0:
            back = jnp.zeros_like(cotangent)
            for s in range(t, max(-1, t - k2), -1):
                back = back + (cotangents[s] if s > t - k1 else 0)
                _, pull = jax.vjp(lambda p, h, s=s: step(p, h, xs[s]), params["cell"], states[s])
                more, back = pull(back)
                direct["cell"] = jax.tree.map(jnp.add, direct["cell"], more)
        assert_close(grads, direct, 1e-12)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
