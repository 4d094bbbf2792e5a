"""What networks do beyond the table against torch: dropout, dtypes, layouts, lengths of 0, transformations."""

import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr

from .cell_table import random_like
from .marks import few_of, slow_but

NETS = {
    "rnn": jr.RNN(3, 4, num_layers=2, nonlinearity="relu", bidirectional=True),
    "gru": jr.GRU(3, 4, num_layers=2, bidirectional=True, batch_first=True),
    "lstm": jr.LSTM(3, 4, num_layers=2, proj_size=2),
}
every_net = pytest.mark.parametrize("name", NETS)


def init(net, dtype=jnp.float32):
    return net.init(jax.random.key(0), dtype)


def inputs(*shape, dtype=jnp.float32):
    return random_like(jnp.zeros((*shape, 3), dtype), seed=1)


@every_net
def test_a_network_is_a_static_argument(name):
    net = NETS[name]
    params, x = init(net), inputs(5, 2)
    run = jax.jit(lambda net, params, x: net.apply(params, x), static_argnums=0)
    chex.assert_trees_all_close(run(net, params, x), net.apply(params, x), rtol=1e-5, atol=1e-6)
    assert hash(net) == hash(type(net)(**vars(net)))
    assert net == type(net)(**vars(net))


@every_net
def test_an_ensemble(name):
    net = NETS[name]
    members = [net.init(jax.random.key(seed)) for seed in range(3)]
    x = inputs(5, 2)
    together = jax.vmap(lambda params: net.apply(params, x))(jax.tree.map(lambda *a: jnp.stack(a), *members))
    for index, params in enumerate(members):
        member = jax.tree.map(lambda a, i=index: a[i], together)
        chex.assert_trees_all_close(member, net.apply(params, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", slow_but(("gru",), NETS))
def test_ragged_batches_are_sequences_alone(name):
    net = NETS[name]
    params, x, lengths = init(net), inputs(6, 6), [6, 0, 1, 3, 5, 0]
    output, finals = net.apply(params, x, lengths=lengths)
    for n, length in enumerate(lengths):
        one = x[n] if net.batch_first else x[:, n]
        out = output[n] if net.batch_first else output[:, n]
        assert not out[length:].any()
        final = jax.tree.map(lambda a, n=n: a[:, n], finals)
        if length:
            chex.assert_trees_all_close((out[:length], final), net.apply(params, one[:length]), rtol=1e-5, atol=1e-6)
        else:
            assert all(not leaf.any() for leaf in jax.tree.leaves(final))
        ragged_alone = net.apply(params, one, lengths=length)
        chex.assert_trees_all_close((out, final), ragged_alone, rtol=1e-5, atol=1e-6)


def test_length_zero_gives_the_initial_state():
    net = NETS["lstm"]
    h_0, c_0 = jnp.ones((2, 2, 2)), 2 * jnp.ones((2, 2, 4))
    _, (h_n, c_n) = net.apply(init(net), inputs(5, 2), (h_0, c_0), lengths=[0, 5])
    chex.assert_trees_all_equal((h_n[:, 0], c_n[:, 0]), (h_0[:, 0], c_0[:, 0]))


@pytest.mark.parametrize(("name", "checkpoint"), few_of([("gru", "sqrt")], NETS, [2, "sqrt"]))
def test_checkpoint(name, checkpoint):
    net = NETS[name]

    def loss(params, checkpoint):
        output, finals = net.apply(params, inputs(5, 5), lengths=[5, 2, 0, 3, 5], checkpoint=checkpoint)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves((output, finals)))

    gradient = jax.grad(loss)
    chex.assert_trees_all_close(gradient(init(net), checkpoint), gradient(init(net), None), rtol=1e-4, atol=1e-5)


BOUNDS = {"bfloat16": 0.03, "float16": 0.004}


@pytest.mark.parametrize(("name", "dtype"), few_of([("lstm", "bfloat16"), ("gru", "float16")], NETS, BOUNDS))
def test_low_precision(name, dtype):
    """The same dtype out; a few units in the last place of values below 1 away from float32."""
    net, bound = NETS[name], BOUNDS[dtype]
    params, x = init(net), inputs(5, 2)
    low = lambda tree: jax.tree.map(lambda a: a.astype(dtype), tree)  # noqa: E731
    exact = net.apply(jax.tree.map(lambda a: a.astype("float32"), low(params)), low(x).astype("float32"))
    for ours, reference in zip(jax.tree.leaves(net.apply(low(params), low(x))), jax.tree.leaves(exact), strict=True):
        assert ours.dtype == dtype
        assert jnp.abs(ours.astype("float32") - reference).max() <= bound * jnp.abs(reference).max()


def identity_params():
    """Each layer hands on what it gets, through a relu and without a memory."""
    params = jax.tree.map(jnp.zeros_like, jr.RNN(3, 200, num_layers=3).init(jax.random.key(0)))
    params["bias_ih_l0"] = jnp.ones(200)
    return params | {f"weight_ih_l{layer}": jnp.eye(200) for layer in (1, 2)}


def test_dropout_falls_between_layers_and_is_scaled():
    """With identity layers each output is 1/(1-p)² with probability (1-p)², else 0."""
    net = jr.RNN(3, 200, num_layers=3, nonlinearity="relu", dropout=0.3)
    output, h_n = net.apply(identity_params(), jnp.zeros((10, 20, 3)), key=jax.random.key(2))
    values = np.unique(np.asarray(output).round(5))
    np.testing.assert_allclose(values, [0, 1 / 0.49], rtol=1e-4)
    kept = float((output > 0).mean())
    assert abs(kept - 0.49) < 4 * (0.49 * 0.51 / output.size) ** 0.5
    np.testing.assert_array_equal(h_n[0], np.ones((20, 200)))  # nothing before the first layer
    assert abs(float((h_n[1] > 0).mean()) - 0.7) < 4 * (0.7 * 0.3 / h_n[1].size) ** 0.5
    assert abs(float(output.mean()) - 1) < 0.03


def test_dropout_needs_a_key():
    net = jr.RNN(3, 200, num_layers=3, nonlinearity="relu", dropout=0.3)
    np.testing.assert_array_equal(net.apply(identity_params(), jnp.zeros((4, 2, 3)))[0], np.ones((4, 2, 200)))


def test_dropout_is_drawn_anew_for_each_key_layer_step_and_element():
    net = jr.RNN(3, 200, num_layers=2, nonlinearity="relu", dropout=0.5)
    params = {name: a for name, a in identity_params().items() if not name.endswith("_l2")}
    masks = [net.apply(params, jnp.zeros((3, 2, 3)), key=jax.random.key(seed))[0] > 0 for seed in (0, 0, 1)]
    np.testing.assert_array_equal(masks[0], masks[1])
    rows = np.concatenate([np.asarray(masks[i]).reshape(6, 200) for i in (0, 2)])
    agreement = (rows[:, None] == rows[None]).mean(axis=-1)
    assert (np.abs(agreement[~np.eye(12, dtype=bool)] - 0.5) < 0.2).all()
    deeper = jr.RNN(3, 200, num_layers=3, nonlinearity="relu", dropout=0.5)
    output, h_n = deeper.apply(identity_params(), jnp.zeros((1, 2, 3)), key=jax.random.key(0))
    first, both = np.asarray(h_n[1] > 0), np.asarray(output[0] > 0)
    assert 0.3 < both[first].mean() < 0.7  # the second mask is not the first


@pytest.mark.parametrize("dropout", [0.3, 1.0])
def test_dropout_has_gradients(dropout):
    net = jr.GRU(3, 4, num_layers=2, dropout=dropout)
    loss = lambda params: jnp.sum(net.apply(params, inputs(5, 2), key=jax.random.key(0))[0] ** 2)  # noqa: E731
    for name, gradient in jax.grad(loss)(init(net)).items():
        assert jnp.isfinite(gradient).all()
        if name.endswith("l0"):
            assert bool(gradient.any()) == (dropout < 1)


def test_dropout_without_a_second_layer_warns_as_torch_does():
    with pytest.warns(UserWarning, match=r"dropout acts between layers, with num_layers=1 dropout=0.5") as caught:
        jr.LSTM(3, 4, dropout=0.5)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jr.LSTM(3, 4, num_layers=2, dropout=0.5)


@every_net
def test_batch_of_none(name):
    net = NETS[name]
    output, finals = net.apply(init(net), inputs(0, 5) if net.batch_first else inputs(5, 0))
    assert output.size == 0
    assert all(leaf.size == 0 and leaf.shape[0] == net.num_layers * net._directions for leaf in jax.tree.leaves(finals))


def test_numpy_arrays_are_arrays():
    net = NETS["gru"]
    params = {name: np.asarray(a) for name, a in init(net).items()}
    x = np.asarray(inputs(2, 5))
    chex.assert_trees_all_equal(net.apply(params, x), net.apply(init(net), jnp.asarray(x)))


def test_float64_numpy_arrays_are_float32_without_x64():
    """As everywhere in JAX."""
    net = NETS["gru"]
    params = {name: np.asarray(a, np.float64) for name, a in init(net).items()}
    assert net.apply(params, np.ones((2, 5, 3)))[0].dtype == jnp.float32
