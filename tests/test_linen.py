"""The linen layers and cells: equal to the core and torch by renaming alone, at home in Flax's transformations."""

import copy
import functools
import itertools
import subprocess
import sys

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxrnn as jr
from jaxrnn import linen

from .flax_table import (
    BATCH,
    CELLS,
    FEATURES,
    HIDDEN,
    LAYERS,
    LENGTHS,
    STEPS,
    assert_close,
    assert_same,
    cell_params,
    core_cell,
    from_flax,
    from_torch,
    inputs,
    layer_inputs,
    make_carry,
    network,
    to_carry,
    to_state,
    torch_cell,
    torch_layer,
    torch_results,
    total,
)

TORCH_CELLS = [name for name in CELLS if name != "affine"]
torch_warns = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")


def make_layer(name, **options):
    kind, arguments = LAYERS[name]
    return getattr(linen, kind)(HIDDEN, **arguments, **options)


def make_cell(name, **options):
    kind, arguments, _ = CELLS[name]
    return getattr(linen, kind)(features=HIDDEN, **arguments, **options)


def init_cell(name, **options):
    """A cell of the table, and its variables."""
    cell = make_cell(name, **options)
    carry = cell.initialize_carry(None, (BATCH, FEATURES))
    return cell, cell.init(jax.random.key(0), carry, jnp.ones((BATCH, FEATURES), jax.tree.leaves(carry)[0].dtype))


def unrolled(name, params, x, **options):
    """The core's answer for batch-major x: final carry and outputs."""
    state, ys = jr.unroll(core_cell(name), cell_params(name, params), jnp.swapaxes(x, 0, 1), **options)
    return to_carry(state), jnp.swapaxes(ys, 0, 1)


def test_the_core_imports_no_flax():
    code = "import sys, jaxrnn; sys.exit(any(name.split('.')[0] == 'flax' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize(("name", "lengths"), list(zip(LAYERS, itertools.cycle([LENGTHS, None]))))
def test_layers_are_the_core_s_networks(name, lengths):
    net, layer = network(name), make_layer(name)
    x, h_0 = layer_inputs(net)
    params = net.init(jax.random.key(0))

    def ours(params, x, h_0):
        return layer.apply({"params": params}, x, h_0, lengths=lengths)

    def core(params, x, h_0):
        return net.apply(params, x, h_0, lengths=lengths)

    assert_same(ours(params, x, h_0), core(params, x, h_0))
    assert_same(ours(params, x, None), core(params, x, None))
    gradients = [jax.grad(lambda *args, f=f: total(f(*args)), (0, 1, 2))(params, x, h_0) for f in (ours, core)]
    assert_close(*gradients)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_initialise_as_the_core_does(name):
    net = network(name)
    x, _ = layer_inputs(net)
    variables = make_layer(name).init(jax.random.key(0), x)
    assert list(variables) == ["params"]
    like = jax.eval_shape(net.init, jax.random.key(0))
    assert jax.tree.map(jnp.shape, variables["params"]) == jax.tree.map(jnp.shape, like)
    values = np.concatenate([np.ravel(a) for a in jax.tree.leaves(variables)])
    assert 0.9 * HIDDEN**-0.5 < np.abs(values).max() <= HIDDEN**-0.5
    assert len(np.unique(values)) > 0.99 * len(values)  # no tensor repeats another


@pytest.mark.parametrize("name", LAYERS)
@torch_warns
def test_layers_equal_torch(name):
    torch = pytest.importorskip("torch")
    module, layer = torch_layer(name), make_layer(name)
    x, h_0 = layer_inputs(network(name))

    def compare(params):
        def loss(params, x):
            outputs = layer.apply({"params": params}, x, h_0)
            return total(outputs), jax.tree.leaves(outputs)

        (d_params, d_x), outputs = jax.grad(loss, (0, 1), has_aux=True)(params, x)
        assert_close((outputs, d_params, d_x), torch_results(module, x, h_0))
        module.zero_grad()

    compare(from_torch(module.state_dict()))
    params = layer.init(jax.random.key(1), x)["params"]
    module.load_state_dict({name: torch.tensor(np.asarray(a)) for name, a in params.items()})
    compare(params)


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("name", TORCH_CELLS)
def test_cells_equal_torch(name, batch):
    torch = pytest.importorskip("torch")
    module, carry, x = torch_cell(name), make_carry(name, *batch), inputs(*batch, FEATURES)
    theirs = module(torch.tensor(x), jax.tree.map(torch.tensor, tuple(to_state(carry)) if name == "lstm" else carry))
    theirs = jr.LSTMState(*theirs) if name == "lstm" else theirs
    theirs = jax.tree.map(lambda a: a.detach().numpy(), theirs)
    following, y = make_cell(name).apply({"params": from_torch(module.state_dict())}, carry, x)
    assert_close((to_state(following), y), (theirs, theirs.h if name == "lstm" else theirs))
    variables = make_cell(name).init(jax.random.key(0), carry, x)
    module.load_state_dict({name: torch.tensor(np.asarray(a)) for name, a in variables["params"].items()})


