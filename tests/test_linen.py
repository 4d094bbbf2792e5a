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
from jaxrnn import interop, linen

from .cell_table import random_like
from .flax_table import (
    BATCH,
    CELLS,
    FEATURES,
    HIDDEN,
    IN_RNN,
    LAYERS,
    LENGTHS,
    OWN_OF_LINEN,
    PROMOTED,
    STEPS,
    TORCH_CELLS,
    assert_close,
    assert_same,
    cell_params,
    core_cell,
    flax_promotes,
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
from .marks import few_of, slow_but

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


@pytest.mark.parametrize("name", slow_but(("rnn_tanh", "lstm_proj", "deep_gru"), LAYERS))
def test_layers_are_the_core_s_networks(name):
    lengths = LENGTHS if list(LAYERS).index(name) % 2 == 0 else None
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


@pytest.mark.parametrize(("name", "reverse", "ragged"), IN_RNN)
def test_cells_in_flax_s_rnn(name, reverse, ragged):
    seq_lengths = LENGTHS if ragged else None
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


PROMOTING = ["gru", "lstm", "mgu"]


def own(name, **options):
    """Flax's cell of the table, its variables, ours and its variables, with the same weights."""
    kind, arguments = OWN_OF_LINEN[name]
    cells = [getattr(library, kind)(HIDDEN, **arguments, **options) for library in (nn, linen)]
    carry = cells[0].initialize_carry(jax.random.key(0), (BATCH, FEATURES))
    theirs = random_like(jax.eval_shape(cells[0].init, jax.random.key(0), carry, jnp.ones((BATCH, FEATURES))))
    return cells[0], theirs, cells[1], {"params": from_flax(kind, theirs["params"])}


def in_cell(variables):
    return {"params": {"cell": variables["params"]}}


@pytest.mark.parametrize("name", slow_but(("rnn_residual", "lstm_functions", "mgu"), OWN_OF_LINEN))
def test_cells_equal_flax_s_own(name):
    x = jnp.asarray(inputs(BATCH, STEPS, FEATURES))
    theirs, their_variables, ours, our_variables = own(name)
    results = [
        nn.RNN(cell, return_carry=True).apply(in_cell(variables), x, seq_lengths=LENGTHS, reverse=True)
        for cell, variables in ((theirs, their_variables), (ours, our_variables))
    ]
    assert_close(*results, bound=1e-5)
    fresh = ours.init(jax.random.key(0), ours.initialize_carry(None, (BATCH, FEATURES)), x[:, 0])
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, our_variables)


@pytest.mark.parametrize(("name", "dtypes"), few_of(zip(itertools.cycle(PROMOTING), PROMOTED), PROMOTING, PROMOTED))
def test_dtypes_are_promoted_as_in_flax(name, dtypes):
    of_x, of_params, result = dtypes
    theirs, their_variables, ours, our_variables = own(name)
    x = jnp.asarray(3 * inputs(BATCH, FEATURES)).astype(of_x)
    carry = jax.tree.map(jnp.asarray, make_carry("lstm" if name == "lstm" else "gru", BATCH))
    cast = lambda tree: jax.tree.map(lambda a: a.astype(of_params), tree)  # noqa: E731
    with flax_promotes():
        ends = [c.apply(cast(v), carry, x) for c, v in ((theirs, their_variables), (ours, our_variables))]
    assert {a.dtype for a in jax.tree.leaves(ends)} == {jnp.dtype(result)}
    assert_close(*ends, bound=1e-5 if of_params == "float32" else 0.1)  # a Dense of Flax's may be in bfloat16


