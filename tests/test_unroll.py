"""Sequences: against a Python loop over step, with every option."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental import checkify

import jaxrnn as jr

from .cell_table import ALIKE, CELLS, FEATURES, make, names_with, random_like, shapes
from .marks import few_of, pairs, slow_but

STEPS, BATCH = 6, 3


def sequence(*shape, seed=5):
    return random_like(jnp.zeros((*shape, FEATURES)), seed)


def loop(cell, params, xs, state, reverse=False):
    """All states of a Python loop, in the order of time."""
    states = []
    for x in xs[::-1] if reverse else xs:
        state = cell.step(params, state, x)
        states.append(state)
    final = states[-1] if states else state
    return final, states[::-1] if reverse else states


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def close(a, b):
    chex.assert_trees_all_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "reverse"), names_with([False, True]))
def test_a_loop(name, reverse):
    cell, params = make(name)
    xs = sequence(STEPS, BATCH)
    initial = random_like(cell.initial_state(params, (BATCH,)))
    final, states = loop(cell, params, xs, initial, reverse)
    result = jr.unroll(cell, params, xs, initial, reverse=reverse)
    close(result, (final, jnp.stack([cell.output(s) for s in states])))
    result = jr.unroll(cell, params, xs, initial, reverse=reverse, return_states=True)
    close(result, (final, stack(states)))


@pytest.mark.parametrize(("name", "reverse", "return_states"), names_with([True, False], [False, True]))
def test_lengths_are_a_loop_over_sequences(name, reverse, return_states):
    cell, params = make(name)
    lengths = [4, 0, 6]
    xs = sequence(STEPS, BATCH)
    initial = random_like(cell.initial_state(params, (BATCH,)))
    final, ys = jr.unroll(
        cell, params, xs, initial, lengths=jnp.array(lengths), reverse=reverse, return_states=return_states
    )
    for n, length in enumerate(lengths):
        alone, states = loop(cell, params, xs[:length, n], jax.tree.map(lambda a, n=n: a[n], initial), reverse)
        close(jax.tree.map(lambda a, n=n: a[n], final), alone)
        for t in range(STEPS):
            got = jax.tree.map(lambda a, t=t, n=n: a[t, n], ys)
            if t < length:
                close(got, states[t] if return_states else cell.output(states[t]))
            else:
                assert all(not leaf.any() for leaf in jax.tree.leaves(got))


@pytest.mark.parametrize("padding", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("name", ["lstm", "rnn_relu", "nested"])
def test_padding_reaches_no_value_and_no_gradient(name, padding):
    cell, params = make(name)
    lengths = jnp.array([2, 0, 6])
    clean = sequence(STEPS, BATCH)
    inside = (jnp.arange(STEPS)[:, None] < lengths[None])[..., None]
    dirty = jnp.where(jnp.broadcast_to(inside, clean.shape), clean, padding)

    def loss(params, xs):
        final, ys = jr.unroll(cell, params, xs, lengths=lengths)
        return jnp.sum(ys**2) + sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(final))

    value, gradient = jax.value_and_grad(loss, argnums=(0, 1))(params, dirty)
    close((value, gradient), jax.value_and_grad(loss, argnums=(0, 1))(params, clean))
    assert not gradient[1][2:, 0].any()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint32", "int32"])
def test_lengths_of_any_integer_type(dtype):
    cell, params = make("gru")
    xs = sequence(200, 2)
    expected = jr.unroll(cell, params, xs, lengths=[100, 3])
    close(jr.unroll(cell, params, xs, lengths=np.array([100, 3], dtype)), expected)
    close(jax.jit(lambda n: jr.unroll(cell, params, xs, lengths=n))(jnp.array([100, 3], dtype)), expected)


def test_traced_lengths_act_as_clamped():
    cell, params = make("gru")
    xs = sequence(STEPS, 2)
    traced = jax.jit(lambda lengths: jr.unroll(cell, params, xs, lengths=lengths))
    close(traced(jnp.array([-5, 100])), jr.unroll(cell, params, xs, lengths=jnp.array([0, STEPS])))


def test_lengths_of_one_sequence_and_of_many_axes():
    cell, params = make("lstm")
    xs = sequence(STEPS, 2, 3)
    lengths = jnp.array([[1, 6, 0], [4, 2, 3]])
    final, ys = jr.unroll(cell, params, xs, lengths=lengths)
    for index in np.ndindex(2, 3):
        alone = jr.unroll(cell, params, xs[:, *index], lengths=lengths[index])
        close((jax.tree.map(lambda a, i=index: a[i], final), ys[:, *index]), alone)


CHECKPOINTS = [1, 2, 4, 6, 100, "sqrt"]


@pytest.mark.parametrize(("checkpoint", "reverse", "lengths"), pairs(CHECKPOINTS, [False, True], [None, [2, 0, 6]]))
def test_checkpoint_changes_no_value_and_no_gradient(checkpoint, reverse, lengths):
    cell, params = make("lstm")
    xs = sequence(STEPS, BATCH)
    initial = random_like(cell.initial_state(params, (BATCH,)))

    def run(params, xs, initial, checkpoint):
        options = {"lengths": lengths, "reverse": reverse, "return_states": True}
        final, states = jr.unroll(cell, params, xs, initial, checkpoint=checkpoint, **options)
        leaves = jax.tree.leaves((final, states))
        return sum(jnp.sum(leaf**2) for leaf in leaves), (final, states)

    differentiate = jax.value_and_grad(run, argnums=(0, 1, 2), has_aux=True)
    close(differentiate(params, xs, initial, checkpoint), differentiate(params, xs, initial, None))


def test_one_scan_and_nothing_else_loops():
    cell, params = make("lstm")
    with jr.native.disabled():
        text = str(
            jax.make_jaxpr(lambda xs: jr.unroll(cell, params, xs, lengths=jnp.array([1, 2])))(sequence(STEPS, 2))
        )
    assert text.count("scan[") == 1
    assert "while[" not in text


def test_state_of_integers_and_keys():
    """A custom state may hold whatever a scan may carry."""

    def step(params, state, x):
        key, noise_key = jax.random.split(state["key"])
        h = state["h"] + params * x + jax.random.normal(noise_key, state["h"].shape)
        return {"h": h, "count": state["count"] + 1, "key": key}

    def initial_state(params, batch_shape=()):
        return {"h": jnp.zeros((*batch_shape, 1)), "count": jnp.int32(0), "key": jax.random.key(0)}

    cell = jr.Cell(lambda key, i, h: jnp.float32(1), initial_state, step, lambda state: state["h"])
    final, ys = jr.unroll(cell, jnp.float32(0.5), jnp.ones((4, 2, 1)))
    assert int(final["count"]) == 4
    close(ys[-1], final["h"])
    with pytest.raises(ValueError, match=r"batch axes \(2,\) first in every leaf of the state.*count"):
        jr.unroll(cell, jnp.float32(0.5), jnp.ones((4, 2, 1)), lengths=[1, 2])


lengths_and_batches = st.integers(1, 7).flatmap(
    lambda steps: st.tuples(st.just(steps), st.lists(st.integers(0, steps), min_size=1, max_size=4))
)


@pytest.mark.slow
@given(lengths_and_batches, st.booleans(), st.sampled_from(["gru", "lstm_proj", "nested", "stack"]))
@settings(max_examples=25, deadline=None)
def test_ragged_batches(steps_and_lengths, reverse, name):
    """A ragged batch is its sequences unrolled alone, in any order."""
    steps, lengths = steps_and_lengths
    cell, params = make(name)
    xs = sequence(steps, len(lengths))
    final, ys = jr.unroll(cell, params, xs, lengths=lengths, reverse=reverse)
    for n, length in enumerate(lengths):
        if length:
            alone = jr.unroll(cell, params, xs[:length, n], reverse=reverse)
            close((jax.tree.map(lambda a, n=n: a[n], final), ys[:length, n]), alone)
        else:
            close(jax.tree.map(lambda a, n=n: a[n], final), cell.initial_state(params))


@given(st.integers(1, 8), st.data(), st.sampled_from(["rnn", "lstm", "nested"]))
@settings(max_examples=6, deadline=None)
def test_a_sequence_may_be_cut_anywhere(steps, data, name):
    cell, params = make(name)
    xs = sequence(steps + 1, 2)
    cut = data.draw(st.integers(1, steps))
    middle, first = jr.unroll(cell, params, xs[:cut])
    final, second = jr.unroll(cell, params, xs[cut:], middle)
    close((final, jnp.concatenate([first, second])), jr.unroll(cell, params, xs))


@given(st.integers(1, 8), st.sampled_from(["rnn", "lstm", "nested"]))
@settings(max_examples=6, deadline=None)
def test_reverse_is_flipped(steps, name):
    cell, params = make(name)
    xs = sequence(steps, 2)
    final, ys = jr.unroll(cell, params, xs[::-1])
    close((final, ys[::-1]), jr.unroll(cell, params, xs, reverse=True))


@pytest.mark.parametrize("name", slow_but(("gru", "lstm_proj", "no_places", "stack_of_stacks"), CELLS, full=ALIKE))
def test_transformations(name):
    """jit, vmap over sequences, over parameters, and jax.checkpoint agree with the plain call."""
    cell, params = make(name)
    xs = sequence(STEPS, BATCH)
    plain = jr.unroll(cell, params, xs)
    close(jax.jit(lambda p, xs: jr.unroll(cell, p, xs))(params, xs), plain)
    mapped = jax.vmap(lambda xs: jr.unroll(cell, params, xs), in_axes=1, out_axes=(0, 1))(xs)
    close(mapped, plain)
    members = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params)
    close(jax.tree.map(lambda a: a[0], jax.vmap(lambda p: jr.unroll(cell, p, xs))(members)), plain)
    close(jax.checkpoint(lambda p, xs: jr.unroll(cell, p, xs))(params, xs), plain)


def test_vmap_over_lengths():
    cell, params = make("gru")
    xs, lengths = sequence(STEPS, BATCH), jnp.array([1, 6, 0])
    mapped = jax.vmap(lambda xs, n: jr.unroll(cell, params, xs, lengths=n), in_axes=(1, 0), out_axes=(0, 1))(
        xs, lengths
    )
    close(mapped, jr.unroll(cell, params, xs, lengths=lengths))


DTYPES = ["float32", "bfloat16", "float16", "float64"]


@pytest.mark.parametrize(
    ("dtype", "ragged"), few_of([("bfloat16", True), ("float16", False), ("float64", True)], DTYPES, [False, True])
)
def test_dtypes(dtype, ragged):
    with jax.enable_x64(dtype == "float64"):
        for name in CELLS:
            cell, params = shapes(name, dtype)
            xs = jax.ShapeDtypeStruct((4, 2, FEATURES), dtype)
            run = functools.partial(jr.unroll, cell, lengths=[3, 0] if ragged else None)
            for leaf in jax.tree.leaves(jax.eval_shape(run, params, xs)):
                assert leaf.dtype == dtype


def test_batch_of_none():
    cell, params = make("lstm")
    state, ys = jr.unroll(cell, params, sequence(STEPS, 0), lengths=np.zeros(0, int))
    assert (state.c.shape, ys.shape) == ((0, 4), (6, 0, 4))


def test_lengths_that_are_traced_are_checked_under_checkify():
    params, xs = jr.rnn.init(jax.random.key(0), FEATURES, 4), sequence(STEPS, 2)
    run = jax.jit(lambda lengths: jr.unroll(jr.rnn, params, xs, lengths=lengths)[1])
    checked = checkify.checkify(run)
    error, _ = checked(jnp.array([STEPS, 0]))
    error.throw()
    for lengths in ([STEPS + 1, 0], [0, -1]):
        error, _ = checked(jnp.array(lengths))
        with pytest.raises(checkify.JaxRuntimeError, match=r"lengths must lie in \[0, 6\], the number of time steps"):
            error.throw()
        close(run(jnp.array(lengths)), run(jnp.clip(jnp.array(lengths), 0, STEPS)))