@pytest.mark.parametrize("seq_lengths", [None, LENGTHS])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_cells_in_flax_s_rnn(name, reverse, seq_lengths):
    x = jnp.asarray(inputs(BATCH, STEPS, FEATURES))
    layer = nn.RNN(make_cell(name), return_carry=True, reverse=reverse, keep_order=True)
    variables = layer.init(jax.random.key(0), x)
    carry, ys = layer.apply(variables, x, seq_lengths=seq_lengths)
    expected, valid = unrolled(name, variables["params"]["cell"], x, lengths=seq_lengths, reverse=reverse)
    mask = np.ones((BATCH, STEPS, 1)) if seq_lengths is None else np.arange(STEPS)[:, None] < seq_lengths[:, None, None]
    assert_close((carry, np.where(mask, ys, 0)), (expected, valid))


def test_flax_s_rnn_gives_reversed_output_without_keep_order_and_takes_a_carry():
    x, carry = jnp.asarray(inputs(BATCH, STEPS, FEATURES)), make_carry("lstm", BATCH)
    cell, variables = init_cell("lstm")
    variables = {"params": {"cell": variables["params"]}}
    final, ys = nn.RNN(cell, reverse=True).apply(variables, x, initial_carry=carry, return_carry=True)
    expected, forward = unrolled("lstm", variables["params"]["cell"], x, state=to_state(carry), reverse=True)
    assert_close((final, ys), (expected, forward[:, ::-1]))


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_cells_equal_flax_s_own(name):
    x, bias = jnp.asarray(inputs(BATCH, STEPS, FEATURES)), nn.initializers.normal()
    kind, _, _ = CELLS[name]
    layers = [nn.RNN(getattr(library, kind)(HIDDEN, bias_init=bias), return_carry=True) for library in (nn, linen)]
    theirs = layers[0].init(jax.random.key(0), x)["params"]["cell"]
    results = [
        layer.apply({"params": {"cell": params}}, x, seq_lengths=LENGTHS, reverse=True)
        for layer, params in zip(layers, (theirs, from_flax(name, theirs)), strict=True)
    ]
    assert_close(*results)


@pytest.mark.parametrize(("name", "kind"), [("rnn", "RNN"), ("gru", "GRU"), ("lstm", "LSTM")])
def test_bidirectional_is_the_core_s(name, kind):
    x = jnp.asarray(inputs(BATCH, STEPS, FEATURES))
    layer = nn.Bidirectional(nn.RNN(make_cell(name)), nn.RNN(make_cell(name)), return_carry=True)
    variables = layer.init(jax.random.key(0), x)
    carries, ys = layer.apply(variables, x)
    net = getattr(jr, kind)(FEATURES, HIDDEN, bidirectional=True, batch_first=True)
    params = {}
    for side, suffix in (("forward_rnn", "_l0"), ("backward_rnn", "_l0_reverse")):
        params |= {key + suffix: a for key, a in variables["params"][side]["cell"].items()}
    output, finals = net.apply(params, x)
    states = jr.LSTMState(*finals) if name == "lstm" else finals
    assert_close((ys, carries), (output, tuple(to_carry(jax.tree.map(lambda a, i=i: a[i], states)) for i in range(2))))


