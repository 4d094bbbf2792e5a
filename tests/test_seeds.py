"""The shapes and names that the project's source notes print, snippet by snippet, in jaxrnn."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr

KEY = jax.random.key(0)


def shapes(tree):
    return jax.tree.map(jnp.shape, tree)


def randn(*shape):
    return jax.random.normal(jax.random.key(1), shape)


# --- Note 000: RNN theory, nn.RNN and nn.RNNCell ---


def test_000_parameters_of_nn_rnn():
    """`torch.nn.RNN(100, 20)`: 100 features, a memory of 20, and the names and shapes of its parameters."""
    assert {name: value.shape for name, value in jr.RNN(100, 20).init(KEY).items()} == {
        "weight_ih_l0": (20, 100),
        "weight_hh_l0": (20, 20),
        "bias_ih_l0": (20,),
        "bias_hh_l0": (20,),
    }


def test_000_single_cell():
    """`cell1 = nn.RNNCell(100, 20)` in a loop over x: h1 is [3, 20], batch by memory."""
    params = jr.rnn.init(KEY, 100, 20)
    h1 = jnp.zeros((3, 20))
    for xt in randn(10, 3, 100):
        h1 = jr.rnn.step(params, h1, xt)
    assert h1.shape == (3, 20)


def test_000_two_cells():
    """`RNNCell(100, 30)` under `RNNCell(30, 20)`: h2 is [3, 20]; the note's [3, 20] for h1 is [3, 30] in torch."""
    key1, key2 = jax.random.split(KEY)
    params1, params2 = jr.rnn.init(key1, 100, 30), jr.rnn.init(key2, 30, 20)
    h1, h2 = jnp.zeros((3, 30)), jnp.zeros((3, 20))
    for xt in randn(10, 3, 100):
        h1 = jr.rnn.step(params1, h1, xt)
        h2 = jr.rnn.step(params2, h2, h1)
    assert h2.shape == (3, 20)
    assert h1.shape == (3, 30)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("rate", "printed"), [(1.01, 37.78343433288728), (0.99, 0.02551796445229112)])
def test_000_exploding_and_vanishing_gradients(rate, printed):
    """1.01^365 ≈ 37 and 0.99^365 ≈ 0.03: dh_T/dh_0 of a scalar linear network over T = 365 steps."""
    linear = jr.Cell(
        init=lambda key, input_size, hidden_size: jnp.float64(rate),
        initial_state=lambda params, batch_shape=(): jnp.zeros((*batch_shape, 1)),
        step=lambda params, h, x: params * h + x,
        output=lambda h: h,
    )
    params = linear.init(KEY, 1, 1)
    final = lambda h0: jr.unroll(linear, params, jnp.zeros((365, 1)), h0)[0]  # noqa: E731
    for derivative in (jax.jacrev(final), jax.jacfwd(final)):
        np.testing.assert_allclose(derivative(jnp.zeros(1)), [[printed]], rtol=1e-13)
    assert math.isclose(rate**365, printed, rel_tol=1e-13)


# --- Note 002: layers, cells, and the sine wave ---


def test_002_parameters():
    """`rnn = nn.RNN(100, 10)`: the keys of its parameters and their shapes."""
    params = jr.RNN(100, 10).init(KEY)
    assert list(params) == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    assert (params["weight_hh_l0"].shape, params["weight_ih_l0"].shape) == ((10, 10), (10, 100))
    assert (params["bias_hh_l0"].shape, params["bias_ih_l0"].shape) == ((10,), (10,))


def test_002_single_layer():
    """`nn.RNN(input_size=100, hidden_size=20, num_layers=1)` on [10, 3, 100] from h of [1, 3, 20]."""
    rnn = jr.RNN(input_size=100, hidden_size=20, num_layers=1)
    out, h = rnn.apply(rnn.init(KEY), randn(10, 3, 100), jnp.zeros((1, 3, 20)))
    assert (out.shape, h.shape) == ((10, 3, 20), (1, 3, 20))


def test_002_four_layers():
    """`nn.RNN(input_size=100, hidden_size=20, num_layers=4)`: h is [4, 3, 20], out keeps its shape."""
    rnn = jr.RNN(input_size=100, hidden_size=20, num_layers=4)
    out, h = rnn.apply(rnn.init(KEY), randn(10, 3, 100))
    assert (out.shape, h.shape) == ((10, 3, 20), (4, 3, 20))


def test_002_single_cell_gives_out_when_stacked():
    """A loop over ten words, h is [3, 20]; the cell's outputs stacked are nn.RNN's out."""
    params = jr.rnn.init(KEY, 100, 20)
    xs = randn(10, 3, 100)
    h, hs = jnp.zeros((3, 20)), []
    for xt in xs:
        h = jr.rnn.step(params, h, xt)
        hs.append(h)
    assert h.shape == (3, 20)
    flat = {f"{name}_l0": value for name, value in params._asdict().items()}
    out, _ = jr.RNN(100, 20).apply(flat, xs)
    np.testing.assert_allclose(jnp.stack(hs), out, atol=1e-6)