def test_layers_promote():
    layer, x = linen.LSTM(HIDDEN, batch_first=True), inputs(BATCH, STEPS, FEATURES)
    variables = layer.init(jax.random.key(0), x)
    h_0 = (inputs(1, BATCH, HIDDEN), inputs(1, BATCH, HIDDEN, seed=1))
    with flax_promotes():
        for dtype in ("int32", "bfloat16", "float16"):
            low = jnp.asarray(3 * x).astype(dtype)
            assert_same(layer.apply(variables, low, h_0), layer.apply(variables, low.astype(jnp.float32), h_0))
    half = linen.LSTM(HIDDEN, batch_first=True, dtype=jnp.bfloat16)
    output, states = half.apply(variables, (3 * x).astype(int), h_0)
    assert {a.dtype for a in (output, *states)} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("name", slow_but(("lstm",), ["rnn", "gru", "lstm"]))
def test_zeros_follow_parameters_that_were_cast(name):
    """After init, and with no carry given."""
    cell, variables = init_cell(name)
    cast = jax.tree.map(lambda a: a.astype(jnp.bfloat16), variables)
    layer, x = nn.RNN(cell, return_carry=True), jnp.asarray(inputs(BATCH, STEPS, FEATURES))
    half = layer.apply(in_cell(cast), x.astype(jnp.bfloat16))
    assert {a.dtype for a in jax.tree.leaves(half)} == {jnp.dtype("bfloat16")}
    assert_same(half, unrolled(name, cast["params"], x.astype(jnp.bfloat16)))
    with flax_promotes():
        carry, ys = layer.apply(in_cell(cast), x)
    assert {a.dtype for a in jax.tree.leaves(carry)} == {jnp.dtype("bfloat16")}  # a scan carries what it was given
    assert ys.dtype == jnp.float32
    assert_close((carry, ys), layer.apply(in_cell(variables), x), bound=0.1)


def assert_boxed(box, names, array):
    assert box.names == names
    np.testing.assert_array_equal(box.value, array)


@pytest.mark.parametrize("name", slow_but(("with_partitioning",), ["with_partitioning", "with_logical_partitioning"]))
def test_partitioned_initializers(name):
    """The same numbers, in boxes with the names of axes in our order, (gates and units, features)."""
    with_names = getattr(nn, name)
    draws = {
        "kernel_init": nn.initializers.lecun_normal(),
        "recurrent_kernel_init": nn.initializers.orthogonal(),
        "bias_init": nn.initializers.normal(),
    }
    names = {"kernel_init": ("in", "units"), "recurrent_kernel_init": (None, "units"), "bias_init": ("units",)}
    boxed = {argument: with_names(draw, names[argument]) for argument, draw in draws.items()}
    plain, named = init_cell("lstm", **draws)[1]["params"], init_cell("lstm", **boxed)[1]["params"]
    assert_boxed(named["weight_ih"], ("units", "in"), plain["weight_ih"])
    assert_boxed(named["weight_hh"], ("units", None), plain["weight_hh"])
    assert_boxed(named["bias_hh"], ("units",), plain["bias_hh"])
    carry, x = make_carry("lstm", BATCH), inputs(BATCH, FEATURES)
    cell = make_cell("lstm", **boxed)
    assert_same(cell.apply({"params": named}, carry, x), cell.apply({"params": plain}, carry, x))
    spec = nn.get_partition_spec(named)["weight_ih"]
    assert tuple(spec) == ("units", "in")

    xs = inputs(STEPS, BATCH, FEATURES)
    layers = [linen.GRU(HIDDEN, num_layers=2, bidirectional=True, **given) for given in (draws, boxed)]
    plain, named = (layer.init(jax.random.key(0), xs)["params"] for layer in layers)
    for name in plain:
        expected = {"weight_ih": ("units", "in"), "weight_hh": ("units", None)}.get(name[:9], ("units",))
        assert_boxed(named[name], expected, plain[name])
    assert_same(layers[1].apply({"params": named}, xs), layers[0].apply({"params": plain}, xs))


