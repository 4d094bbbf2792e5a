"""Initialisations: what they promise of each gate, on cells, stacks and networks; what they leave alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn import remedies

from ..cell_table import make, random_like
from ..marks import slow_but

KEY = jax.random.key(0)
STACK = make("stack_of_stacks")[1]
NET = jr.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2)
NETWORK = random_like(jax.eval_shape(NET.init, KEY))
PARAMS = {"gru": make("gru")[1], "lstm_proj": make("lstm_proj")[1], "no_bias": make("no_bias")[1], "network": NETWORK}


def recurrent(params):
    """Every recurrent matrix of a pytree, gate by gate, (H, R) each, as float64."""
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if "weight_hh" in jax.tree_util.keystr(path):
            width = 4 if "lstm" in str(jax.tree.structure(params)).lower() or leaf.shape[-1] == 2 else leaf.shape[-1]
            found += np.split(np.asarray(leaf, np.float64), leaf.shape[0] // width)
    return found


def others_are_the_same(before, after, changed=("weight_hh",)):
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
        if not any(name in jax.tree_util.keystr(path) for name in changed):
            np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("name", PARAMS)
def test_orthogonal(name):
    params = remedies.orthogonal(KEY, PARAMS[name], 2.0)
    others_are_the_same(PARAMS[name], params)
    matrices = recurrent(params)
    for matrix in matrices:
        np.testing.assert_allclose(matrix.T @ matrix, 4 * np.eye(matrix.shape[1]), atol=1e-5)
    assert len({matrix.tobytes() for matrix in matrices}) == len(matrices)  # each gate of each layer its own


@pytest.mark.parametrize("name", PARAMS)
def test_identity(name):
    params = remedies.identity(PARAMS[name], 0.5)
    others_are_the_same(PARAMS[name], params, ("weight_hh", "bias"))
    for matrix in recurrent(params):
        np.testing.assert_array_equal(matrix, 0.5 * np.eye(*matrix.shape))
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        assert "bias" not in jax.tree_util.keystr(path) or not leaf.any()


def test_an_irnn_adds_up_what_it_reads():
    params = remedies.identity(jr.rnn_relu.init(KEY, 1, 1))._replace(weight_ih=jnp.ones((1, 1)))
    assert jr.unroll(jr.rnn_relu, params, jnp.ones((1000, 1)))[0] == 1000


@pytest.mark.parametrize("name", ["gru", "no_bias"])
def test_scaled_spectral(name):
    params = remedies.scaled_spectral(PARAMS[name], 0.7)
    others_are_the_same(PARAMS[name], params)
    for before, after in zip(recurrent(PARAMS[name]), recurrent(params), strict=True):
        np.testing.assert_allclose(np.abs(np.linalg.eigvals(after)).max(), 0.7, rtol=1e-5)
        np.testing.assert_allclose(after / before, np.full_like(after, (after / before)[0, 0]), rtol=1e-5)


def test_scaled_spectral_of_a_projection_is_of_the_product():
    before = PARAMS["lstm_proj"]
    after = remedies.scaled_spectral(before, 1.5)
    for block in np.split(np.asarray(after.weight_hh, np.float64), 4):
        values = np.linalg.eigvals(block @ np.asarray(before.weight_hr, np.float64))
        np.testing.assert_allclose(np.abs(values).max(), 1.5, rtol=1e-5)


def test_a_spectral_radius_of_0_is_refused_and_nan_where_it_is_not_known():
    params = jr.rnn.init(KEY, 3, 2)._replace(weight_hh=jnp.array([[0.0, 1.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="weight_hh of params has a gate of spectral radius 0: no factor"):
        remedies.scaled_spectral(params, 0.9)
    assert jnp.isnan(jax.jit(lambda p: remedies.scaled_spectral(p, 0.9))(params).weight_hh).any()


@pytest.mark.parametrize("name", ["lstm", "slstm", "layer_norm_lstm"])
def test_chrono_of_cells_with_an_input_gate(name):
    before = jax.tree.map(lambda a: jnp.ones((100 * a.shape[0], *(100 * n for n in a.shape[1:]))), make(name)[1])
    after = remedies.chrono(KEY, before, 500)
    others_are_the_same(before, after, ("bias_ih", "bias_hh"))
    i, f, g, o = np.split(np.asarray(after.bias_ih) + np.asarray(after.bias_hh), 4)
    np.testing.assert_array_equal(i, -f)
    assert (np.concatenate([g, o]) == 2).all()  # left alone
    times = np.exp(f)
    assert times.min() >= 1 - 1e-6
    assert times.max() <= 499 * (1 + 1e-6)
    assert abs(times.mean() - 250) < 4 * 498 / 12**0.5 / len(times) ** 0.5  # of U(1, 499)


def test_chrono_of_a_gru_is_of_the_gate_that_keeps():
    """Half of what there was is forgotten after exp(b) log 2 steps, where nothing comes in."""
    params = jax.tree.map(jnp.zeros_like, make("gru")[1])
    params = remedies.chrono(KEY, params, 300)
    times = np.exp(np.asarray(params.bias_ih[4:8], np.float64))
    assert (times > 1).all()
    h, _ = jr.unroll(jr.gru, params, jnp.zeros((50, 3)), jnp.ones(4))
    np.testing.assert_allclose(h, (1 - 1 / (1 + times)) ** 50, rtol=1e-4)
    assert not params.bias_ih[:4].any()
    assert not params.bias_ih[8:].any()


def test_chrono_at_its_least():
    params = remedies.chrono(KEY, make("lstm")[1], 2)
    assert not (params.bias_ih + params.bias_hh)[:8].any()  # log U(1, 1)


@pytest.mark.parametrize("name", ["lstm", "gru", "network"])
def test_forget_gate_bias(name):
    before = PARAMS.get(name) or make(name)[1]
    after = remedies.forget_gate_bias(before, 3.0)
    others_are_the_same(before, after, ("bias",))
    tensors = after if name == "network" else {f"{key}_": value for key, value in after._asdict().items()}
    for key, bias in tensors.items():
        if key.startswith("bias_ih"):
            total = np.asarray(bias) + np.asarray(tensors[key.replace("bias_ih", "bias_hh")])
            assert (total[4:8] == 3).all()
            assert (total[:4] != 3).all()


def test_another_cells_blocks():
    params = make("minimal")[1]
    given = remedies.forget_gate_bias(params, 2.0, forget=0)
    assert (given.bias_ih[:4] == 2).all()
    with_input = remedies.chrono(KEY, params, 50, forget=0, input=1)
    np.testing.assert_array_equal(with_input.bias_ih[:4], -with_input.bias_ih[4:])
    assert (remedies.chrono(KEY, params, 50, forget=0).bias_ih[4:] == params.bias_ih[4:]).all()


@pytest.mark.parametrize("dtype", slow_but(("bfloat16",), ("bfloat16", "float16")))
def test_few_bits(dtype):
    params = make("gru", dtype)[1]
    for changed in (
        remedies.orthogonal(KEY, params),
        remedies.identity(params),
        remedies.scaled_spectral(params, 0.9),
        remedies.chrono(KEY, params, 100),
        remedies.forget_gate_bias(params),
        remedies.weight_noise(KEY, params, 0.1),
    ):
        assert {leaf.dtype for leaf in jax.tree.leaves(changed)} == {jnp.dtype(dtype)}
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(changed))


@pytest.mark.slow
def test_an_ensemble_and_a_compiled_call():
    keys = jax.random.split(KEY, 3)
    drawn = jax.vmap(lambda key: remedies.orthogonal(key, jr.gru.init(key, 3, 4)))(keys)
    alone = remedies.orthogonal(keys[1], jr.gru.init(keys[1], 3, 4))
    np.testing.assert_allclose(drawn.weight_hh[1], alone.weight_hh, atol=1e-5)
    np.testing.assert_allclose(jax.jit(remedies.orthogonal)(keys[1], jr.gru.init(keys[1], 3, 4)).weight_hh,
                               alone.weight_hh, atol=1e-5)  # fmt: skip


def test_weight_noise_is_normal_and_leaves_integers_alone():
    params = {"w": jnp.zeros((200, 200)), "v": jnp.zeros((200, 200)), "n": jnp.arange(3)}
    noisy = remedies.weight_noise(KEY, params, 0.5)
    assert (noisy["n"] == params["n"]).all()
    for name in ("w", "v"):
        assert abs(float(noisy[name].mean())) < 4 * 0.5 / 200
        assert abs(float(noisy[name].std()) - 0.5) < 4 * 0.5 / 200 / 2**0.5
    assert abs(float((noisy["w"] * noisy["v"]).mean())) < 4 * 0.25 / 200
    assert (remedies.weight_noise(KEY, params, 0)["w"] == 0).all()


ERRORS = {
    "no cell": (lambda: remedies.identity({"w": jnp.ones(2)}), ValueError, "params must hold a cell's weight_hh"),
    "a vector": (
        lambda: remedies.orthogonal(KEY, make("indrnn")[1]),
        ValueError,
        r"weight_hh of params has shape \(4,\), expected \(G\*H, R\) of G gates",
    ),
    "no whole gates": (
        lambda: remedies.orthogonal(KEY, make("cornn")[1]),
        ValueError,
        r"weight_hh of params has shape \(4, 8\), expected \(G\*H, R\)",
    ),
    "no biases": (
        lambda: remedies.chrono(KEY, make("no_bias")[1], 50),
        ValueError,
        r"bias_ih of params is None, expected a bias of shape \(12,\)",
    ),
    "one block": (
        lambda: remedies.chrono(KEY, make("rnn")[1], 50),
        ValueError,
        "forget must be the block of a gate: weight_hh of params has 1, got None",
    ),
    "within a stack": (
        lambda: remedies.forget_gate_bias(STACK),
        ValueError,
        r"forget must be the block of a gate: weight_hh of params\[0\]\[0\] has 1, got None",
    ),
    "a block too far": (
        lambda: remedies.chrono(KEY, make("lstm")[1], 50, forget=4),
        ValueError,
        "forget must be below 4, the blocks in weight_hh of params, got 4",
    ),
    "length": (lambda: remedies.chrono(KEY, make("lstm")[1], 1), ValueError, "max_length must be at least 2, got 1"),
    "radius": (lambda: remedies.scaled_spectral(make("rnn")[1], 0), ValueError, "radius must be a number above 0"),
    "scale": (lambda: remedies.identity(make("rnn")[1], jnp.nan), ValueError, "scale must be a number that is finite"),
    "key": (lambda: remedies.orthogonal(0, make("rnn")[1]), TypeError, "key must be a random key"),
    "noise": (lambda: remedies.weight_noise(KEY, make("rnn")[1], -1), ValueError, "scale must be a number of at least"),
    "leaf": (lambda: remedies.weight_noise(KEY, {"w": "x"}, 1), TypeError, r"params\['w'\] must be an array"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, error, words = ERRORS[name]
    with pytest.raises(error, match=words):
        call()