@pytest.mark.parametrize("name", CELLS)
def test_remat_scan_and_vmap(name):
    x = jnp.asarray(inputs(STEPS, BATCH, FEATURES))
    cell, variables = init_cell(name)
    carry = make_carry(name, BATCH)
    one_step = cell.apply(variables, carry, x[0])

    kind, arguments, _ = CELLS[name]
    rematted = nn.remat(getattr(linen, kind))(features=HIDDEN, **arguments)
    assert_close(rematted.apply(variables, carry, x[0]), one_step)
    gradients = [jax.grad(lambda v, f=f: total(f.apply(v, carry, x[0])))(variables) for f in (rematted, cell)]
    assert_close(*gradients)

    scanned = nn.scan(getattr(linen, kind), variable_broadcast="params", split_rngs={"params": False})
    final, ys = scanned(features=HIDDEN, **arguments).apply(variables, carry, x)
    expected, outputs = jr.unroll(core_cell(name), cell_params(name, variables["params"]), x, to_state(carry))
    assert_close((final, ys), (to_carry(expected), outputs))
    fresh = scanned(features=HIDDEN, **arguments).init(jax.random.key(0), carry, x)
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, variables)

    assert_close(jax.vmap(functools.partial(cell.apply, variables))(carry, x[0]), one_step)
    ensemble = nn.vmap(
        getattr(linen, kind), in_axes=None, variable_axes={"params": 0}, split_rngs={"params": True}, axis_size=2
    )(features=HIDDEN, **arguments)
    members = ensemble.init(jax.random.key(0), carry, x[0])
    _, ys = ensemble.apply(members, carry, x[0])
    for index in range(2):
        assert_close(ys[index], cell.apply(jax.tree.map(lambda a, i=index: a[i], members), carry, x[0])[1])
    assert not jnp.allclose(ys[0], ys[1])


@pytest.mark.parametrize(("name", "dtype"), list(zip(CELLS, itertools.cycle([jnp.bfloat16, jnp.float16]))))
def test_half_precision_carries(name, dtype):
    x = jnp.asarray(inputs(BATCH, STEPS, FEATURES))  # float32: cast by the cell
    cell, variables = init_cell(name, dtype=dtype)
    assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    carry = cell.initialize_carry(jax.random.key(0), (BATCH, FEATURES))
    results = carry, cell.apply(variables, make_carry(name, BATCH), x[:, 0])  # a float32 carry: cast too
    results += nn.RNN(cell, return_carry=True).apply({"params": {"cell": variables["params"]}}, x)
    assert {a.dtype for a in jax.tree.leaves(results)} == {jnp.dtype(dtype)}
    half = jax.tree.map(lambda a: a.astype(dtype), variables["params"])
    assert_close(results[2:], unrolled(name, half, x.astype(dtype)), bound=3e-2)


@pytest.mark.parametrize("name", ["gru", "deep_lstm"])
def test_dtypes_of_layers(name):
    net = network(name)
    x, h_0 = layer_inputs(net)
    layer = make_layer(name, dtype=jnp.bfloat16)
    variables = layer.init(jax.random.key(0), x)
    assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), jax.tree.map(jnp.asarray, (variables["params"], x, h_0)))
    assert_same(layer.apply(variables, x, h_0), net.apply(*half))
    gradient = jax.grad(lambda v: total(layer.apply(v, x)).astype(jnp.float32))(variables)
    assert {a.dtype for a in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}
    variables = make_layer(name, param_dtype=jnp.float16).init(jax.random.key(0), x.astype(np.float16))
    assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype("float16")}


@pytest.mark.parametrize("name", CELLS)
def test_a_zero_carry_needs_no_rng(name):
    cell, variables = init_cell(name)
    carry = cell.initialize_carry(None, (BATCH, FEATURES))
    assert_same(carry, jax.tree.map(jnp.zeros_like, make_carry(name, BATCH)))
    assert_same(carry, cell.initialize_carry(jax.random.key(0), (BATCH, FEATURES)))
    cell.apply(variables, carry, jnp.ones((BATCH, FEATURES)))  # no rngs at all


def test_a_random_carry():
    cell = linen.LSTMCell(features=HIDDEN, carry_init=nn.initializers.normal())
    c, h = cell.initialize_carry(jax.random.key(0), (BATCH, FEATURES))
    assert c.shape == h.shape == (BATCH, HIDDEN)
    assert not jnp.allclose(c, h)
    with pytest.raises(ValueError, match=r"carry_init=.* needs random numbers, but no rng was given"):
        cell.initialize_carry(None, (BATCH, FEATURES))


