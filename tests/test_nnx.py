"""The nnx layers and cells: equal to the core and torch by renaming alone, at home in Flax's transformations."""

import copy
import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxrnn as jr
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn import interop

from .cell_table import random_like
from .flax_table import (
    BATCH,
    CELLS,
    FEATURES,
    HIDDEN,
    IN_RNN,
    LAYERS,
    LENGTHS,
    OWN,
    PROMOTED,
    STEPS,
    TORCH_CELLS,
    assert_close,
    assert_same,
    cell_params,
    core_cell,
    flax_promotes,
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
    return getattr(jaxrnn.nnx, kind)(FEATURES, HIDDEN, **arguments, **options, rngs=nnx.Rngs(0))


def make_cell(name, seed=0, **options):
    kind, arguments, _ = CELLS[name]
    return getattr(jaxrnn.nnx, kind)(FEATURES, HIDDEN, **arguments, **options, rngs=nnx.Rngs(seed))


def params_of(module):
    """The parameters under torch's names, as the core takes them."""
    return nnx.to_pure_dict(nnx.state(module, nnx.Param))


def unrolled(name, params, x, **options):
    """The core's answer for batch-major x: final carry and outputs."""
    state, ys = jr.unroll(core_cell(name), cell_params(name, params), jnp.swapaxes(x, 0, 1), **options)
    return to_carry(state), jnp.swapaxes(ys, 0, 1)


@pytest.mark.parametrize("name", slow_but(("rnn_relu", "gru", "deep_lstm"), LAYERS))
def test_layers_are_the_core_s_networks(name):
    lengths = LENGTHS if list(LAYERS).index(name) % 2 else None
    net, layer = network(name), make_layer(name)
    x, h_0 = layer_inputs(net)
    params = net.init(jax.random.key(1))
    nnx.update(layer, params)
    assert_same(params_of(layer), params)
    assert_same(layer(x, h_0, lengths=lengths), net.apply(params, x, h_0, lengths=lengths))
    assert_same(layer(x, lengths=lengths), net.apply(params, x, lengths=lengths))
    gradient = nnx.grad(lambda layer: total(layer(x, h_0, lengths=lengths)))(layer)
    expected = jax.grad(lambda params: total(net.apply(params, x, h_0, lengths=lengths)))(params)
    assert_close(nnx.to_pure_dict(gradient), expected)


@pytest.mark.parametrize("name", LAYERS)
def test_parameters_are_linen_s(name):
    layer, (x, h_0) = make_layer(name), layer_inputs(network(name))
    kind, arguments = LAYERS[name]
    other = getattr(jaxrnn.linen, kind)(HIDDEN, **arguments)
    assert_same(other.apply({"params": params_of(layer)}, x, h_0), layer(x, h_0))
    variables = other.init(jax.random.key(1), x)
    nnx.update(layer, variables["params"])
    assert_same(other.apply(variables, x, h_0), layer(x, h_0))


@pytest.mark.parametrize("name", LAYERS)
def test_layers_initialise_as_the_core_does(name):
    params = params_of(make_layer(name))
    like = jax.eval_shape(network(name).init, jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, like)
    values = np.concatenate([np.ravel(a) for a in jax.tree.leaves(params)])
    assert 0.9 * HIDDEN**-0.5 < np.abs(values).max() <= HIDDEN**-0.5
    assert len(np.unique(values)) > 0.99 * len(values)  # no tensor repeats another


@pytest.mark.parametrize("name", LAYERS)
@torch_warns
def test_layers_equal_torch(name):
    torch = pytest.importorskip("torch")
    module, layer = torch_layer(name), make_layer(name)
    x, h_0 = layer_inputs(network(name))

    def compare():
        def loss(layer, x):
            outputs = layer(x, h_0)
            return total(outputs), jax.tree.leaves(outputs)

        (d_layer, d_x), outputs = nnx.grad(loss, argnums=(0, 1), has_aux=True)(layer, jnp.asarray(x))
        assert_close((outputs, nnx.to_pure_dict(d_layer), d_x), torch_results(module, x, h_0))
        module.zero_grad()

    module.load_state_dict({name: torch.tensor(np.asarray(a)) for name, a in params_of(layer).items()})
    compare()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(-1.5)
    nnx.update(layer, from_torch(module.state_dict()))
    compare()


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("name", TORCH_CELLS)
def test_cells_equal_torch(name, batch):
    torch = pytest.importorskip("torch")
    module, carry, x = torch_cell(name), make_carry(name, *batch), inputs(*batch, FEATURES)
    theirs = module(torch.tensor(x), jax.tree.map(torch.tensor, tuple(to_state(carry)) if name == "lstm" else carry))
    theirs = jr.LSTMState(*theirs) if name == "lstm" else theirs
    theirs = jax.tree.map(lambda a: a.detach().numpy(), theirs)
    cell = make_cell(name)
    module.load_state_dict({name: torch.tensor(np.asarray(a)) for name, a in params_of(cell).items()})
    nnx.update(cell, from_torch(torch_cell(name).state_dict()))
    following, y = cell(carry, x)
    assert_close((to_state(following), y), (theirs, theirs.h if name == "lstm" else theirs))


@pytest.mark.parametrize(("name", "reverse", "ragged"), IN_RNN)
def test_cells_in_flax_s_rnn(name, reverse, ragged):
    seq_lengths = LENGTHS if ragged else None
    x, cell = jnp.asarray(inputs(BATCH, STEPS, FEATURES)), make_cell(name)
    layer = nnx.RNN(cell, return_carry=True, reverse=reverse, keep_order=True)
    carry, ys = layer(x, seq_lengths=seq_lengths)
    expected, valid = unrolled(name, params_of(cell), x, lengths=seq_lengths, reverse=reverse)
    mask = np.ones((BATCH, STEPS, 1)) if seq_lengths is None else np.arange(STEPS)[:, None] < seq_lengths[:, None, None]
    assert_close((carry, np.where(mask, ys, 0)), (expected, valid))


def test_flax_s_rnn_gives_reversed_output_without_keep_order_and_takes_a_carry():
    x, carry, cell = jnp.asarray(inputs(BATCH, STEPS, FEATURES)), make_carry("lstm", BATCH), make_cell("lstm")
    final, ys = nnx.RNN(cell, reverse=True)(x, initial_carry=carry, return_carry=True)
    expected, forward = unrolled("lstm", params_of(cell), x, state=to_state(carry), reverse=True)
    assert_close((final, ys), (expected, forward[:, ::-1]))


def own(name, **options):
    """Flax's cell of the table and ours, with the same weights."""
    kind, arguments = OWN[name]
    cells = [
        getattr(library, kind)(FEATURES, HIDDEN, **arguments, **options, rngs=nnx.Rngs(0))
        for library in (nnx, jaxrnn.nnx)
    ]
    theirs = random_like(params_of(cells[0]))
    nnx.update(cells[0], theirs)
    _, params = interop.from_nnx(theirs, nonlinearity="tanh")
    nnx.update(cells[1], {name: a for name, a in params._asdict().items() if a is not None})
    return cells


@pytest.mark.parametrize("name", slow_but(("rnn", "gru_functions", "optimized_lstm"), OWN))
def test_cells_equal_flax_s_own(name):
    x = jnp.asarray(inputs(BATCH, STEPS, FEATURES))
    with flax_promotes():
        results = [nnx.RNN(cell, return_carry=True)(x, seq_lengths=LENGTHS, reverse=True) for cell in own(name)]
    assert_close(*results, bound=1e-5)


PROMOTING = ["rnn", "gru", "lstm", "optimized_lstm"]


@pytest.mark.parametrize(("name", "dtypes"), few_of(zip(itertools.cycle(PROMOTING), PROMOTED), PROMOTING, PROMOTED))
def test_dtypes_are_promoted_as_in_flax(name, dtypes):
    of_x, of_params, result = dtypes
    cells = own(name, dtype=None)
    x = jnp.asarray(3 * inputs(BATCH, FEATURES)).astype(of_x)
    carry = jax.tree.map(jnp.asarray, make_carry("lstm" if "lstm" in name else name, BATCH))
    for cell in cells:
        nnx.update(cell, jax.tree.map(lambda a: a.astype(of_params), params_of(cell)))
    with flax_promotes():
        ends = [cell(carry, x) for cell in cells]
    assert {a.dtype for a in jax.tree.leaves(ends)} == {jnp.dtype(result)}
    assert_close(*ends, bound=1e-5 if of_params == "float32" else 0.1)  # a Linear of Flax's may be in bfloat16


def test_a_function_of_one_s_own_promotes():
    given = []

    def promote(arrays, *, dtype):
        given.append(dtype)
        return tuple(jnp.asarray(a, jnp.bfloat16) for a in arrays)

    cell = make_cell("lstm", promote_dtype=promote)
    carry, y = cell(make_carry("lstm", BATCH), inputs(BATCH, FEATURES))
    assert given == [None]
    assert y.dtype == jnp.bfloat16
    expected = make_cell("lstm", dtype=jnp.bfloat16)(make_carry("lstm", BATCH), inputs(BATCH, FEATURES))
    assert_same(y, expected[1])
    assert {a.dtype for a in carry} == {jnp.dtype("float32")}  # a scan carries what it was given
    with pytest.raises(TypeError, match="promote_dtype must return 7 arrays, as many as it got, got None"):
        make_cell("lstm", promote_dtype=lambda arrays, *, dtype: None)(make_carry("lstm", BATCH), X[0])


@pytest.mark.parametrize("name", slow_but(("gru",), ["rnn", "gru", "lstm"]))
def test_zeros_follow_parameters_that_were_cast(name):
    """And no carry given."""
    cell, x = make_cell(name), jnp.asarray(inputs(BATCH, STEPS, FEATURES))
    whole = nnx.RNN(cell, return_carry=True)(x)
    nnx.update(cell, jax.tree.map(lambda a: a.astype(jnp.bfloat16), params_of(cell)))
    half = nnx.RNN(cell, return_carry=True)(x.astype(jnp.bfloat16))
    assert {a.dtype for a in jax.tree.leaves(half)} == {jnp.dtype("bfloat16")}
    assert_same(half, unrolled(name, params_of(cell), x.astype(jnp.bfloat16)))
    with flax_promotes():
        carry, ys = nnx.RNN(cell, return_carry=True)(x)
    assert {a.dtype for a in jax.tree.leaves(carry)} == {jnp.dtype("bfloat16")}
    assert ys.dtype == jnp.float32
    assert_close((carry, ys), whole, bound=0.1)


def test_rngs_that_are_kept():
    """As in Flax, which forks its stream "carry" too."""
    normal = nnx.initializers.normal()
    cell = make_cell("lstm", keep_rngs=True)
    with pytest.warns(UserWarning, match="keep_rngs"):
        theirs = nnx.LSTMCell(FEATURES, HIDDEN, keep_rngs=True, rngs=nnx.Rngs(0))
    first, second = (cell.initialize_carry((BATCH, FEATURES), carry_init=normal) for _ in range(2))
    assert not jnp.allclose(first[0], second[0])
    assert cell.rngs.count[...] == 4
    theirs.initialize_carry((BATCH, FEATURES), carry_init=normal)
    assert theirs.rngs.count[...] == 2
    assert make_cell("lstm").rngs is None


KERNELS = {"kernel_metadata": ("in", "units"), "recurrent_kernel_metadata": ("units",), "bias_metadata": ("units",)}
METADATA = {name: {"out_sharding": names, "note": name} for name, names in KERNELS.items()}


def mesh_of(*names):
    """A mesh of one device, without which Flax takes no names."""
    return jax.make_mesh((1,) * len(names), names, axis_types=(jax.sharding.AxisType.Auto,) * len(names))


@pytest.mark.parametrize("kind", slow_but(("GRU", "SimpleCell"), ["GRU", "OptimizedLSTMCell", "SimpleCell"]))
def test_metadata(kind):
    """With the names of axes in our order, (gates and units, features)."""
    with jax.set_mesh(mesh_of("in", "units")):
        module = getattr(jaxrnn.nnx, kind)(FEATURES, HIDDEN, **METADATA, rngs=nnx.Rngs(0))
    expected = {"weight_ih": ("units", "in"), "weight_hh": (None, "units"), "bias_ih": ("units",)}
    suffix = "" if kind.endswith("Cell") else "_l0"
    for name, names in expected.items():
        variable = getattr(module, name + suffix)
        assert variable.out_sharding == names
        assert variable.note == {"weight_ih": "kernel_metadata", "weight_hh": "recurrent_kernel_metadata"}.get(
            name, "bias_metadata"
        )
        assert variable[...].sharding.spec == jax.sharding.PartitionSpec(*names)
    assert_same(params_of(module), params_of(getattr(jaxrnn.nnx, kind)(FEATURES, HIDDEN, rngs=nnx.Rngs(0))))


@pytest.mark.parametrize("kind", ["GRU", "LSTMCell"])
def test_initializers_with_metadata(kind):
    draw, make = nnx.initializers.lecun_normal(), getattr(jaxrnn.nnx, kind)
    with jax.set_mesh(mesh_of("in", "units")):
        named = make(FEATURES, HIDDEN, kernel_init=nnx.with_partitioning(draw, ("in", "units")), rngs=nnx.Rngs(0))
    plain = make(FEATURES, HIDDEN, kernel_init=draw, rngs=nnx.Rngs(0))
    assert_same(params_of(named), params_of(plain))
    name = next(name for name in params_of(named) if name.startswith("weight_ih"))
    assert getattr(named, name).out_sharding == ("units", "in")
    assert getattr(named, name)[...].sharding.spec == jax.sharding.PartitionSpec("units", "in")


def test_cells_of_images():
    """Any cell of the library whose parameters have torch's names, here with kernels over places."""
    names = ("height", "width", "in", "units")
    with jax.set_mesh(mesh_of(*names)):
        cell = jaxrnn.nnx.AffineCell(
            FEATURES,
            HIDDEN,
            cell=jr.conv_lstm,
            kernel_init=lambda key, shape, dtype: jnp.reshape(jnp.arange(np.prod(shape), dtype=dtype), shape),
            kernel_metadata={"out_sharding": names},
            rngs=nnx.Rngs(0),
        )
    assert cell.weight_ih.shape == (4 * HIDDEN, FEATURES, 3, 3)
    assert cell.weight_ih.out_sharding == ("units", "in", "height", "width")
    kernel = np.arange(9 * FEATURES * HIDDEN, dtype=np.float32).reshape(3, 3, FEATURES, HIDDEN)
    np.testing.assert_array_equal(cell.weight_ih[HIDDEN + 2, 1], kernel[:, :, 1, 2])
    images = jnp.asarray(inputs(BATCH, STEPS, 4, 5, FEATURES))
    ys = nnx.RNN(cell)(images)
    params = cell_params("affine", params_of(cell))
    assert_close(ys, jnp.swapaxes(jr.unroll(jr.conv_lstm, params, jnp.swapaxes(images, 0, 1))[1], 0, 1), bound=1e-5)


@pytest.mark.parametrize("lengths", [None, np.array([[6, 1], [0, 4], [2, 3]])])
def test_layers_take_any_batch_axes(lengths):
    layer = jaxrnn.nnx.GRU(FEATURES, HIDDEN, bidirectional=True, batch_first=True, rngs=nnx.Rngs(0))
    x, h_0 = inputs(3, 2, STEPS, FEATURES), inputs(2, 3, 2, HIDDEN)
    output, h_n = layer(x, h_0, lengths=lengths)
    flat = layer(
        x.reshape(6, STEPS, FEATURES), h_0.reshape(2, 6, HIDDEN), lengths=None if lengths is None else lengths.ravel()
    )
    assert_same((output.reshape(6, STEPS, -1), h_n.reshape(2, 6, HIDDEN)), flat)


def test_layers_in_sequential():
    rngs = nnx.Rngs(0)
    options = {"batch_first": True, "return_carry": False, "rngs": rngs}
    model = nnx.Sequential(
        jaxrnn.nnx.GRU(FEATURES, HIDDEN, **options),
        nnx.relu,
        jaxrnn.nnx.LSTM(HIDDEN, 3, 2, dropout=0.5, **options),
        nnx.Linear(3, 2, rngs=rngs),
    )
    x = jnp.asarray(inputs(BATCH, STEPS, FEATURES))
    assert model(x).shape == (BATCH, STEPS, 2)
    assert not jnp.allclose(model(x, rngs=nnx.Rngs(dropout=1)), model(x, rngs=nnx.Rngs(dropout=2)))
    first = model.layers[0]
    assert_same(first(x), first(x, return_carry=True)[0])


def test_initializers_are_no_part_of_a_module():
    """Nor two modules' difference, so that what is compiled for one serves the other; as in Flax."""
    draws = nnx.initializers.zeros, nnx.initializers.ones
    for kind in ("GRU", "LSTMCell", "SimpleCell"):
        make = getattr(jaxrnn.nnx, kind)
        graphs = [nnx.graphdef(make(4, 5, kernel_init=draw, bias_init=draw, rngs=nnx.Rngs(0))) for draw in draws]
        assert graphs[0] == graphs[1]


@pytest.mark.parametrize("name", slow_but(("lstm",), ["rnn", "gru", "lstm"]))
def test_bidirectional_is_the_core_s(name):
    kind = name.upper()
    x, cells = jnp.asarray(inputs(BATCH, STEPS, FEATURES)), [make_cell(name, seed) for seed in (0, 1)]
    carries, ys = nnx.Bidirectional(*map(nnx.RNN, cells), return_carry=True)(x)
    net = getattr(jr, kind)(FEATURES, HIDDEN, bidirectional=True, batch_first=True)
    params = {}
    for cell, suffix in zip(cells, ("_l0", "_l0_reverse"), strict=True):
        params |= {key + suffix: a for key, a in params_of(cell).items()}
    output, finals = net.apply(params, x)
    states = jr.LSTMState(*finals) if name == "lstm" else finals
    assert_close((ys, carries), (output, tuple(to_carry(jax.tree.map(lambda a, i=i: a[i], states)) for i in range(2))))


@pytest.mark.parametrize("name", slow_but(("gru",), CELLS))
def test_remat_scan_and_vmap(name):
    x, carry, cell = jnp.asarray(inputs(STEPS, BATCH, FEATURES)), make_carry(name, BATCH), make_cell(name)
    rematted = nnx.remat(lambda cell, carry, x: cell(carry, x))
    assert_close(rematted(cell, carry, x[0]), cell(carry, x[0]))
    gradients = [nnx.grad(lambda c, f=f: total(f(c, carry, x[0])))(cell) for f in (rematted, lambda c, *a: c(*a))]
    assert_close(*map(nnx.to_pure_dict, gradients))

    scan = nnx.scan(lambda cell, carry, x: cell(carry, x), in_axes=(None, nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    expected, outputs = jr.unroll(core_cell(name), cell_params(name, params_of(cell)), x, to_state(carry))
    assert_close(scan(cell, jax.tree.map(jnp.asarray, carry), x), (to_carry(expected), outputs))

    members = [make_cell(name, seed) for seed in (0, 1)]
    graphdef, _ = nnx.split(members[0])
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *(nnx.state(member) for member in members))
    ensemble = nnx.vmap(lambda cell: cell(carry, x[0])[1])(nnx.merge(graphdef, stacked))
    assert_close(ensemble, jnp.stack([member(carry, x[0])[1] for member in members]))


@pytest.mark.parametrize("name", slow_but(("gru_no_bias", "lstm"), CELLS))
def test_half_precision_carries(name):
    dtype = jnp.float16 if list(CELLS).index(name) % 2 else jnp.bfloat16
    x = jnp.asarray(inputs(BATCH, STEPS, FEATURES))  # float32: cast by the cell
    cell = make_cell(name, dtype=dtype)
    params = params_of(cell)
    assert {a.dtype for a in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    carry = cell.initialize_carry((BATCH, FEATURES))
    results = carry, cell(make_carry(name, BATCH), x[:, 0]), *nnx.RNN(cell, return_carry=True)(x)
    assert {a.dtype for a in jax.tree.leaves(results)} == {jnp.dtype(dtype)}
    half = jax.tree.map(lambda a: a.astype(dtype), params)
    assert_close(results[2:], unrolled(name, half, x.astype(dtype)), bound=3e-2)


@pytest.mark.parametrize("name", slow_but(("gru",), ["gru", "deep_lstm"]))
def test_dtypes_of_layers(name):
    net, layer = network(name), make_layer(name, dtype=jnp.bfloat16)
    x, h_0 = layer_inputs(net)
    assert {a.dtype for a in jax.tree.leaves(params_of(layer))} == {jnp.dtype("float32")}
    half = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), (params_of(layer), x, h_0))
    assert_same(layer(x, h_0), net.apply(*half))
    gradient = nnx.grad(lambda layer: total(layer(x)).astype(jnp.float32))(layer)
    assert {a.dtype for a in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}
    half = make_layer(name, param_dtype=jnp.float16)
    assert {a.dtype for a in jax.tree.leaves((params_of(half), half(x.astype(np.float16))))} == {jnp.dtype("float16")}


@pytest.mark.parametrize("name", slow_but(("rnn", "lstm"), CELLS))
def test_a_zero_carry_needs_no_rng(name):
    cell, rngs = make_cell(name), nnx.Rngs(carry=0)
    carry = cell.initialize_carry((BATCH, FEATURES))
    assert_same(carry, jax.tree.map(jnp.zeros_like, make_carry(name, BATCH)))
    assert_same(carry, cell.initialize_carry((BATCH, FEATURES), rngs))
    assert_same(carry, cell.initialize_carry((BATCH, FEATURES), None, nnx.initializers.zeros_init()))
    assert rngs.carry.count[...] == 0  # none was drawn
    nnx.RNN(cell, rngs=False)(jnp.ones((BATCH, STEPS, FEATURES)))


def test_a_random_carry():
    cell = make_cell("lstm", carry_init=nnx.initializers.normal())
    c, h = cell.initialize_carry((BATCH, FEATURES), nnx.Rngs(0))
    assert c.shape == h.shape == (BATCH, HIDDEN)
    assert not jnp.allclose(c, h)
    given = make_cell("lstm").initialize_carry((BATCH, FEATURES), nnx.Rngs(0).carry, nnx.initializers.normal())
    assert_same((c, h), given)
    with pytest.raises(ValueError, match=r"carry_init=.* needs random numbers, but no rng was given"):
        cell.initialize_carry((BATCH, FEATURES))


def test_initializers_act_gate_by_gate_as_in_flax():
    cell = make_cell(
        "lstm",
        kernel_init=lambda key, shape, dtype: jnp.broadcast_to(jnp.arange(shape[0], dtype=dtype)[:, None], shape),
        recurrent_kernel_init=nnx.initializers.orthogonal(),
        bias_init=nnx.initializers.ones,
    )
    weight_ih, weight_hh = cell.weight_ih[...], cell.weight_hh[...]
    np.testing.assert_array_equal(weight_ih, np.broadcast_to(np.arange(FEATURES), (4 * HIDDEN, FEATURES)))
    for block in np.split(weight_hh, 4):
        np.testing.assert_allclose(block @ block.T, np.eye(HIDDEN), atol=1e-6)
    assert (cell.bias_ih[...] == 1).all()
    assert not cell.bias_hh[...].any()
    gru = make_cell("gru", bias_init=nnx.initializers.ones).bias_hh[...]
    np.testing.assert_array_equal(gru, np.repeat([0, 0, 1], HIDDEN))  # b_hn alone stands apart


def test_dropout():
    layer = jaxrnn.nnx.GRU(FEATURES, HIDDEN, num_layers=2, dropout=0.5, rngs=nnx.Rngs(0))
    net, x = jr.GRU(FEATURES, HIDDEN, num_layers=2, dropout=0.5), inputs(STEPS, BATCH, FEATURES)
    undropped = net.apply(params_of(layer), x)
    assert_same(layer(x, deterministic=True), undropped)
    assert_same(nnx.view(layer, deterministic=True)(x), undropped)
    layer.eval()
    assert_same(layer(x), undropped)
    layer.train()
    first, second = layer(x)[0], layer(x)[0]
    assert not jnp.allclose(first, second)  # the stream goes on
    assert not jnp.allclose(first, undropped[0])
    assert_same(layer(x, rngs=nnx.Rngs(dropout=1)), layer(x, rngs=nnx.Rngs(dropout=1)))
    assert not jnp.allclose(layer(x, rngs=nnx.Rngs(dropout=1))[0], layer(x, rngs=nnx.Rngs(dropout=2).dropout)[0])
    key = jax.random.key(7)
    assert_same(layer(x, rngs=key), net.apply(params_of(layer), x, key=key))
    with pytest.raises(KeyError, match="No RngStream named 'dropout'"):
        layer(x, rngs=nnx.Rngs(params=0))
    with pytest.raises(TypeError, match=r"rngs must be nnx\.Rngs, nnx\.RngStream or a key, got int"):
        layer(x, rngs=3)
    with pytest.raises(KeyError, match="No RngStream named 'dropout'"):
        jaxrnn.nnx.GRU(FEATURES, HIDDEN, num_layers=2, dropout=0.5, rngs=nnx.Rngs(params=0))
    unsaid = jaxrnn.nnx.GRU(FEATURES, HIDDEN, num_layers=2, dropout=0.5, deterministic=None, rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError, match="deterministic must be given to the constructor or in the call, got None in both"
    ):
        unsaid(x)


def test_dropout_under_jit():
    layer = jaxrnn.nnx.GRU(FEATURES, HIDDEN, num_layers=2, dropout=0.5, rngs=nnx.Rngs(0))
    x = inputs(STEPS, BATCH, FEATURES)
    run = nnx.jit(lambda layer, x: layer(x)[0])
    assert not jnp.allclose(run(layer, x), run(layer, x))
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)
    losses = {
        "copy": lambda params: total(nnx.merge(graphdef, params, rest, copy=True)(x)),  # as for nnx.Dropout
        "rngs": lambda params: total(nnx.merge(graphdef, params, rest)(x, rngs=jax.random.key(0))),
        "eval": lambda params: total(nnx.merge(graphdef, params, rest)(x, deterministic=True)),
    }
    for loss in losses.values():
        gradient = jax.jit(jax.grad(loss))(params)
        assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, params)


