"""Closed loops."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr

CELL, LINEAR = jr.stack(jr.lstm, jr.gru), jr.Linear(4, 2)


@pytest.fixture
def params():
    return {"cell": CELL.init(jax.random.key(0), 2, (3, 4)), "out": LINEAR.init(jax.random.key(1))}


def step(params, state, x):
    return CELL.step(params["cell"], state, x)


def feed(params, state, key):
    y = LINEAR.apply(params["out"], CELL.output(state))
    return y, {"y": y, "norm": jnp.sum(y**2)}


def sample(params, state, key):
    y = LINEAR.apply(params["out"], CELL.output(state))
    noisy = y + jax.random.normal(key, y.shape)
    return noisy, noisy


def test_a_loop(params):
    x, state = jnp.ones(2), CELL.initial_state(params["cell"])
    final, emitted = jr.generate(step, feed, params, state, x, length=7)
    for t in range(7):
        state = step(params, state, x)
        x, expected = feed(params, state, None)
        chex.assert_trees_all_close(jax.tree.map(lambda a, t=t: a[t], emitted), expected, rtol=1e-5)
    chex.assert_trees_all_close(final, state, rtol=1e-5)


def test_a_cell_is_a_step():
    h0, x0 = jnp.zeros(3), jnp.ones(3)
    params = jr.rnn.init(jax.random.key(0), 3, 3)
    own_output = lambda params, h, key: (h, h)  # noqa: E731
    by_cell = jr.generate(jr.rnn, own_output, params, h0, x0, 5)
    chex.assert_trees_all_equal(by_cell, jr.generate(jr.rnn.step, own_output, params, h0, x0, 5))


def test_each_step_gets_a_key_of_its_own(params):
    state, x = CELL.initial_state(params["cell"]), jnp.zeros(2)
    _, ys = jr.generate(step, sample, params, state, x, 6, key=jax.random.key(3))
    _, again = jr.generate(step, sample, params, state, x, 6, key=jax.random.key(3))
    _, other = jr.generate(step, sample, params, state, x, 6, key=jax.random.key(4))
    np.testing.assert_array_equal(ys, again)
    assert len(np.unique(np.concatenate([ys, other]))) == 24


def test_transformations(params):
    """Differentiable, and mapped over a batch of starts."""
    state, xs = CELL.initial_state(params["cell"]), jnp.array([[1.0, 0.0], [0.0, 1.0]])
    run = lambda params, x: jr.generate(step, feed, params, state, x, 5)[1]["y"]  # noqa: E731
    mapped = jax.jit(jax.vmap(run, in_axes=(None, 0)))(params, xs)
    chex.assert_trees_all_close(mapped[1], run(params, xs[1]), rtol=1e-5)
    gradient = jax.grad(lambda params: jnp.sum(run(params, xs[0])))(params)
    direction = jax.tree.map(jnp.ones_like, params)
    _, tangent = jax.jvp(lambda params: jnp.sum(run(params, xs[0])), (params,), (direction,))
    np.testing.assert_allclose(sum(jnp.sum(g) for g in jax.tree.leaves(gradient)), tangent, rtol=1e-4)


def test_length_one_after_another_continues(params):
    state, x = CELL.initial_state(params["cell"]), jnp.ones(2)
    _, whole = jr.generate(step, feed, params, state, x, 4)
    state, first = jr.generate(step, feed, params, state, x, 3)
    _, rest = jr.generate(step, feed, params, state, first["y"][-1], 1)
    chex.assert_trees_all_close(rest["y"][0], whole["y"][3], rtol=1e-5)