def test_initializers_act_gate_by_gate_as_in_flax():
    _, variables = init_cell(
        "lstm",
        kernel_init=lambda key, shape, dtype: jnp.broadcast_to(jnp.arange(shape[0], dtype=dtype)[:, None], shape),
        recurrent_kernel_init=nn.initializers.orthogonal(),
        bias_init=nn.initializers.ones,
    )
    params = variables["params"]
    np.testing.assert_array_equal(params["weight_ih"], np.broadcast_to(np.arange(FEATURES), (4 * HIDDEN, FEATURES)))
    for block in np.split(params["weight_hh"], 4):
        np.testing.assert_allclose(block @ block.T, np.eye(HIDDEN), atol=1e-6)
    assert all((params[name] == 1).all() for name in ("bias_ih", "bias_hh"))


def test_dropout():
    layer = linen.GRU(HIDDEN, num_layers=2, dropout=0.5)
    net, x = jr.GRU(FEATURES, HIDDEN, num_layers=2, dropout=0.5), inputs(STEPS, BATCH, FEATURES)
    variables = layer.init(jax.random.key(0), x)
    rngs = [{"dropout": jax.random.key(seed)} for seed in (0, 1)]
    drop = functools.partial(layer.apply, variables, x, deterministic=False)
    assert_same(layer.apply(variables, x, deterministic=True), net.apply(variables["params"], x))
    assert_same(drop(rngs=rngs[0]), drop(rngs=rngs[0]))
    assert not jnp.allclose(drop(rngs=rngs[0])[0], drop(rngs=rngs[1])[0])
    assert not jnp.allclose(drop(rngs=rngs[0])[0], layer.apply(variables, x, deterministic=True)[0])
    everything = linen.GRU(HIDDEN, num_layers=2, dropout=1.0, deterministic=False)
    assert_same(
        everything.apply(variables, x, rngs=rngs[0]),
        jr.GRU(FEATURES, HIDDEN, num_layers=2, dropout=1.0).apply(variables["params"], x, key=jax.random.key(7)),
    )
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        drop()
    with pytest.raises(ValueError, match="deterministic"):
        layer.apply(variables, x)
    with pytest.raises(ValueError, match="deterministic"):
        everything.apply(variables, x, deterministic=True)


def test_checkpoint_and_jit():
    net, layer = network("deep_lstm"), make_layer("deep_lstm")
    x, h_0 = layer_inputs(net)
    variables = layer.init(jax.random.key(0), x)

    @functools.partial(jax.jit, static_argnames="checkpoint")
    def gradient(variables, checkpoint):
        return jax.grad(lambda v: total(layer.apply(v, x, h_0, checkpoint=checkpoint)))(variables)

    assert_close(gradient(variables, "sqrt"), gradient(variables, None))


def test_layers_under_remat_and_vmap():
    x, _ = layer_inputs(network("gru"))
    layer = linen.GRU(HIDDEN)
    variables = layer.init(jax.random.key(0), x)
    assert_close(
        nn.remat(linen.GRU)(HIDDEN).apply(variables, x, lengths=LENGTHS), layer.apply(variables, x, lengths=LENGTHS)
    )
    ensemble = nn.vmap(linen.GRU, in_axes=None, variable_axes={"params": 0}, split_rngs={"params": True}, axis_size=2)(
        HIDDEN
    )
    members = ensemble.init(jax.random.key(0), x)
    output, _ = ensemble.apply(members, x)
    for index in range(2):
        assert_close(output[index], layer.apply(jax.tree.map(lambda a, i=index: a[i], members), x)[0])


def test_an_affine_cell_of_lstm_is_lstm_even_copied():
    cell, variables = init_cell("lstm")
    carry, x = make_carry("lstm", BATCH), inputs(BATCH, FEATURES)
    for same in (linen.AffineCell(HIDDEN, jr.lstm), copy.deepcopy(linen.AffineCell(HIDDEN, jr.lstm))):
        assert_same(same.apply(variables, carry, x), cell.apply(variables, carry, x))


class Tagger(nn.Module):
    """A layer and a cell inside a user's module."""

    @nn.compact
    def __call__(self, x):
        ys, _ = linen.LSTM(HIDDEN, batch_first=True)(x)
        return nn.Dense(2)(nn.RNN(linen.OptimizedLSTMCell(HIDDEN))(ys))