def modules():
    """A layer and Flax's RNN over a cell, as functions of x."""
    return {"layer": make_layer("deep_lstm"), "cell": nnx.RNN(make_cell("lstm"), rngs=False)}


@pytest.mark.parametrize("kind", ["layer", "cell"])
def test_split_jit_grad_merge(kind):
    module = modules()[kind]
    x = jnp.asarray(inputs(BATCH, STEPS, FEATURES))
    graphdef, state = nnx.split(module)
    assert not nnx.filter_state(state, nnx.Not(nnx.Param))  # parameters are all there is: no rng, no counter

    @jax.jit
    def descend(state, x):
        loss, gradient = jax.value_and_grad(lambda state: total(nnx.merge(graphdef, state)(x)))(state)
        return loss, jax.tree.map(lambda a, d: a - 0.01 * d, state, gradient)

    before, state = descend(state, x)
    after, state = descend(state, x)
    assert after < before
    merged = nnx.merge(graphdef, state)
    assert_close(total(merged(x)), descend(state, x)[0])


def test_a_layer_in_a_closure():
    module, x = make_layer("deep_lstm"), inputs(BATCH, STEPS, FEATURES)
    assert_close(jax.jit(module)(x), module(x))


@pytest.mark.parametrize("kind", ["layer", "cell"])
def test_a_step_of_an_optimizer(kind):
    module = modules()[kind]
    x = jnp.asarray(inputs(BATCH, STEPS, FEATURES))
    with jax.numpy_dtype_promotion("standard"):  # Optax itself needs it
        optimizer = nnx.Optimizer(module, optax.sgd(0.01), wrt=nnx.Param)

        @nnx.jit
        def step(module, optimizer):
            loss, gradient = nnx.value_and_grad(lambda module: total(module(x)))(module)
            optimizer.update(module, gradient)
            return loss

        assert step(module, optimizer) > step(module, optimizer)


