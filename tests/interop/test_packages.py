"""Flax, Haiku, Equinox and Keras, live: the same outputs from the same weights, both ways, and what is refused."""

import functools
import itertools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn import interop
from jaxrnn.interop._comparison import difference
from jaxrnn.interop._inspection import inspected

from ..cell_table import random_like
from ..marks import few_of, slow_but
from .packages import BATCH, CASES, FEATURES, HIDDEN, STEPS

ALIKE = {*(name for name in CASES if name.endswith("relu")), "linen OptimizedLSTMCell", "nnx LSTMCell", "keras LSTM"}
BIAS, DTYPES = [True, False], ["float16", "bfloat16"]


def draw(*shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


XS, H, C = draw(STEPS, BATCH, FEATURES, seed=1), draw(BATCH, HIDDEN, seed=2), draw(BATCH, HIDDEN, seed=3)


def init(cell, *, bias=True, dtype=jnp.float32, features=FEATURES, hidden=HIDDEN):
    like = jax.eval_shape(lambda key: cell.init(key, features, hidden, bias=bias, dtype=dtype), jax.random.key(0))
    return random_like(like)


def ours(cell, params):
    """Outputs from a state that is not zero."""
    return jr.unroll(cell, params, XS, jr.LSTMState(H, C) if cell == jr.lstm else H)[1]


def theirs(package, cell, tree):
    return package.run(tree, XS, H, C if cell == jr.lstm else None)


def assert_close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def assert_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.dtype, x.shape, np.asarray(x).tobytes()) == (y.dtype, y.shape, np.asarray(y).tobytes())


@pytest.mark.parametrize("name", slow_but(CASES.keys() - ALIKE, CASES))
def test_from_the_package(name):
    make, cell = CASES[name]
    package = make()
    tree = package.tree()
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(tree))
    found, params = package.read(tree)
    assert found == cell
    assert_close(ours(cell, params), theirs(package, cell, tree))
    assert_bits(package.write(found, params), tree)


@pytest.mark.parametrize(("name", "bias"), few_of(zip(CASES, itertools.cycle(BIAS)), CASES, BIAS))
def test_to_the_package(name, bias):
    make, cell = CASES[name]
    package, params = make(), init(cell, bias=bias)
    if bias and name == "nnx GRUCell":  # has no b_hn
        params = params._replace(bias_hh=params.bias_hh.at[2 * HIDDEN :].set(0))
    tree = package.write(cell, params)
    assert_close(theirs(package, cell, tree), ours(cell, params))
    found, again = package.read(tree)
    assert_close(ours(found, again), ours(cell, params))


@pytest.mark.parametrize(("name", "dtype"), few_of(zip(CASES, itertools.cycle(DTYPES)), CASES, DTYPES))
def test_every_bit_of_low_precision_comes_and_goes(name, dtype):
    make, cell = CASES[name]
    package = make()
    if name.startswith("keras"):
        package.options |= {"dtype": dtype}
        tree = package.tree()
        assert {str(a.dtype) for a in tree} == {dtype}
    else:
        tree = jax.tree.map(lambda a: a.astype(dtype), package.tree())
    if name.startswith("nnx"):
        pytest.importorskip("flax.nnx").update(package.module, tree)
    found, params = package.read(tree)
    assert found == cell
    assert {a.dtype.name for a in jax.tree.leaves(params)} == {dtype}
    assert_bits(package.write(found, params), tree)


