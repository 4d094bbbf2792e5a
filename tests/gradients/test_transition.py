"""The Jacobian of a cell in parts, from its structure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxrnn as jr
from jaxrnn import gradients
from jaxrnn.gradients._algorithms.influence.transition import affine_by_unit, affine_transition

from ..cell_table import make, random_like
from ..marks import slow_but

pytestmark = pytest.mark.usefixtures("x64")


def loss(params, state, y):
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(state))


FORMS = ["rnn", "rnn_relu", "gru", "lstm", "no_bias", "minimal"]


@pytest.mark.parametrize("name", slow_but(("gru", "lstm", "no_bias"), FORMS))
def test_it_is_the_jacobian_of_the_step(name):
    cell, params = make(name, jnp.float64)
    state, x = random_like(cell.initial_state(params)), random_like(jnp.zeros(3, jnp.float64), seed=1)
    parts = affine_by_unit(gradients.Problem(cell, loss), params, state, x)
    flat, unflatten = ravel_pytree(state)
    expected = jax.jacrev(lambda flat: ravel_pytree(cell.step(params, unflatten(flat), x))[0])(flat)
    np.testing.assert_allclose(affine_transition(parts, params, state, x), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["lstm_proj", "stack", "nested"])
def test_steps_without_such_parts(name):
    cell, params = make(name, jnp.float64)
    state, x = random_like(cell.initial_state(params)), jnp.zeros(3, jnp.float64)
    assert affine_by_unit(gradients.Problem(cell, loss), params, state, x) is None


def mixing_gates(params, z, r, h):
    """Not elementwise over hidden units, whatever a cell's gates should be."""
    return jnp.tanh(z + r + jnp.flip(h))


mixing = jr.affine_cell(mixing_gates, blocks=1)


def test_gates_that_mix_units_are_found_out():
    params = mixing.init(jax.random.key(0), 3, 4, dtype=jnp.float64)
    state, x = jnp.ones(4), jnp.zeros(3, jnp.float64)
    problem = gradients.Problem(mixing, loss)
    assert affine_by_unit(problem, params, state, x) is None
    xs = random_like(jnp.zeros((5, 3), jnp.float64))
    ours, exact = (run(problem, params, state, xs, None)[1] for run in (gradients.rtrl, gradients.bptt))
    np.testing.assert_allclose(ours.weight_hh, exact.weight_hh, rtol=1e-12)