def test_layers_made_under_vmap_and_eval_shape():
    @nnx.split_rngs(splits=2)
    @nnx.vmap
    def make(rngs):
        return jaxrnn.nnx.GRU(FEATURES, HIDDEN, rngs=rngs)

    x = jnp.asarray(inputs(STEPS, BATCH, FEATURES))
    ensemble = make(nnx.Rngs(0))
    outputs = nnx.vmap(lambda layer: layer(x)[0])(ensemble)
    for index in range(2):
        params = jax.tree.map(lambda a, i=index: a[i], params_of(ensemble))
        assert_close(outputs[index], network("gru").apply(params, x)[0])
    assert not jnp.allclose(outputs[0], outputs[1])
    like = nnx.eval_shape(lambda: jaxrnn.nnx.GRU(FEATURES, HIDDEN, rngs=nnx.Rngs(0)))
    assert like.weight_ih_l0.shape == (3 * HIDDEN, FEATURES)


def test_an_affine_cell_of_lstm_is_lstm_even_copied():
    cell, carry, x = make_cell("lstm"), make_carry("lstm", BATCH), inputs(BATCH, FEATURES)
    other = jaxrnn.nnx.AffineCell(FEATURES, HIDDEN, cell=jr.lstm, rngs=nnx.Rngs(0))
    assert_same(other(carry, x), cell(carry, x))
    assert_same(copy.deepcopy(other)(carry, x), cell(carry, x))