NETWORKS = {
    "rnn": jr.RNN(3, 4, 2, "relu", bias=False),
    "gru": jr.GRU(3, 4, 2, bidirectional=True),
    "lstm": jr.LSTM(3, 4, 3, proj_size=2, batch_first=True, dropout=0.5),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_split_and_joined(name):
    net = NETWORKS[name]
    params = random_like(jax.eval_shape(net.init, jax.random.key(0)))
    cells, split = interop.split(net, params)
    assert list(cells)[:2] == (["l0", "l0_reverse"] if net.bidirectional else ["l0", "l1"])
    options = {"batch_first": net.batch_first, "dropout": net.dropout}
    assert interop.join(cells, split, **options)[0] == net
    assert_bits(interop.join(cells, split, **options)[1], params)
    model, several = interop.split({"a": net, "out": jr.Linear(1, 1)}, {"a": params, "out": init_linear()})
    assert list(model) == [*(f"a.{level}" for level in cells), "out"]
    assert_bits(interop.join(model, several, **options)[1]["a"], params)


def init_linear():
    return jr.Linear(1, 1).init(jax.random.key(0))


def test_what_makes_no_network_is_refused():
    gru, lstm = init(jr.gru), init(jr.lstm)
    for cells, params, message in (
        ({"l0": jr.gru, "l1": jr.lstm}, {"l0": gru, "l1": lstm}, "l1 must be a jaxrnn.gru as the others"),
        ({"l1": jr.gru}, {"l1": gru}, "has no weight_ih_l0"),
        ({"l0": jr.gru, "l1": jr.gru}, {"l0": gru, "l1": gru}, "weight_ih_l1 has shape"),
        ({"l0": jr.gru_reset_before}, {"l0": gru}, "cells must be jr.rnn"),
    ):
        with pytest.raises(interop.FormatError, match=message):
            interop.join(cells, params)


def test_linen_models():
    linen = pytest.importorskip("flax.linen")

    class Model(linen.Module):
        @linen.compact
        def __call__(self, ids):
            x = linen.Embed(7, FEATURES)(ids)
            forward, backward = (linen.RNN(linen.GRUCell(HIDDEN), name=name) for name in ("there", "back"))
            return linen.Dense(2)(linen.Bidirectional(forward, backward)(x))

    ids = np.array([[1, 2, 6, 0, 3], [0, 4, 3, 3, 5]])
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        variables = random_like(jax.eval_shape(Model().init, jax.random.key(0), ids))
        expected = Model().apply(variables, ids)
    spec, params = interop.from_linen(variables)
    cells = [name for name, layer in spec.items() if layer == jr.gru]
    assert len(cells) == 2
    embed, dense = (next(name for name in spec if word in name) for word in ("Embed", "Dense"))
    names = dict(zip(sorted(cells, key=lambda name: "back" in name), ("l0", "l0_reverse"), strict=True))
    net, weights = interop.join(
        {names[n]: jr.gru for n in cells}, {names[n]: params[n] for n in cells}, batch_first=True
    )
    ys, _ = net.apply(weights, spec[embed].apply(params[embed], ids))
    assert_close(spec[dense].apply(params[dense], ys), expected)
    assert_bits(interop.to_linen(spec, params), variables)
    assert_bits(interop.from_linen(variables["params"])[1], params)


SIZES = [(3,), (3, 2), (1, 2, 3)]


@pytest.mark.parametrize(("kernel_size", "use_bias"), few_of([((3,), False), ((1, 2, 3), True)], SIZES, BIAS))
def test_convolutions_of_linen(kernel_size, use_bias):
    linen = pytest.importorskip("flax.linen")
    places = (4, 3, 5)[: len(kernel_size)]
    cell = linen.RNN(linen.ConvLSTMCell(HIDDEN, kernel_size, use_bias=use_bias), time_major=True)
    xs = draw(STEPS, BATCH, *places, FEATURES, seed=1)
    carry = draw(BATCH, *places, HIDDEN, seed=2), draw(BATCH, *places, HIDDEN, seed=3)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        variables = random_like(jax.eval_shape(cell.init, jax.random.key(0), xs))
        expected = cell.apply(variables, xs, initial_carry=carry)
    spec, params = interop.from_linen(variables)
    assert spec["cell"].input_ndim == len(kernel_size) + 1
    state = jr.LSTMState(h=carry[1], c=carry[0])
    assert_close(jr.unroll(spec["cell"], params["cell"], xs, state)[1], expected)
    back = interop.to_linen(spec, params)
    again = linen.RNN(linen.ConvLSTMCell(HIDDEN, kernel_size), time_major=True)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert_close(again.apply(back, xs, initial_carry=carry), expected)
    assert difference((spec, params), (spec, params)).largest == 0
    assert "all finite" in inspected(spec, params)


def test_nnx_models():
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(7, FEATURES, rngs=rngs)
            self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(FEATURES, HIDDEN, rngs=rngs))
            self.out = nnx.Linear(HIDDEN, 2, use_bias=False, rngs=rngs)

    model = Model(nnx.Rngs(0))
    spec, params = interop.from_nnx(model)
    assert spec == {"embed": jr.Embedding(7, FEATURES), "out": jr.Linear(HIDDEN, 2, bias=False), "rnn.cell": jr.lstm}
    tree = interop.to_nnx(spec, params, optimized=True)
    assert_bits(tree, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    assert interop.from_nnx(nnx.state(model, nnx.Param))[0] == spec


def test_haiku_models():
    hk = pytest.importorskip("haiku")

    def model(ids):
        core = hk.DeepRNN([hk.LSTM(HIDDEN), hk.LSTM(HIDDEN, name="top"), hk.GRU(HIDDEN)])
        ys, _ = hk.dynamic_unroll(core, hk.Embed(7, FEATURES)(ids), core.initial_state(2))
        return hk.Linear(2)(ys)

    ids = np.array([[1, 2, 6, 0, 3], [0, 4, 3, 3, 5]]).T
    function = hk.without_apply_rng(hk.transform(model))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        params = random_like(jax.eval_shape(function.init, jax.random.key(0), ids))
        expected = function.apply(params, ids)
    spec, found = interop.from_haiku(params, cells={"top": jr.lstm})
    assert spec == {
        "embed": jr.Embedding(7, FEATURES),
        "gru": jr.gru_reset_before,
        "linear": jr.Linear(HIDDEN, 2),
        "lstm": jr.lstm,
        "top": jr.lstm,
    }
    stack = jr.stack(jr.lstm, jr.lstm, jr.gru_reset_before)
    _, ys = jr.unroll(stack, (found["lstm"], found["top"], found["gru"]), spec["embed"].apply(found["embed"], ids))
    assert_close(spec["linear"].apply(found["linear"], ys), expected)
    assert_bits(interop.to_haiku(spec, found), params)
    assert interop.from_haiku(params)[0]["top/linear"] == jr.Linear(2 * HIDDEN, 4 * HIDDEN)


def test_equinox_models():
    eqx = pytest.importorskip("equinox")
    keys = jax.random.split(jax.random.key(0), 3)
    module = {
        "embed": eqx.nn.Embedding(7, FEATURES, key=keys[0]),
        "cell": eqx.nn.GRUCell(FEATURES, HIDDEN, use_bias=False, key=keys[1]),
        "out": eqx.nn.Sequential([eqx.nn.Linear(HIDDEN, 2, key=keys[2]), eqx.nn.Dropout(0.5)]),
    }
    spec, params = interop.from_equinox(module)
    assert spec == {"embed": jr.Embedding(7, FEATURES), "cell": jr.gru, "out.layers.0": jr.Linear(HIDDEN, 2)}
    again = interop.to_equinox(spec, params)
    assert_bits(again["cell"], module["cell"])
    assert_bits(again["embed"], module["embed"])
    assert_bits(again["out.layers.0"], module["out"].layers[0])


@pytest.mark.slow
def test_keras_models():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    layers = keras.layers
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model = keras.Sequential(
            [
                layers.Input((STEPS,), dtype="int32"),
                layers.Embedding(7, FEATURES, name="embed"),
                layers.Bidirectional(layers.LSTM(HIDDEN, return_sequences=True), name="both"),
                layers.RNN([layers.GRUCell(HIDDEN), layers.GRUCell(2)], return_sequences=True, name="deep"),
                layers.Dropout(0.5),
                layers.Dense(2, name="out"),
            ]
        )
        model.set_weights([np.asarray(random_like(w)) for w in model.get_weights()])
        ids = np.random.default_rng(0).integers(7, size=(BATCH, STEPS)).astype(np.int32)
        expected = np.asarray(model(ids))
    spec, params = interop.from_keras(model)
    assert list(spec) == ["embed", "both.l0", "both.l0_reverse", "deep.l0", "deep.l1", "out"]
    weights = interop.to_keras(spec, params)
    assert_bits([w for part in weights.values() for w in part], model.get_weights())
    both = {name: spec[name] for name in spec if not name.startswith("deep")}
    nets, joint = interop.join(both, {name: params[name] for name in both}, batch_first=True)
    ys, _ = nets["both"].apply(joint["both"], nets["embed"].apply(joint["embed"], ids))
    stack = jr.stack(jr.gru, jr.gru)
    _, ys = jr.unroll(stack, (params["deep.l0"], params["deep.l1"]), jnp.swapaxes(ys, 0, 1))
    assert_close(nets["out"].apply(joint["out"], jnp.swapaxes(ys, 0, 1)), expected)


WRITERS = {
    "linen": interop.to_linen,
    "nnx": interop.to_nnx,
    "haiku": interop.to_haiku,
    "equinox": interop.to_equinox,
    "keras": interop.to_keras,
}
# What a package does not hold, and why
REFUSED = [
    ("linen", jr.gru_reset_before, "resets after"),
    ("nnx", jr.gru_reset_before, "resets after"),
    ("nnx", jr.gru, "has no bias b_hn"),
    ("nnx", jr.mgu, "it has SimpleCell"),
    ("haiku", jr.mgu, "resets before"),
    ("equinox", jr.conv_lstm, "it has an LSTMCell"),
    ("keras", jr.mgu_without_reset, "it has SimpleRNN"),
    ("keras", jr.conv_lstm, "it has SimpleRNN"),
    ("haiku", jr.gru, "resets before"),
    ("haiku", jr.rnn, "VanillaRNN is of relu"),
    ("equinox", jr.gru_reset_before, "resets after"),
    ("equinox", jr.rnn, "it has an LSTMCell"),
    ("equinox", jr.lstm_peephole, "it has an LSTMCell"),
    ("equinox", jr.rnn_relu, "it has an LSTMCell"),
]


@pytest.mark.parametrize(("package", "cell", "reason"), REFUSED)
def test_what_a_package_does_not_hold_is_refused(package, cell, reason):
    if package == "equinox":
        pytest.importorskip("equinox")
    with pytest.raises(interop.FormatError, match=f"spec is a .* does not hold: .*{reason}"):
        WRITERS[package](cell, init(cell))


@pytest.mark.parametrize("package", WRITERS)
def test_a_projection_is_refused(package):
    if package == "equinox":
        pytest.importorskip("equinox")
    net = jr.LSTM(3, 4, proj_size=2)
    with pytest.raises(interop.FormatError, match="l0 has weight_hr, a projection, which"):
        WRITERS[package](net, net.init(jax.random.key(0)))


@pytest.mark.parametrize("package", ["linen", "nnx", "haiku", "keras"])
def test_peepholes_are_refused(package):
    cell = jr.lstm_peephole
    with pytest.raises(interop.FormatError, match="spec has weight_ch, peepholes, which"):
        WRITERS[package](cell, cell.init(jax.random.key(0), 3, 4))


def linen_tree(cell):
    return interop.to_linen(cell, init(cell))["params"]


def without(tree, *path):
    *above, last = path
    copy = {key: dict(value) if isinstance(value, dict) else value for key, value in tree.items()}
    place = functools.reduce(lambda place, key: place[key], above, copy)
    del place[last]
    return copy


def with_(tree, key, value):
    return {**tree, key: value}


ONES = np.ones((3, 3), np.float32)
TREES = {
    "gate": (interop.from_linen, lambda: without(linen_tree(jr.lstm), "hf"), "has no 'hf', expected 'hf', 'hg'"),
    "kernel": (interop.from_linen, lambda: without(linen_tree(jr.gru), "ir", "kernel"), "ir has no 'kernel'"),
    "bias": (interop.from_linen, lambda: without(linen_tree(jr.gru), "hn", "bias"), "hn has no 'bias'"),
    "more": (
        interop.from_linen,
        lambda: with_(linen_tree(jr.gru), "hr", {"kernel": ONES, "bias": ONES[0]}),
        "hr has 'bias', expected 'kernel'",
    ),
    "shape": (
        interop.from_linen,
        lambda: with_(linen_tree(jr.gru), "hr", {"kernel": ONES}),
        "must have gates of one shape and dtype in weight_hh",
    ),
    "axes": (interop.from_linen, lambda: {"kernel": np.ones((2, 3, 4), np.float32)}, r"must have a kernel \(I, O\)"),
    "no array": (interop.from_linen, lambda: {"kernel": "x"}, "kernel must be an array"),
    "norm": (interop.from_linen, lambda: {"norm": {"scale": ONES[0]}}, "norm.scale must be of a cell"),
    "MGU": (
        interop.from_linen,
        lambda: {key: {"kernel": ONES} for key in ("if", "in", "hf", "hn")},
        "if has no 'bias'",
    ),
    "convolution": (interop.from_linen, lambda: {"ih": {"kernel": ONES}, "hh": {"kernel": ONES}}, "ih must have a ker"),
    "convolution's bias": (
        interop.from_linen,
        lambda: {key: {"kernel": np.ones((3, 1, 2, 4), np.float32), "bias": ONES[0]} for key in ("ih", "hh")},
        r"must have a bias of shape \(4,\), got \(3,\)",
    ),
    "convolution's sizes": (
        interop.from_linen,
        lambda: {"ih": {"kernel": np.ones((3, 1, 2, 4))}, "hh": {"kernel": np.ones((2, 1, 2, 4))}},
        "must have kernels of the same one to three sizes",
    ),
    "which": (interop.from_linen, lambda: linen_tree(jr.rnn), "nonlinearity must be given for the cell"),
    "nothing": (interop.from_linen, dict, "must hold parameters"),
    "nnx gate": (
        interop.from_nnx,
        lambda: without(interop.to_nnx(jr.lstm, init(jr.lstm)), "if_"),
        "has no 'if_'",
    ),
    "nnx dense": (
        interop.from_nnx,
        lambda: without(interop.to_nnx(jr.rnn, init(jr.rnn)), "dense_h"),
        "has no 'dense_h'",
    ),
    "nnx blocks": (
        interop.from_nnx,
        lambda: {"dense_i": {"kernel": ONES}, "dense_h": {"kernel": np.ones((3, 6), np.float32)}},
        r"dense_h must be \(H, H\), \(H, 3\*H\)",
    ),
    "nnx which": (interop.from_nnx, lambda: interop.to_nnx(jr.rnn, init(jr.rnn)), "nonlinearity must be given"),
    "haiku bias": (
        interop.from_haiku,
        lambda: without(interop.to_haiku(jr.lstm, init(jr.lstm)), "lstm/linear", "b"),
        r"lstm/linear must have w \(I\+H, 4\*H\) and b",
    ),
    "haiku columns": (
        interop.from_haiku,
        lambda: {"lstm/linear": {"w": ONES, "b": ONES[0]}},
        r"lstm/linear must have w \(I\+H, 4\*H\)",
    ),
    "haiku second": (
        interop.from_haiku,
        lambda: without(interop.to_haiku(jr.rnn_relu, init(jr.rnn_relu)), "vanilla_rnn/linear_1"),
        "has no linear_1",
    ),
    "haiku first": (
        interop.from_haiku,
        lambda: without(interop.to_haiku(jr.rnn_relu, init(jr.rnn_relu)), "vanilla_rnn/linear"),
        "must have the module linear",
    ),
    "haiku GRU": (
        interop.from_haiku,
        lambda: {"gru": {"w_i": ONES, "w_h": ONES, "b": ONES[0]}},
        r"gru must have w_i \(I, 3\*H\)",
    ),
    "haiku other": (interop.from_haiku, lambda: {"norm": {"scale": ONES}}, "cannot tell what 'norm' is"),
}


@pytest.mark.parametrize(("read", "make", "message"), TREES.values(), ids=TREES)
def test_trees_that_are_refused(read, make, message):
    with pytest.raises(interop.FormatError, match=message) as caught:
        read(make())
    assert "\n" not in str(caught.value)


def test_dicts_without_end_are_refused():
    circle = {}
    circle["again"] = circle
    with pytest.raises(interop.FormatError, match="too many dicts in each other"):
        interop.from_linen(circle)


def test_no_package_is_imported_before_it_is_used():
    packages = ["torch", "flax", "haiku", "equinox", "keras", "safetensors"]
    script = f"import sys, jaxrnn.interop; print([name for name in {packages} if name in sys.modules])"
    root = pathlib.Path(jr.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, cwd=root)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_boxed_parameters_of_linen_are_unboxed():
    linen = pytest.importorskip("flax.linen")
    tree = linen_tree(jr.gru)
    boxed = jax.tree.map(lambda a: linen.Partitioned(a, names=(None,) * a.ndim), tree)
    assert_bits(interop.from_linen(boxed)[1], interop.from_linen(tree)[1])


def test_cells_of_nnx_that_compute_something_else_are_refused():
    nnx = pytest.importorskip("flax.nnx")
    rngs = nnx.Rngs(0)
    for cell in (
        nnx.LSTMCell(2, 3, activation_fn=jax.nn.relu, rngs=rngs),
        nnx.GRUCell(2, 3, gate_fn=jax.nn.hard_sigmoid, rngs=rngs),
        nnx.SimpleCell(2, 3, residual=True, rngs=rngs),
        nnx.SimpleCell(2, 3, activation_fn=jnp.sin, rngs=rngs),
    ):
        with pytest.raises(interop.FormatError, match="must have gate_fn sigmoid"):
            interop.from_nnx(cell)
    with pytest.raises(interop.FormatError, match="must not be given for a module"):
        interop.from_nnx(nnx.SimpleCell(2, 3, rngs=rngs), nonlinearity="tanh")


def test_layers_of_keras_that_compute_something_else_are_refused():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    layers = keras.layers
    for layer, message in (
        (layers.LSTM(3, recurrent_activation="hard_sigmoid"), "recurrent_activation sigmoid, got hard_sigmoid"),
        (layers.GRU(3, activation="relu"), "activation tanh, got relu"),
        (layers.SimpleRNN(3, activation="elu"), "activation tanh or relu, got elu"),
        (layers.Dense(3, activation="softmax"), "activation linear, got softmax"),
        (layers.LayerNormalization(), "must be a recurrent layer"),
    ):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            layer.build((None, STEPS, FEATURES))
        with pytest.raises(interop.FormatError, match=message):
            interop.from_keras(layer)
    with pytest.raises(interop.FormatError, match="must be built"):
        interop.from_keras(layers.LSTM(3))


def test_modules_of_equinox_that_are_none_of_these_are_refused():
    eqx = pytest.importorskip("equinox")
    for module, message in (
        (eqx.nn.LayerNorm(3), "weight must be of an LSTMCell"),
        (eqx.nn.Linear("scalar", 3, key=jax.random.key(0)), "got one of scalars"),
        (eqx.nn.Identity(), "must hold an LSTMCell"),
    ):
        with pytest.raises(interop.FormatError, match=message):
            interop.from_equinox(module)


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("torch", lambda: interop.to_torch(jr.gru, init(jr.gru))),
        ("flax", lambda: interop.from_nnx(object())),
        ("equinox", lambda: interop.to_equinox(jr.gru, init(jr.gru))),
        ("keras", lambda: interop.from_keras(object())),
        ("safetensors", lambda: interop.save("x", jr.gru, init(jr.gru))),
    ],
)
def test_what_is_not_installed_is_named_with_its_extra(package, call, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(ImportError, match=rf"pip install 'jaxrnn\[{package}\]'"):
        call()


def test_our_own_linen_variables_are_the_core_s_already():
    from jaxrnn import linen

    variables = linen.GRU(4).init(jax.random.key(0), jnp.ones((5, 2, 3)))
    with pytest.raises(
        interop.FormatError, match=r"variables must be of Flax's own modules, got those of jaxrnn\.linen"
    ):
        interop.from_linen(variables)
