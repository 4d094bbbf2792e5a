"""Steps with derivatives of their own, dtypes that differ, and values that an outer transformation traces."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn import gradients

from ..cell_table import random_like
from ..marks import few_of, slow_but
from .problems import assert_close, assert_unbiased

pytestmark = pytest.mark.usefixtures("x64")
MIX = np.random.default_rng(0).normal(size=(4, 4))


@jax.custom_vjp
def centred(h):
    """The identity, whose cotangent loses its mean: I - 1/n, symmetric."""
    return h


centred.defvjp(lambda h: (h, None), lambda _, g: (g - jnp.mean(g),))


@jax.custom_jvp
def mixed(h):
    """The identity, whose derivative is a full matrix."""
    return h


mixed.defjvp(lambda primals, tangents: (primals[0], MIX @ tangents[0]))


@jax.custom_vjp
def straight_through(hard, soft):
    """The first, with the derivative of the second."""
    return hard


straight_through.defvjp(lambda hard, soft: (hard, None), lambda _, g: (jnp.zeros_like(g), g))


def centred_step(params, h, x):
    return jnp.tanh(centred(params * h) + x)


def mixed_step(params, h, x):
    return jnp.tanh(mixed(params * h) + x)


def rounded_step(params, h, x):
    return jnp.tanh(straight_through(jax.lax.stop_gradient(jnp.round(h)), h * params) + x)


def loss(params, h, y):
    return jnp.sum((h - y) ** 2)


EXACT = {
    "rtrl": gradients.rtrl,
    "snap": functools.partial(gradients.snap, order=99),
    "revolve": functools.partial(gradients.bptt, snapshots=2),
    "tbptt": functools.partial(gradients.tbptt, k1=2, k2=9),
    "artbp": functools.partial(gradients.artbp, key=jax.random.key(0), cut=0.0),
}


def data(dtype=jnp.float64):
    xs, ys = random_like([jnp.zeros((9, 4), dtype)] * 2)
    return jnp.linspace(0.3, 0.9, 4, dtype=dtype), jnp.full(4, 0.3, dtype), xs, ys


STEPS = {"centred": centred_step, "mixed": mixed_step, "rounded": rounded_step}


@pytest.mark.parametrize(("step", "name"), few_of(zip(itertools.cycle(STEPS), EXACT), STEPS, EXACT))
def test_derivatives_that_are_not_of_the_function_itself(step, name):
    problem = gradients.Problem(STEPS[step], loss)
    assert_close(EXACT[name](problem, *data()), gradients.bptt(problem, *data()), 1e-12)


@pytest.mark.parametrize("name", slow_but(("mixed",), STEPS))
def test_uoro_is_unbiased_and_the_flow_is_right_through_them(name):
    step = STEPS[name]
    problem = gradients.Problem(step, loss)
    w, h, xs, ys = data()
    exact = gradients.bptt(problem, w, h, xs, ys).grads
    assert_unbiased(lambda key: gradients.uoro(problem, w, h, xs, ys, key=key).grads, exact)
    flow = gradients.flow(problem, w, h, xs, ys)
    expected = jnp.linalg.norm(gradients.state_gradients(problem, w, h, xs, ys), axis=1)
    np.testing.assert_allclose(flow.total, expected, rtol=1e-12)
    states = [h]
    for x in xs[:-1]:
        states.append(step(w, states[-1], x))
    jacobians = [jax.jacrev(step, argnums=1)(w, state, x) for state, x in zip(states, xs, strict=True)]
    np.testing.assert_allclose(flow.bound, max(np.linalg.norm(j, 2) for j in jacobians), rtol=1e-10)


@pytest.mark.slow
def test_uoro_can_be_differentiated_where_nothing_has_influence_yet():
    """At the first step the influence is 0, where a norm has no derivative."""
    problem = gradients.Problem(jr.rnn, loss)
    params, (_, h, xs, ys) = jr.rnn.init(jax.random.key(0), 4, 4, dtype=jnp.float64), data()

    def squares(params):
        grads = gradients.uoro(problem, params, h, xs, ys, key=jax.random.key(1)).grads
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(grads))

    found, direction = jax.grad(squares)(params), random_like(params)
    slope = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(direction), strict=True))
    ends = [squares(jax.tree.map(lambda a, d, s=s: a + s * d, params, direction)) for s in (1e-6, -1e-6)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-6, rtol=1e-6)


@jax.custom_vjp
def own_tanh(a):
    return jnp.tanh(a)


own_tanh.defvjp(lambda a: (jnp.tanh(a),) * 2, lambda y, g: (g * (1 - y * y),))
reverse_only = jr.affine_cell(lambda params, z, r, h: own_tanh(z + r), blocks=1)


def test_gates_without_a_forward_mode():
    params = reverse_only.init(jax.random.key(0), 4, 4, dtype=jnp.float64)
    _, h, xs, ys = data()
    ours = gradients.rtrl(gradients.Problem(reverse_only, loss), params, h, xs, ys)
    assert_close(ours, gradients.bptt(gradients.Problem(jr.rnn, loss), params, h, xs, ys), 1e-12)


DTYPES = [("float32", "float64"), ("float64", "float32"), ("bfloat16", "float32")]  # of the state, of the parameters
WITH_UORO = [*EXACT, "uoro"]


@pytest.mark.parametrize(("name", "dtypes"), few_of(zip(WITH_UORO, itertools.cycle(DTYPES)), WITH_UORO, DTYPES))
def test_states_and_parameters_of_other_dtypes(name, dtypes):
    def step(w, h, x):
        return jnp.tanh((w * h.astype(w.dtype)).astype(h.dtype) + x)

    of_state, of_params = dtypes
    w, (_, h, xs, ys) = data(of_params)[0], data(of_state)
    problem = gradients.Problem(step, lambda w, h, y: jnp.sum((h - y).astype(jnp.float32) ** 2))
    run = EXACT.get(name, functools.partial(gradients.uoro, key=jax.random.key(0), samples=5000))
    value, grads, _ = run(problem, w, h, xs, ys)
    assert grads.dtype == of_params
    exact_value, exact, _ = gradients.bptt(problem, w, h, xs, ys)
    np.testing.assert_allclose(float(value), float(exact_value), rtol=1e-2)
    atol = (0.3 if name == "uoro" else 0.05 if "bfloat16" in dtypes else 1e-5) * float(jnp.abs(exact).max())
    np.testing.assert_allclose(grads, exact, rtol=0, atol=atol)


def test_float16_does_not_overflow_where_its_gradient_does_not():
    problem = gradients.Problem(lambda w, h, x: w * x + 0.9 * h, lambda w, h, y: jnp.sum(h) * y)
    half = jnp.float16
    args = jnp.full(4, 0.1, half), jnp.zeros(4, half), jnp.full((40, 4), 300.0, half), jnp.zeros(40, half).at[-1].set(1)
    exact = gradients.bptt(problem, *args)[1]
    ours = gradients.uoro(problem, *args, key=jax.random.key(0), samples=2000)[1]
    np.testing.assert_allclose(ours.astype(float), exact.astype(float), rtol=0.2)


def test_a_state_that_is_infinite():
    """A running maximum begins at -inf."""

    def step(w, state, x):
        return {"m": jnp.maximum(state["m"], x), "h": jnp.tanh(w * state["h"] + x)}

    problem = gradients.Problem(step, lambda w, state, y: state["h"] + state["m"])
    args = jnp.float64(0.5), {"m": jnp.float64(-jnp.inf), "h": jnp.float64(0)}, jnp.arange(5.0), None
    for run in EXACT.values():
        assert_close(run(problem, *args), gradients.bptt(problem, *args), 1e-12)


def test_a_state_leaf_without_elements():
    def step(w, state, x):
        return {"h": jnp.tanh(w * state["h"] + x + state["z"].sum(axis=1).sum()), "z": state["z"]}

    problem = gradients.Problem(step, lambda w, state, y: jnp.sum(state["h"]))
    args = jnp.float64(0.5), {"h": jnp.ones(2), "z": jnp.zeros((0, 3))}, jnp.ones(5), None
    for run in EXACT.values():
        assert_close(run(problem, *args), gradients.bptt(problem, *args), 1e-12)


@pytest.mark.parametrize("name", slow_but(("bptt", "rtrl"), ["bptt", *EXACT]))
def test_cells_that_close_over_what_is_being_differentiated(name):
    """Forward over reverse, through a constant of the gates."""
    run, params = EXACT.get(name, gradients.bptt), jr.rnn.init(jax.random.key(0), 4, 4, dtype=jnp.float64)
    _, h, xs, ys = data()

    def value(c, run):
        cell = jr.affine_cell(lambda params, z, r, h: jnp.tanh(z + c * r), blocks=1)
        return run(gradients.Problem(cell, loss), params, h, xs, ys)[0]

    c = jnp.linspace(0.5, 1, 4)
    step = 1e-6 * jnp.ones(4)
    difference = (value(c + step, gradients.bptt) - value(c - step, gradients.bptt)) / 2e-6
    np.testing.assert_allclose(jax.jvp(lambda c: value(c, run), (c,), (jnp.ones(4),))[1], difference, rtol=1e-7)


def test_unroll_of_a_cell_that_closes_over_what_is_being_differentiated():
    params = jr.rnn.init(jax.random.key(0), 3, 4, dtype=jnp.float64)

    def total(c):
        cell = jr.affine_cell(lambda params, z, r, h: jnp.tanh(z + r * c), blocks=1)
        return jnp.sum(jr.unroll(cell, params, jnp.ones((4, 3)))[1])

    gradient, direction = jax.grad(total)(jnp.ones(4)), jnp.array([1.0, -2.0, 0.5, 3.0])
    difference = (total(1 + 1e-6 * direction) - total(1 - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(gradient @ direction, difference, rtol=1e-7)