@pytest.mark.slow
def test_checkpoint():
    layer = make_layer("deep_lstm")
    x, h_0 = layer_inputs(network("deep_lstm"))
    gradients = [
        nnx.grad(functools.partial(lambda c, layer: total(layer(x, h_0, checkpoint=c)), checkpoint))(layer)
        for checkpoint in ("sqrt", None)
    ]
    assert_close(*map(nnx.to_pure_dict, gradients))


def without_weight_hh():
    cell = make_cell("gru")
    del cell.weight_hh
    cell(CARRY, X[0])


X = jnp.ones((STEPS, BATCH, FEATURES))
CARRY = jnp.zeros((BATCH, HIDDEN))
ERRORS = {
    "in_features": (lambda: jaxrnn.nnx.RNN(0, 5, rngs=nnx.Rngs(0)), ValueError, "in_features must be at least 1"),
    "hidden_size": (lambda: jaxrnn.nnx.RNN(4, 0, rngs=nnx.Rngs(0)), ValueError, "hidden_size must be at least 1"),
    "cell_in_features": (lambda: jaxrnn.nnx.GRUCell(4.0, 5, rngs=nnx.Rngs(0)), TypeError, "in_features must be an int"),
    "hidden_features": (lambda: jaxrnn.nnx.GRUCell(4, 0, rngs=nnx.Rngs(0)), ValueError, "hidden_features must be at"),
    "rngs": (lambda: jaxrnn.nnx.GRUCell(4, 5), TypeError, "rngs"),
    "rngs_int": (lambda: jaxrnn.nnx.GRU(4, 5, rngs=0), TypeError, r"rngs must be nnx\.Rngs, got int"),
    "nonlinearity": (lambda: jaxrnn.nnx.RNN(4, 5, nonlinearity="sin", rngs=nnx.Rngs(0)), ValueError, "nonlinearity"),
    "activation_fn": (lambda: make_cell("rnn", activation_fn="tanh"), TypeError, "activation_fn must be a function"),
    "residual": (lambda: make_cell("rnn", residual=1), TypeError, "residual must be a bool"),
    "gate_fn": (lambda: make_cell("lstm", gate_fn=lambda a, b: a), TypeError, "gate_fn must be a function"),
    "keep_rngs": (lambda: make_cell("lstm", keep_rngs=1), TypeError, "keep_rngs must be a bool"),
    "metadata": (lambda: make_cell("lstm", kernel_metadata=("a",)), TypeError, "kernel_metadata must be a dict"),
    "promote_dtype": (
        lambda: make_cell("lstm", promote_dtype=lambda arrays: arrays),
        TypeError,
        "promote_dtype must be a function",
    ),
    "return_carry": (lambda: make_layer("gru", return_carry=1), TypeError, "return_carry must be a bool"),
    "missing": (without_weight_hh, ValueError, r"^GRUCell has no parameters \['weight_hh'\], expected"),
    "bias": (lambda: make_cell("gru", bias=1), TypeError, "bias must be a bool"),
    "cell": (lambda: jaxrnn.nnx.AffineCell(4, 5, cell=jnp.tanh, rngs=nnx.Rngs(0)), TypeError, "cell must be a jaxrnn"),
    "dtype": (lambda: make_layer("gru", dtype=jnp.int32), TypeError, "^dtype must be floating"),
    "param_dtype": (lambda: make_cell("gru", param_dtype=jnp.int32), TypeError, "param_dtype must be floating"),
    "x": (lambda: make_layer("gru")([1.0]), TypeError, "x must be an array, got list"),
    "x_features": (lambda: make_layer("gru")(X[..., 1:]), ValueError, "input_size=4"),
    "h_0": (lambda: make_layer("lstm")(X, CARRY), TypeError, r"h_0 must be a tuple \(h_0, c_0\)"),
    "lengths": (lambda: make_layer("gru")(X, lengths=jnp.array([9, 1, 1])), ValueError, r"must lie in \[0, 6\]"),
    "inputs": (lambda: make_cell("gru")(CARRY, 1.0), TypeError, "inputs must be an array"),
    "inputs_features": (lambda: make_cell("gru")(CARRY, X[0, :, 1:]), ValueError, "in_features is 4"),
    "carry": (lambda: make_cell("lstm")(CARRY, X[0]), ValueError, "carry is float32"),
    "carry_shape": (lambda: make_cell("gru")(CARRY[1:], X[0]), ValueError, r"carry has shape \(2, 5\)"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        call()


def test_constructors_spell_every_argument():
    names = jaxrnn.nnx.__all__
    signatures = {name: inspect.signature(getattr(jaxrnn.nnx, name).__init__).parameters for name in names}
    for parameters in signatures.values():
        kinds = {parameter.kind for parameter in parameters.values()}
        assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    for name in ("RNN", "GRU", "LSTM"):
        core = list(inspect.signature(getattr(jr, name)).parameters.values())[1:]  # but for input_size
        assert [(p.name, p.default) for p in core] == [
            (p.name, p.default) for p in list(signatures[name].values())[2 : 2 + len(core)]
        ]
