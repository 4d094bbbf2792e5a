"""Cells that run a whole sequence their own way, and inputs of any shape."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr

from .cell_table import random_like, stepped
from .marks import pairs

STEPS, BATCH = 6, 3


def _linear_init(key, input_size, hidden_size, *, dtype=jnp.float32):
    del input_size
    return jax.random.uniform(key, (hidden_size,), dtype, minval=0.5)


def _linear_run(decay, h, xs, active, *, reverse, return_states):
    """h′ = decay h + x, by an associative scan; where not active, as if decay were 1 and x 0."""
    del return_states  # the state is the output
    factors = jnp.broadcast_to(decay, xs.shape)
    if active is not None:
        factors, xs = jnp.where(active[..., None], factors, 1), jnp.where(active[..., None], xs, 0)
    compose = lambda a, b: (a[0] * b[0], a[1] * b[0] + b[1])  # noqa: E731
    factors, sums = jax.lax.associative_scan(compose, (factors, xs), reverse=reverse)
    hs = factors * jnp.expand_dims(h, 0) + sums
    return hs[0 if reverse else -1], hs if active is None else jnp.where(active[..., None], hs, 0)


linear = jr.Cell(
    _linear_init,
    lambda decay, batch_shape=(): jnp.zeros((*batch_shape, *decay.shape)),
    lambda decay, h, x: jnp.broadcast_to(decay, h.shape) * h + x,
    lambda h: h,
    run=_linear_run,
)


def arguments(cell, *args):
    params = cell.init(jax.random.key(0), *args)
    xs = random_like(jnp.zeros((STEPS, BATCH, 3)), seed=1)
    state = jax.tree.map(lambda a: a + 0.1, cell.initial_state(params, (BATCH,)))
    return params, xs, state


@pytest.mark.parametrize(
    ("stacked", "return_states", "reverse", "lengths"), pairs(*3 * [[False, True]], [None, [4, 0, 6]])
)
def test_a_cell_with_a_run_of_its_own(stacked, return_states, reverse, lengths):
    cell = jr.stack(linear, jr.gru, linear) if stacked else linear
    params, xs, state = arguments(cell, 3, (3, 3, 3) if stacked else 3)
    options = {"reverse": reverse, "return_states": return_states}
    if lengths is not None:
        options["lengths"] = jnp.array(lengths, jnp.int32)

    def loss(run, params, xs, state):
        outputs = run(cell, params, xs, state, **options)
        return sum(jnp.sum(jnp.sin(a)) for a in jax.tree.leaves(outputs)), outputs

    with jax.numpy_rank_promotion("allow"):
        ours, theirs = (
            jax.jit(jax.value_and_grad(functools.partial(loss, run), argnums=(0, 1, 2), has_aux=True))(
                params, xs, state
            )
            for run in (jr.unroll, stepped)
        )
    chex.assert_trees_all_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_it_is_not_stepped():
    def step(params, state, x):
        raise AssertionError("stepped")

    params, xs, state = arguments(linear, 3, 3)
    jr.unroll(linear._replace(step=step), params, xs, state)


def test_checkpoint_runs_segments():
    params, xs, state = arguments(linear, 3, 3)
    for checkpoint in (1, 4, "sqrt"):
        chex.assert_trees_all_close(
            jr.unroll(linear, params, xs, state, checkpoint=checkpoint),
            jr.unroll(linear, params, xs, state),
            rtol=1e-5,
        )


def test_a_stack_is_run_layer_by_layer():
    """One scan a layer, in which its input is not projected: no layer's fast scan is lost."""
    cell = jr.stack(jr.rnn, jr.rnn)
    params = cell.init(jax.random.key(0), 3, (4, 4))
    with jr.native.disabled():
        jaxpr = str(jax.make_jaxpr(lambda params, xs: jr.unroll(cell, params, xs))(params, jnp.ones((400, 8, 3))))
    assert jaxpr.count("custom_jvp_call") == 2