@pytest.mark.slow
def test_partitioned_parameters_gain_an_axis():
    kernel = nn.with_partitioning(nn.initializers.lecun_normal(), ("in", "units"))
    ensemble = nn.vmap(
        linen.GRUCell,
        in_axes=None,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        axis_size=2,
        metadata_params={nn.meta.PARTITION_NAME: "members"},
    )(HIDDEN, kernel_init=kernel)
    members = ensemble.init(jax.random.key(0), CARRY, X[0])
    assert members["params"]["weight_ih"].names == ("members", "units", "in")
    assert ensemble.apply(members, CARRY, X[0])[1].shape == (2, BATCH, HIDDEN)


def test_initializers_of_layers_act_gate_by_gate():
    layer = linen.LSTM(HIDDEN, num_layers=2, proj_size=2, bidirectional=True, bias_init=nn.initializers.ones)
    layer = layer.clone(recurrent_kernel_init=lambda key, shape, dtype: jnp.full(shape, shape[0], dtype))
    params, own = (module.init(jax.random.key(0), X)["params"] for module in (layer, linen.LSTM(HIDDEN)))
    assert all((a == float("ih" in name)).all() for name, a in params.items() if name.startswith("bias"))
    assert all((a == 2).all() for name, a in params.items() if name.startswith("weight_hh"))  # (R, H) a gate
    assert {name[:9]: a.shape for name, a in params.items()}["weight_hr"] == (2, HIDDEN)
    np.testing.assert_array_less(np.abs(params["weight_ih_l1_reverse"]), HIDDEN**-0.5)
    plain = linen.LSTM(HIDDEN, kernel_init=nn.initializers.ones).init(jax.random.key(0), X)["params"]
    assert_same(plain["weight_hh_l0"], own["weight_hh_l0"])  # what no initializer is for stays as it was


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm_functions"])
def test_biases_are_drawn_as_in_flax(name):
    """Whose cells have one, and b_hn beside it: ours add up to it."""
    theirs, _, ours, _ = own(name, bias_init=nn.initializers.ones)
    kind, _ = OWN_OF_LINEN[name]
    carry = jax.tree.map(jnp.zeros_like, make_carry("lstm" if "lstm" in name else name, BATCH))
    one, other = (cell.init(jax.random.key(0), carry, X[0])["params"] for cell in (theirs, ours))
    expected = from_flax(kind, one)
    total_of = lambda p: p["bias_ih"] + p["bias_hh"]  # noqa: E731
    np.testing.assert_array_equal(total_of(other), total_of(expected))
    if name == "gru":
        assert_same([other[bias] for bias in ("bias_ih", "bias_hh")], [expected[b] for b in ("bias_ih", "bias_hh")])


def test_the_minimal_gated_unit_has_two_initializers_of_biases():
    cell = linen.MGUCell(HIDDEN, forget_bias_init=nn.with_partitioning(nn.initializers.ones, ("units",)))
    own, given = (c.init(jax.random.key(0), CARRY, X[0])["params"] for c in (linen.MGUCell(HIDDEN), cell))
    for name, value in (("bias_ih", 1), ("bias_hh", 0)):
        expected = jnp.concatenate([jnp.full(HIDDEN, value, jnp.float32), own[name][HIDDEN:]])
        assert_boxed(given[name], ("units",), expected)


CONVOLUTIONS = {
    "image": ((5, 4), {"kernel_size": (3, 2)}),
    "circular": ((6,), {"kernel_size": (3,), "padding": "CIRCULAR"}),
    "causal": ((6,), {"kernel_size": (3,), "padding": "CAUSAL", "strides": 1}),
    "volume": ((3, 4, 2), {"kernel_size": (2, 3, 1), "padding": ((0, 1), (2, 0), (0, 0))}),
}