def test_modules_nest():
    variables = Tagger().init(jax.random.key(0), jnp.ones((BATCH, STEPS, FEATURES)))
    assert set(variables["params"]) == {"LSTM_0", "LSTMCell_0", "Dense_0"}
    assert Tagger().apply(variables, jnp.ones((BATCH, STEPS, FEATURES))).shape == (BATCH, STEPS, 2)


X = jnp.ones((STEPS, BATCH, FEATURES))
CARRY = jnp.zeros((BATCH, HIDDEN))
NOT_AFFINE = jr.Cell(
    lambda key, input_size, hidden_size, *, dtype: {"w": jnp.ones(3, dtype)},
    lambda params, batch_shape: jnp.ones(batch_shape),
    lambda params, state, x: state,
    lambda state: state,
)
ERRORS = {
    "not_affine": (
        lambda: linen.AffineCell(5, NOT_AFFINE).init(jax.random.key(0), CARRY, X[0]),
        TypeError,
        "cell must have parameters with the fields weight_ih, .* got .*'w'",
    ),
    "hidden_size": (lambda: linen.RNN(0).init(jax.random.key(0), X), ValueError, "hidden_size must be at least 1"),
    "features": (lambda: linen.GRUCell(0).initialize_carry(None, (2,)), ValueError, "features must be at least 1"),
    "nonlinearity": (lambda: linen.RNN(5, nonlinearity="sin").init(jax.random.key(0), X), ValueError, "nonlinearity"),
    "activation_fn": (lambda: init_cell("rnn", activation_fn=jnp.sin), ValueError, "activation_fn must be jnp.tanh"),
    "residual": (lambda: linen.SimpleCell(5, residual=True), TypeError, "residual"),
    "gate_fn": (lambda: linen.LSTMCell(5, gate_fn=nn.sigmoid), TypeError, "gate_fn"),
    "bias": (lambda: linen.GRUCell(5, bias=1).initialize_carry(None, (2,)), TypeError, "bias must be a bool"),
    "cell": (
        lambda: linen.AffineCell(5, cell=jnp.tanh).initialize_carry(None, (2,)),
        TypeError,
        "cell must be a jaxrnn",
    ),
    "dtype": (lambda: linen.GRU(5, dtype=jnp.int32).init(jax.random.key(0), X), TypeError, "^dtype must be floating"),
    "param_dtype": (
        lambda: linen.GRUCell(5, param_dtype=jnp.int32).initialize_carry(None, (2,)),
        TypeError,
        "param_dtype must be",
    ),
    "x": (lambda: linen.GRU(5).init(jax.random.key(0), [1.0]), TypeError, "x must be an array, got list"),
    "x_rank": (lambda: linen.GRU(5).init(jax.random.key(0), jnp.ones(())), ValueError, r"x has shape \(\)"),
    "x_dtype": (
        lambda: linen.GRU(5).init(jax.random.key(0), X.astype(jnp.bfloat16)),
        ValueError,
        "x has dtype bfloat16",
    ),
    "x_integers": (
        lambda: linen.GRU(5, dtype=jnp.float32).init(jax.random.key(0), X.astype(int)),
        ValueError,
        "x has dtype int32",
    ),
    "x_features": (
        lambda: linen.GRU(5).apply(linen.GRU(5).init(jax.random.key(0), X), X[..., 1:]),
        flax.errors.ScopeParamShapeError,
        "weight_ih_l0",
    ),
    "h_0": (lambda: linen.LSTM(5).init(jax.random.key(0), X, CARRY), TypeError, r"h_0 must be a tuple \(h_0, c_0\)"),
    "lengths": (
        lambda: linen.GRU(5).init(jax.random.key(0), X, lengths=jnp.array([9, 1, 1])),
        ValueError,
        r"lie in \[0, 6\]",
    ),
    "inputs": (lambda: linen.GRUCell(5).init(jax.random.key(0), CARRY, 1.0), TypeError, "inputs must be an array"),
    "carry": (lambda: linen.LSTMCell(5).init(jax.random.key(0), CARRY, X[0]), ValueError, "carry is float32"),
    "carry_shape": (
        lambda: linen.GRUCell(5).init(jax.random.key(0), CARRY[1:], X[0]),
        ValueError,
        r"carry has shape \(2, 5\)",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        call()