def test_002_two_cells():
    """`nn.RNNCell(100, 30)` and `nn.RNNCell(30, 20)` over four steps: [3, 30] and [3, 20]; as a stack too."""
    cell = jr.stack(jr.rnn, jr.rnn)
    params = cell.init(KEY, 100, (30, 20))
    xs = randn(4, 3, 100)
    h_l0, h_l1 = jnp.zeros((3, 30)), jnp.zeros((3, 20))
    for xt in xs:
        h_l0 = jr.rnn.step(params[0], h_l0, xt)
        h_l1 = jr.rnn.step(params[1], h_l1, h_l0)
    assert (h_l0.shape, h_l1.shape) == ((3, 30), (3, 20))
    state, _ = jr.unroll(cell, params, xs)
    for by_stack, by_hand in zip(state, (h_l0, h_l1), strict=True):
        np.testing.assert_allclose(by_stack, by_hand, atol=1e-6)


def test_002_sine_network():
    """The note's Net: 1 feature, 16 hidden, batch first, a linear layer on out; [1, 49, 1] to [1, 49, 1]."""
    rnn = jr.RNN(input_size=1, hidden_size=16, num_layers=1, batch_first=True)
    linear = jr.Linear(16, 1)
    params = {"rnn": rnn.init(KEY), "linear": linear.init(KEY)}
    assert shapes(params["linear"]) == {"weight": (1, 16), "bias": (1,)}
    data = jnp.asarray(np.sin(np.linspace(0, 10, 50)), jnp.float32).reshape(50, 1)
    x, h = data[:-1].reshape(1, 49, 1), jnp.zeros((1, 1, 16))

    def net(x, h):
        out, h = rnn.apply(params["rnn"], x, h)
        return linear.apply(params["linear"], out), h

    out, h = net(x, h)
    assert (out.shape, h.shape) == ((1, 49, 1), (1, 1, 16))

    predictions, point = [], x[:, :1]
    for _ in range(x.shape[1]):
        point, h = net(point, h)
        predictions.append(float(point[0, 0, 0]))
    assert len(predictions) == 49


# --- Note 004: RNN in PyTorch ---

BATCH_SIZE, SEQ_LEN, INPUT_SIZE, HIDDEN_SIZE, NUM_LAYERS = 1, 3, 4, 2, 1


def test_004_pseudo_code():
    """`h = 0; for x in X: h = linear(x, h)`: one shared step; x may come with a batch or without."""
    params = jr.rnn.init(KEY, INPUT_SIZE, HIDDEN_SIZE)
    h = jr.rnn.initial_state(params)
    for x in randn(SEQ_LEN, INPUT_SIZE):
        h = jr.rnn.step(params, h, x)
    assert h.shape == (HIDDEN_SIZE,)


def test_004_rnn_cell():
    """`cell = RNNCell(4, 2)` over a dataset of [3, 1, 4]: inputs [1, 4], outputs [1, 2] at every step."""
    params = jr.rnn.init(KEY, INPUT_SIZE, HIDDEN_SIZE)
    dataset = randn(SEQ_LEN, BATCH_SIZE, INPUT_SIZE)
    hidden = jnp.zeros((BATCH_SIZE, HIDDEN_SIZE))
    for x in dataset:
        assert x.shape == (1, 4)
        hidden = jr.rnn.step(params, hidden, x)
        assert hidden.shape == (1, 2)


def test_004_rnn():
    """`cell = RNN(4, 2, num_layers=1)`: out is [3, 1, 2], hidden is [1, 1, 2]."""
    cell = jr.RNN(input_size=INPUT_SIZE, hidden_size=HIDDEN_SIZE, num_layers=NUM_LAYERS)
    inputs = randn(SEQ_LEN, BATCH_SIZE, INPUT_SIZE)
    out, hidden = cell.apply(cell.init(KEY), inputs, jnp.zeros((NUM_LAYERS, BATCH_SIZE, HIDDEN_SIZE)))
    assert (out.shape, hidden.shape) == ((3, 1, 2), (1, 1, 2))


def test_004_custom_cell():
    """The note ends on "a custom RNN cell": the note's own, a linear layer shared over time, in its equations alone."""

    def init(key, input_size, hidden_size):
        return jr.Linear(input_size + hidden_size, hidden_size).init(key)

    def initial_state(params, batch_shape=()):
        return jnp.zeros((*batch_shape, params["weight"].shape[0]))

    def step(params, h, x):
        linear = jr.Linear(*params["weight"].shape[::-1])
        return jnp.tanh(linear.apply(params, jnp.concatenate([x, h], axis=-1)))

    cell = jr.Cell(init, initial_state, step, output=lambda h: h)
    params = cell.init(KEY, INPUT_SIZE, HIDDEN_SIZE)
    dataset = randn(SEQ_LEN, BATCH_SIZE, INPUT_SIZE)
    hidden, out = jr.unroll(cell, params, dataset)
    assert (out.shape, hidden.shape) == ((3, 1, 2), (1, 2))

    # It is an Elman cell in other words: its one weight is W_ih beside W_hh.
    weight_ih, weight_hh = jnp.split(params["weight"], [INPUT_SIZE], axis=1)
    elman = jr.AffineParams(weight_ih, weight_hh, params["bias"], jnp.zeros(HIDDEN_SIZE))
    np.testing.assert_allclose(out, jr.unroll(jr.rnn, elman, dataset)[1], atol=1e-6)
