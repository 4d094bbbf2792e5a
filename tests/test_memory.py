"""Temporary memory of forward and backward, as XLA plans it for a user."""

import jax
import jax.numpy as jnp
import pytest

import jaxrnn as jr

from .cell_table import CELLS, stepped


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_checkpoint_takes_less_memory(name):
    """Loss on the final state at T = 1000: √T in place of T states and residuals."""
    cell, _, _ = CELLS[name]
    params = cell.init(jax.random.key(0), 32, 32)

    def temporaries(checkpoint):
        def loss(params, xs):
            return jnp.sum(cell.output(jr.unroll(cell, params, xs, checkpoint=checkpoint)[0]) ** 2)

        compiled = jax.jit(jax.grad(loss)).lower(params, jnp.ones((1000, 4, 32))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries("sqrt") < temporaries(None) / 12


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_memory_is_no_more_than_a_plain_scans(name):
    cell, xs = getattr(jr, name), jnp.ones((256, 32, 16))
    params = cell.init(jax.random.key(0), 16, 64)
    state = cell.initial_state(params, (32,))

    def temporaries(run):
        gradient = jax.grad(lambda params: jnp.sum(jnp.sin(run(cell, params, xs, state)[1])))
        return jax.jit(gradient).lower(params).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(jr.unroll) <= 1.1 * temporaries(stepped)