@pytest.mark.parametrize("name", slow_but(("volume",), CONVOLUTIONS))
def test_convolutions_equal_flax_s_own(name):
    places, options = CONVOLUTIONS[name]
    x = jnp.asarray(inputs(BATCH, STEPS, *places, FEATURES))
    theirs, ours = (library.ConvLSTMCell(HIDDEN, **options) for library in (nn, linen))
    with flax_promotes():
        variables = random_like(jax.eval_shape(nn.RNN(theirs).init, jax.random.key(0), x))
        expected = nn.RNN(theirs, return_carry=True).apply(variables, x, seq_lengths=LENGTHS)
    _, params = interop.from_linen(variables)
    tensors = {name: a for name, a in params["cell"]._asdict().items() if a is not None}
    layer = nn.RNN(ours, return_carry=True)
    assert_close(layer.apply(in_cell({"params": tensors}), x, seq_lengths=LENGTHS), expected, bound=1e-5)
    fresh = layer.init(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, in_cell({"params": tensors}))


@pytest.mark.parametrize(("batch_first", "ragged"), few_of([(True, True)], [True, False], [True, False]))
def test_layers_take_any_batch_axes(batch_first, ragged):
    """And no lengths for one sequence without them; each as if it were alone."""
    lengths = np.array([[6, 1], [0, 4], [2, 3]]) if ragged else None
    layer = linen.LSTM(HIDDEN, num_layers=2, batch_first=batch_first)
    time = 2 if batch_first else 0
    x, h_0 = inputs(3, 2, STEPS, FEATURES), (inputs(2, 3, 2, HIDDEN), inputs(2, 3, 2, HIDDEN, seed=1))
    x = jnp.moveaxis(x, 2, time)
    variables = layer.init(jax.random.key(0), x)
    output, states = layer.apply(variables, x, h_0, lengths=lengths)
    output = jnp.moveaxis(output, time, 2)
    for index in np.ndindex(3, 2):
        alone = [jnp.moveaxis(x, time, 2)[index], jax.tree.map(lambda a, i=index: a[(slice(None), *i)], h_0)]
        expected = layer.apply(variables, *alone, lengths=None if lengths is None else lengths[index])
        assert_close((output[index], jax.tree.map(lambda a, i=index: a[(slice(None), *i)], states)), expected)


def test_layers_in_sequential():
    model = nn.Sequential(
        [
            linen.GRU(HIDDEN, batch_first=True, return_carry=False),
            nn.relu,
            linen.LSTM(3, return_carry=False),
            nn.Dense(2),
        ]
    )
    x = jnp.asarray(inputs(BATCH, STEPS, FEATURES))
    output, variables = model.init_with_output(jax.random.key(0), x)
    assert output.shape == (BATCH, STEPS, 2)
    layer = linen.GRU(HIDDEN, batch_first=True)
    params = {"params": variables["params"]["layers_0"]}
    alone = layer.apply(params, x, return_carry=False)
    assert_same(alone, layer.apply(params, x)[0])


def test_variables_of_flax_s_own_cells_are_taken_over_and_back():
    _, their_variables, ours, our_variables = own("lstm")
    cell, params = interop.from_linen(their_variables)
    assert cell == jr.lstm
    assert_same({name: a for name, a in params._asdict().items() if a is not None}, our_variables["params"])
    back = interop.to_linen(jr.lstm, cell_params("lstm", our_variables["params"]))
    assert_same(back, their_variables)
    with pytest.raises(ValueError, match=r"^LSTMCell has no parameters \['weight_ih', 'weight_hh', .* got \['hf'"):
        ours.apply(their_variables, (CARRY, CARRY), X[0])


@pytest.mark.parametrize("name", slow_but(("lstm",), ["rnn", "gru", "lstm"]))
def test_bidirectional_is_the_core_s(name):
    kind = name.upper()
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


@pytest.mark.parametrize("name", slow_but(("lstm",), CELLS))
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