def test_wrapping_gates_does_not_change_what_they_do():
    """The structure is read in one record: what wraps a function of it changes that function alone."""
    wrapped = jr.gru.affine._replace(gates=lambda *args: jr.gru.affine.gates(*args))
    params = jr.gru.init(jax.random.key(0), 3, 4)
    merged = wrapped.merge(wrapped.project(params, jnp.ones(3)), jnp.ones(12))
    assert [a.shape for a in merged] == [(4,)] * 4
    chex.assert_trees_all_close(
        wrapped.gates(params, *merged, jnp.ones(4)), jr.gru.affine.gates(params, *merged, jnp.ones(4))
    )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("depth", [1, 2])
def test_images_with_lengths(reverse, depth):
    """xs (T, N, 8, 8, 1): a batch of N, lengths (N,); each image sequence by itself gives the same."""
    cell = jr.stack(*[jr.conv_lstm] * depth) if depth > 1 else jr.conv_lstm
    params = cell.init(jax.random.key(0), 1, (2,) * depth if depth > 1 else 2)
    xs, lengths = jax.random.normal(jax.random.key(1), (STEPS, BATCH, 8, 8, 1)), [4, 0, 6]
    final, ys = jr.unroll(cell, params, xs, lengths=jnp.array(lengths), reverse=reverse)
    assert ys.shape == (STEPS, BATCH, 8, 8, 2)
    assert {leaf.shape for leaf in jax.tree.leaves(final)} == {(BATCH, 8, 8, 2)}
    for n, length in enumerate(lengths):
        assert not np.any(ys[length:, n])
        if length:
            alone, outputs = jr.unroll(cell, params, xs[:length, n], reverse=reverse)
            chex.assert_trees_all_close(ys[:length, n], outputs, atol=1e-6)
            chex.assert_trees_all_close(jax.tree.map(lambda a, n=n: a[n], final), alone, atol=1e-6)


IMAGES = jnp.ones((STEPS, BATCH, 8, 8, 1))


def test_images_are_differentiated_and_given_a_state():
    params, xs = jr.conv_lstm.init(jax.random.key(0), 1, 2), IMAGES
    state = jr.conv_lstm.initial_state(params, (BATCH, 8, 8))
    grads = jax.grad(lambda params: jnp.sum(jr.unroll(jr.conv_lstm, params, xs, state, checkpoint=2)[1]))(params)
    assert all(np.all(np.isfinite(leaf)) and np.any(leaf) for leaf in jax.tree.leaves(grads))


def test_tokens_have_no_axis_of_features():
    embedding = jr.Cell(
        lambda key, input_size, hidden_size: jax.random.normal(key, (input_size, hidden_size)),
        lambda table, batch_shape=(): jnp.zeros((*batch_shape, table.shape[1])),
        lambda table, h, token: 0.5 * h + table[token],
        lambda h: h,
        input_ndim=0,
    )
    table = embedding.init(jax.random.key(0), 5, 4)
    final, ys = jr.unroll(embedding, table, jnp.array([[0, 1], [2, 3]]), lengths=jnp.array([2, 1]))
    assert ys.shape == (2, 2, 4)
    chex.assert_trees_all_close(final[0], 0.5 * table[0] + table[2])
    chex.assert_trees_all_close(final[1], table[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: jr.unroll(jr.conv_lstm, p, jnp.ones((6, 8, 1))),
            r"xs has shape \(6, 8, 1\), expected \(T, \*batch, 3",
        ),
        (
            lambda p: jr.unroll(jr.conv_lstm, p, jnp.ones((6, 3, 8, 8, 1)), lengths=jnp.ones((3, 8), int)),
            r"expected \(3,\)",
        ),
        (lambda p: jr.stack(jr.gru, jr.conv_lstm), r"cells\[1\] takes inputs of 3 axes, cells\[0\] of 1"),
    ],
)
def test_shapes_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call(jr.conv_lstm.init(jax.random.key(0), 1, 2))
