"""Hessian and Gauss-Newton products against dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxrnn as jr
from jaxrnn import gradients

from ..cell_table import random_like
from ..marks import slow_but
from . import problems
from .problems import NAMES, READ_OUT, reference

pytestmark = pytest.mark.usefixtures("x64")
STEPS = 4
MEMORIES = {"full": {}, "sqrt": {"memory": "sqrt"}, "revolve": {"memory": "revolve"}, "snapshots": {"snapshots": 2}}


def make_problem(name):
    """One of four steps, whose loops compile sooner."""
    problem, (params, state, xs, ys) = problems.make_problem(name)
    return problem, (params, state, xs[:STEPS], jax.tree.map(lambda a: a[:STEPS], ys))


def relative(ours, theirs):
    return float(np.abs(ravel_pytree(ours)[0] - theirs).max() / np.abs(theirs).max())


def dense_hessian(problem, params, *args):
    """Of a Python loop."""
    flat, tree = ravel_pytree(params)
    return jax.jit(jax.hessian(lambda flat: reference_value(problem, tree(flat), *args)))(flat)


def reference_value(problem, params, state, xs, ys):
    return sum(problem.loss(params, s, at(ys, t)) for t, s in enumerate(states(problem, params, state, xs)))


def states(problem, params, state, xs):
    step, found = getattr(problem.step, "step", problem.step), []
    for t in range(STEPS):
        state = step(problem.select(params), state, at(xs, t))
        found.append(state)
    return found


def at(tree, t):
    return jax.tree.map(lambda a: a[t], tree)


def dense_gauss_newton(problem, params, state, xs, ys, read, loss):
    """Σ_t Jᵀ H J, every factor a matrix."""
    flat, tree = ravel_pytree(params)

    def outputs(flat):
        return jnp.stack([ravel_pytree(read(tree(flat), s))[0] for s in states(problem, tree(flat), state, xs)])

    _, output_tree = ravel_pytree(read(params, state))
    seen, jacobians = outputs(flat), jax.jit(jax.jacfwd(outputs))(flat)
    curved = jnp.stack([jax.hessian(lambda o, t=t: loss(output_tree(o), at(ys, t)))(seen[t]) for t in range(STEPS)])
    return jnp.einsum("tia,tij,tjb->ab", jacobians, curved, jacobians)


@pytest.mark.parametrize("name", slow_but(("lstm_proj",), NAMES))
def test_hvp_is_the_dense_hessians_product(name):
    problem, args = make_problem(name)
    vector = random_like(args[0], seed=11)
    expected = np.asarray(dense_hessian(problem, *args) @ ravel_pytree(vector)[0])
    for options in MEMORIES.values():
        assert relative(gradients.hvp(problem, *args, vector, **options), expected) < 1e-10


def floats(state):
    return [a for a in jax.tree.leaves(state) if jnp.issubdtype(a.dtype, jnp.floating)]


@pytest.mark.parametrize("name", slow_but(("rnn",), NAMES))
def test_ggn_product_is_the_dense_matrixs(name):
    """At the output of a loss in two parts; of any other, at the state and the parameters that it sees."""
    problem, (params, state, xs, ys) = make_problem(name)
    vector = random_like(params, seed=11)
    along = ravel_pytree(vector)[0]
    in_parts = problem._replace(loss=READ_OUT)
    dense = dense_gauss_newton(in_parts, params, state, xs, ys["y"], READ_OUT.read, READ_OUT.loss)
    assert np.linalg.eigvalsh(dense).min() > -1e-10 * np.abs(dense).max()
    for options in MEMORIES.values():
        ours = gradients.ggn_vector_product(in_parts, params, state, xs, ys["y"], vector, **options)
        assert relative(ours, np.asarray(dense @ along)) < 1e-10

    def whole_loss(seen, y):
        params, reals = seen
        given = iter(reals)
        whole = jax.tree.map(lambda a: next(given) if jnp.issubdtype(a.dtype, jnp.floating) else a, state)
        return problem.loss(params, whole, y)

    dense = dense_gauss_newton(problem, params, state, xs, ys, lambda params, s: (params, floats(s)), whole_loss)
    ours = gradients.ggn_vector_product(problem, params, state, xs, ys, vector, memory="sqrt")
    assert relative(ours, np.asarray(dense @ along)) < 1e-10


def test_they_differ_by_the_networks_own_curvature():
    """For a network that is linear in its parameters they are one."""
    problem, args = make_problem("gru")
    vector = random_like(args[0], seed=11)
    hessian, ggn = (f(problem, *args, vector) for f in (gradients.hvp, gradients.ggn_vector_product))
    assert relative(hessian, np.asarray(ravel_pytree(ggn)[0])) > 1e-2
    linear = gradients.Problem(lambda w, h, x: 0.5 * h + w * x, lambda w, h, y: jnp.sum(jnp.cosh(h - y)))
    args = random_like([jnp.zeros(3), jnp.zeros(3), jnp.zeros((9, 3)), jnp.zeros((9, 3)), jnp.zeros(3)])
    ggn = gradients.ggn_vector_product(linear, *args)
    assert relative(gradients.hvp(linear, *args), np.asarray(ggn)) < 1e-10


@pytest.mark.parametrize("name", slow_but(("ggn_vector_product",), ["hvp", "ggn_vector_product"]))
def test_memory_is_that_of_the_root_of_the_steps(name):
    product = getattr(gradients, name)

    def temporaries(memory, steps):
        problem = gradients.Problem(jr.lstm, lambda params, state, y: y * jnp.sum(state.h**2))
        params = jr.lstm.init(jax.random.key(0), 8, 64, dtype=jnp.float64)
        args = params, jr.lstm.initial_state(params), jnp.zeros((steps, 8)), jnp.zeros(steps), params
        run = jax.jit(lambda *args: product(problem, *args, memory=memory))
        return run.lower(*args).compile().memory_analysis().temp_size_in_bytes

    full, sqrt, longer = temporaries("full", 1024), temporaries("sqrt", 1024), temporaries("sqrt", 4096)
    assert sqrt < full / 4
    assert longer < 2.5 * sqrt


def test_a_vector_unlike_the_parameters():
    problem, args = make_problem("rnn")
    for product in (gradients.hvp, gradients.ggn_vector_product):
        with pytest.raises(ValueError, match=r"vector\['out'\] has shape \(3,\), expected \(2, 4\)"):
            product(problem, *args, args[0] | {"out": jnp.zeros(3)})


def test_python_numbers_and_one_direction_after_another():
    problem = gradients.Problem(lambda w, h, x: w * h + x, lambda w, h, y: h**2)
    assert float(gradients.hvp(problem, 2.0, 1.0, jnp.zeros(2), None, 1.0)) == 2 + 12 * 4  # h_1² + h_2² = w² + w⁴
    assert float(gradients.ggn_vector_product(problem, 2.0, 1.0, jnp.zeros(2), None, 1.0)) == 2 + 2 * 16  # 2 (dh/dw)²
    assert reference(problem, 2.0, 1.0, jnp.zeros(2), jnp.zeros(2))[0] == 20