@pytest.mark.parametrize("name", slow_but(("gru_no_bias", "lstm"), CELLS))
def test_half_precision_carries(name):
    dtype = jnp.float16 if list(CELLS).index(name) % 2 else jnp.bfloat16
    x = jnp.asarray(inputs(BATCH, STEPS, FEATURES))  # float32: cast by the cell
    cell, variables = init_cell(name, dtype=dtype)
    assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    carry = cell.initialize_carry(jax.random.key(0), (BATCH, FEATURES))
    results = carry, cell.apply(variables, make_carry(name, BATCH), x[:, 0])  # a float32 carry: cast too
    results += nn.RNN(cell, return_carry=True).apply({"params": {"cell": variables["params"]}}, x)
    assert {a.dtype for a in jax.tree.leaves(results)} == {jnp.dtype(dtype)}
    half = jax.tree.map(lambda a: a.astype(dtype), variables["params"])
    assert_close(results[2:], unrolled(name, half, x.astype(dtype)), bound=3e-2)


@pytest.mark.parametrize("name", slow_but(("gru",), ["gru", "deep_lstm"]))
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
    assert (params["bias_ih"] == 1).all()
    assert not params["bias_hh"].any()


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
    assert set(variables["params"]) == {"LSTM_0", "OptimizedLSTMCell_0", "Dense_0"}
    assert Tagger().apply(variables, jnp.ones((BATCH, STEPS, FEATURES))).shape == (BATCH, STEPS, 2)


def promoting(call):
    def called():
        with flax_promotes():
            return call()

    return called


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
    "activation_fn": (
        lambda: init_cell("rnn", activation_fn="tanh"),
        TypeError,
        r"activation_fn must be a function \(a\) -> array, got str",
    ),
    "gate_fn": (lambda: init_cell("lstm", gate_fn=lambda a, b: a), TypeError, "gate_fn must be a function"),
    "residual": (lambda: init_cell("rnn", residual=1), TypeError, "residual must be a bool"),
    "reset_gate": (lambda: linen.MGUCell(5, reset_gate=0).initialize_carry(None, (2,)), TypeError, "reset_gate must"),
    "forget_bias_init": (
        lambda: linen.MGUCell(5, forget_bias_init=1.0).init(jax.random.key(0), CARRY, X[0]),
        TypeError,
        "forget_bias_init must be a function",
    ),
    "strides": (
        lambda: linen.ConvLSTMCell(5, (3,), strides=2).initialize_carry(None, (2, 3)),
        ValueError,
        "strides must be 1",
    ),
    "unknown": (lambda: linen.OptimizedLSTMCell(5, gate=1), TypeError, "^OptimizedLSTMCell.* 'gate'"),
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
    "x_complex": (
        promoting(lambda: linen.GRU(5).init(jax.random.key(0), X * 1j)),
        TypeError,
        r"x must be an array of real numbers, as a layer has them, got complex64\[6,3,4\]",
    ),
    "x_keys": (
        lambda: linen.GRU(4).init(jax.random.key(0), jax.random.split(jax.random.key(0), (3, 2, 4))),
        TypeError,
        "x must be an array of numbers",
    ),
    "batch_of_h_0": (
        lambda: linen.GRU(5).init(jax.random.key(0), jnp.ones((6, 2, 3, 4)), jnp.ones((1, 3, 2, 5))),
        ValueError,
        r"h_0 has shape \(1, 3, 2, 5\), expected the batch axes \(2, 3\) of x",
    ),
    "batch_of_lengths": (
        lambda: linen.GRU(5).init(jax.random.key(0), jnp.ones((6, 2, 3, 4)), lengths=[1, 2, 3, 4, 5, 6]),
        ValueError,
        r"lengths has shape \(6,\), expected the batch axes \(2, 3\) of x",
    ),
    "return_carry": (lambda: linen.GRU(5, return_carry=1).init(jax.random.key(0), X), TypeError, "return_carry must"),
    "variables": (
        lambda: linen.GRU(5).apply({"params": {"weight_hh_l0": CARRY}}, X),
        ValueError,
        r"^GRU has no parameters \['weight_ih_l0', 'bias_hh_l0', 'bias_ih_l0'\], expected .*, got \['weight_hh_l0'\]",
    ),
    "no_variables": (lambda: linen.GRUCell(5).apply({}, CARRY, X[0]), ValueError, "^GRUCell has no parameters"),
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
