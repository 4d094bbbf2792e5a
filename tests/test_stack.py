"""Cells on top of each other."""

import chex
import jax
import jax.numpy as jnp
import pytest

import jaxrnn as jr


def test_equal_arguments_give_the_same_object():
    assert jr.stack(jr.rnn, jr.gru) is jr.stack(jr.rnn, jr.gru)
    assert jr.stack(jr.rnn, jr.gru) != jr.stack(jr.gru, jr.rnn)


def test_a_stack_is_its_cells_by_hand():
    cell = jr.stack(jr.rnn, jr.lstm, jr.gru)
    params = cell.init(jax.random.key(0), 100, (30, 20, 10))
    assert [p.weight_ih.shape for p in params] == [(30, 100), (80, 30), (30, 20)]
    xs = jax.random.normal(jax.random.key(1), (4, 3, 100))
    h, lstm, top = cell.initial_state(params, (3,))
    for x in xs:
        h = jr.rnn.step(params[0], h, x)
        lstm = jr.lstm.step(params[1], lstm, h)
        top = jr.gru.step(params[2], top, lstm.h)
    state, ys = jr.unroll(cell, params, xs)
    chex.assert_trees_all_close(state, (h, lstm, top), rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(ys[-1], top, rtol=1e-5, atol=1e-6)


def test_options_reach_every_cell():
    cell = jr.stack(jr.lstm, jr.lstm)
    params = cell.init(jax.random.key(0), 3, (5, 4), proj_size=2, bias=False, dtype=jnp.bfloat16)
    assert [p.weight_ih.shape for p in params] == [(20, 3), (16, 2)]
    assert all(p.bias_ih is None and p.weight_hr.dtype == jnp.bfloat16 for p in params)


def test_layers_draw_different_parameters():
    params = jr.stack(jr.rnn, jr.rnn).init(jax.random.key(0), 4, (4, 4))
    assert not jnp.array_equal(params[0].weight_hh, params[1].weight_hh)


def test_a_stack_of_one_is_the_cell():
    cell = jr.stack(jr.gru)
    params = cell.init(jax.random.key(0), 3, (4,))
    xs = jnp.ones((5, 3))
    chex.assert_trees_all_close(jr.unroll(cell, params, xs)[1], jr.unroll(jr.gru, params[0], xs)[1])


@pytest.mark.parametrize("count", [1, 3])
def test_a_stack_equals_a_network(count):
    net = jr.LSTM(3, 4, num_layers=count)
    flat = net.init(jax.random.key(0))
    fields = jr.LSTMParams._fields
    params = tuple(jr.LSTMParams(*(flat.get(f"{f}_l{layer}") for f in fields)) for layer in range(count))
    xs = jax.random.normal(jax.random.key(1), (6, 2, 3))
    output, (h_n, c_n) = net.apply(flat, xs)
    states, ys = jr.unroll(jr.stack(*[jr.lstm] * count), params, xs)
    chex.assert_trees_all_close(ys, output, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(jnp.stack([s.h for s in states]), h_n, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(jnp.stack([s.c for s in states]), c_n, rtol=1e-5, atol=1e-6)
