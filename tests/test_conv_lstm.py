"""The convolutional LSTM: against a NumPy loop over places, over signals, images and volumes, and what it refuses."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn._cells.conv_lstm import conv_lstm_of

from .cell_table import random_like
from .marks import few_of
from .oracles import numpy_conv_lstm_step

STEPS, BATCH, CHANNELS, HIDDEN = 4, 3, 2, 3


def make(kernel_size=(3, 2), dtype=jnp.float32, **options):
    like = jax.eval_shape(
        lambda key: jr.conv_lstm.init(key, CHANNELS, HIDDEN, kernel_size=kernel_size, dtype=dtype, **options),
        jax.random.key(0),
    )
    return random_like(like)


def images(*shape, seed=1, dtype=jnp.float32):
    return random_like(jax.ShapeDtypeStruct((*shape, 5, 4, CHANNELS), dtype), seed)


def looped(params, xs, state, pad="constant"):
    """The NumPy loop over one sequence (T, height, width, I)."""
    tensors = {name: np.asarray(a) for name, a in params._asdict().items() if a is not None}
    h, c = map(np.asarray, state)
    ys = []
    for x in np.asarray(xs):
        h, c = numpy_conv_lstm_step(tensors, x, h, c, pad)
        ys.append(h)
    return (h, c), np.array(ys)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("padding", "pad"), [("SAME", "constant"), ("CIRCULAR", "wrap"), ("REFLECT", "reflect")])
@pytest.mark.usefixtures("x64")
def test_equations(padding, pad, bias):
    params, xs = make((3, 2), jnp.float64, bias=bias), images(STEPS, dtype=jnp.float64)
    cell = conv_lstm_of((3, 2), padding)
    state = random_like(cell.initial_state(params, (5, 4)), seed=2)
    final, ys = jr.unroll(cell, params, xs, state)
    expected, outputs = looped(params, xs, state, pad)
    np.testing.assert_allclose(ys, outputs, rtol=0, atol=1e-13)
    chex.assert_trees_all_close(tuple(final), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_ragged_batch_is_its_sequences(reverse):
    params, xs, lengths = make(), images(STEPS, BATCH), [3, 0, 4]
    final, ys = jr.unroll(jr.conv_lstm, params, xs, lengths=jnp.array(lengths), reverse=reverse)
    assert ys.shape == (STEPS, BATCH, 5, 4, HIDDEN)
    for n, length in enumerate(lengths):
        assert not ys[length:, n].any()
        if length:
            alone, outputs = jr.unroll(jr.conv_lstm, params, xs[:length, n], reverse=reverse)
            np.testing.assert_allclose(ys[:length, n], outputs, atol=1e-6)
            chex.assert_trees_all_close(jax.tree.map(lambda a, n=n: a[n], final), alone, atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_the_gradient_is_that_of_the_loop():
    """Along a random direction, by a central difference of the NumPy loop."""
    params, xs = make((3, 2), jnp.float64), images(STEPS, dtype=jnp.float64)
    state = random_like(jr.conv_lstm.initial_state(params, (5, 4)), seed=2)
    weights = random_like(jax.ShapeDtypeStruct((STEPS, 5, 4, HIDDEN), jnp.float64), seed=3)
    gradient = jax.grad(lambda params: jnp.vdot(weights, jr.unroll(jr.conv_lstm, params, xs, state)[1]))(params)
    direction = random_like(params, seed=4)

    def loss(step):
        return np.vdot(weights, looped(jax.tree.map(lambda a, d: a + step * d, params, direction), xs, state)[1])

    along = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, direction)))
    np.testing.assert_allclose(along, (loss(1e-5) - loss(-1e-5)) / 2e-5, rtol=1e-7)


PLACES, BATCHES = [(6,), (3, 4), (3, 4, 2)], [(), (2,), (2, 1), (0,)]


@pytest.mark.parametrize(
    ("places", "batch"), few_of([((6,), (2, 1)), ((3, 4), (0,)), ((3, 4, 2), (2,))], PLACES, BATCHES)
)
def test_signals_images_and_volumes(places, batch):
    """Any batch axes, each member as if it were alone."""
    params = make((3,) * len(places))
    cell = jr.conv_lstm._replace(input_ndim=len(places) + 1)
    x = random_like(jnp.zeros((*batch, *places, CHANNELS)), seed=1)
    state = random_like(cell.initial_state(params, (*batch, *places)), seed=2)
    following = cell.step(params, state, x)
    chex.assert_trees_all_equal_shapes_and_dtypes(following, state)
    for index in np.ndindex(*batch):
        alone = cell.step(params, jax.tree.map(lambda a, i=index: a[i], state), x[index])
        chex.assert_trees_all_close(jax.tree.map(lambda a, i=index: a[i], following), alone, atol=1e-6)


def test_one_place_is_an_lstm():
    params = make((1, 1))
    flat = jr.LSTMParams(*(a.reshape(a.shape[:2]) if a.ndim > 1 else a for a in params))
    xs = images(STEPS, BATCH)
    for ours, theirs in zip(
        jax.tree.leaves(jr.unroll(jr.conv_lstm, params, xs)), jax.tree.leaves(jr.unroll(jr.lstm, flat, xs)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_causal_signal_does_not_look_ahead():
    params, cell = make((3,)), conv_lstm_of((3,), "CAUSAL")
    xs = random_like(jnp.zeros((STEPS, 6, CHANNELS)), seed=1)
    ys = jr.unroll(cell, params, xs)[1]
    changed = jr.unroll(cell, params, xs.at[:, 4:].set(7.0))[1]
    np.testing.assert_allclose(ys[:, :4], changed[:, :4], atol=1e-6)
    assert not np.allclose(ys[:, 4:], changed[:, 4:])
    pairs = conv_lstm_of((3,), [(2, 0)])
    np.testing.assert_allclose(jr.unroll(pairs, params, xs)[1], ys, atol=1e-6)
    assert conv_lstm_of((3,), ((2, 0),)) == pairs
    assert conv_lstm_of((3, 3), "SAME") is jr.conv_lstm


PARAMS, X = make(), images(BATCH)
STATE = jr.conv_lstm.initial_state(PARAMS, (BATCH, 5, 4))
ERRORS = {
    "kernel_size": (lambda: make((0, 3)), ValueError, "a size in kernel_size must be at least 1, got 0"),
    "channels": (
        lambda: jr.conv_lstm.step(PARAMS, STATE, X[..., 1:]),
        ValueError,
        r"x has shape (3, 5, 4, 1), expected (*batch, size 1, size 2, 2): input_size is 2",
    ),
    "places": (lambda: jr.conv_lstm.step(PARAMS, STATE, X[:, 1:]), ValueError, "state.h has shape (3, 5, 4, 3)"),
    "dtype": (lambda: jr.conv_lstm.step(PARAMS, STATE, X.astype(jnp.float16)), ValueError, "x has dtype float16"),
    "weight_hh": (
        lambda: jr.conv_lstm.step(PARAMS._replace(weight_hh=PARAMS.weight_hh[..., 1:]), STATE, X),
        ValueError,
        "weight_hh has shape (12, 3, 3, 1), expected (12, 3, 3, 2)",
    ),
    "weight_ih": (
        lambda: jr.conv_lstm.step(PARAMS._replace(weight_ih=PARAMS.weight_ih[1:]), STATE, X),
        ValueError,
        "weight_ih has shape (11, 2, 3, 2), expected (4*hidden_size, input_size, *kernel_size)",
    ),
    "VALID": (lambda: conv_lstm_of((3, 3), "VALID"), ValueError, "VALID would drop places: got 'VALID'"),
    "CAUSAL": (lambda: conv_lstm_of((3, 3), "CAUSAL"), ValueError, "CAUSAL is for one size"),
    "pairs": (lambda: conv_lstm_of((3, 3), ((1, 1), (0, 1))), ValueError, "low + high = size - 1"),
    "no pairs": (
        lambda: conv_lstm_of((3, 3), 1),
        TypeError,
        "padding must be SAME, CIRCULAR, REFLECT, CAUSAL, or a pair (low, high) for each of (3, 3)",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), ERRORS.values(), ids=ERRORS)
def test_errors(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
