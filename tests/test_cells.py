"""The cell protocol, on every cell; the equations, against NumPy."""

import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr

from .cell_table import ALIKE, CELLS, FEATURES, NAMES, make, names_with, random_like, stepped
from .marks import slow_but
from .oracles import REMEDIES, numpy_remedy, numpy_step

every_cell = pytest.mark.parametrize("name", NAMES)
FEW = slow_but(("gru", "lstm_proj", "nested", "stack_of_stacks"), CELLS, full=ALIKE)


@every_cell
def test_signatures(name):
    cell, _ = make(name)
    assert list(inspect.signature(cell.init).parameters)[:3] == ["key", "input_size", "hidden_size"]
    assert list(inspect.signature(cell.initial_state).parameters) == ["params", "batch_shape"]
    assert list(inspect.signature(cell.step).parameters) == ["params", "state", "x"]
    assert list(inspect.signature(cell.output).parameters) == ["state"]


@pytest.mark.parametrize("name", FEW)
def test_cells_are_static_arguments(name):
    cell, params = make(name)
    assert hash(cell) == hash(make(name)[0])
    assert cell == make(name)[0]
    run = jax.jit(lambda cell, params, x: cell.step(params, cell.initial_state(params), x), static_argnums=0)
    x = jnp.ones(FEATURES)
    chex.assert_trees_all_close(run(cell, params, x), cell.step(params, cell.initial_state(params), x), rtol=1e-5)


@pytest.mark.parametrize(("name", "batch"), names_with([(2, 3), (), (2, 0), (2,), (0,)]))
def test_batch_axes(name, batch):
    """Any number of them, and each member as if it were alone."""
    cell, params = make(name)
    state = random_like(cell.initial_state(params, batch))
    x = random_like(jnp.zeros((*batch, FEATURES)), seed=1)
    following = cell.step(params, state, x)
    chex.assert_trees_all_equal_shapes_and_dtypes(following, state)
    assert cell.output(following).shape[:-1] == batch
    for index in np.ndindex(*batch):
        alone = cell.step(params, jax.tree.map(lambda a, i=index: a[i], state), x[index])
        chex.assert_trees_all_close(jax.tree.map(lambda a, i=index: a[i], following), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "dtype"), names_with(["bfloat16", "float64", "float16", "float32"]))
def test_dtypes(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        cell, params = make(name, dtype)
        state = cell.initial_state(params, (2,))
        following = cell.step(params, state, jnp.ones((2, FEATURES), dtype))
        for leaf in jax.tree.leaves((params, state, following)):
            assert leaf.dtype == dtype


@every_cell
def test_initial_state_is_zero(name):
    cell, params = make(name)
    assert all(not leaf.any() for leaf in jax.tree.leaves(cell.initial_state(params, (2,))))


@pytest.mark.parametrize("name", FEW)
def test_ensembles(name):
    """vmap over parameters is a loop over members."""
    cell, _ = make(name)
    members = [make(name, seed=seed)[1] for seed in range(3)]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    x = jnp.ones(FEATURES)
    step = lambda params: cell.step(params, cell.initial_state(params), x)  # noqa: E731
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(step, members))
    chex.assert_trees_all_close(jax.vmap(step)(together), stacked, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "rnn",
        "rnn_relu",
        "gru",
        "mgu",
        "mgu_without_reset",
        "lstm",
        "lstm_proj",
        "lstm_peephole",
        "minimal",
        "leaky",
        "slstm",
    ],
)
def test_step_is_the_composition_of_its_parts(name):
    cell, params = make(name)
    state, x = random_like(cell.initial_state(params, (2,))), jnp.ones((2, FEATURES))
    recurrent = jnp.einsum("br,gr->bg", cell.output(state), params.weight_hh)
    recurrent += jnp.broadcast_to(params.bias_hh, recurrent.shape)
    affine = cell.affine
    composed = affine.gates(params, *affine.merge(affine.project(params, x), recurrent), state)
    chex.assert_trees_all_close(composed, cell.step(params, state, x), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("rnn", "rnn_tanh"),
        *((name, name) for name in ("rnn_relu", "gru", "gru_reset_before", "mgu", "mgu_without_reset", "lstm")),
        ("lstm_proj", "lstm_proj"),
        ("lstm_peephole", "lstm_peephole"),
        ("no_places", "lstm"),
    ],
)
@pytest.mark.usefixtures("x64")
def test_equations(name, kind):
    cell, params = make(name, jnp.float64)
    state, x = random_like(cell.initial_state(params)), random_like(jnp.zeros(FEATURES), seed=1)
    tensors = {field: np.asarray(value) for field, value in params._asdict().items() if value is not None}
    before = jax.tree.leaves(state)
    h, c = numpy_step(kind, tensors, np.asarray(x), np.asarray(before[0]), np.asarray(before[-1]))
    after = jax.tree.leaves(cell.step(params, state, x))
    np.testing.assert_allclose(after[0], h, rtol=0, atol=1e-14)
    if c is not None:
        np.testing.assert_allclose(after[1], c, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "name", slow_but(("gru", "lstm"), ["rnn", "gru", "gru_reset_before", "mgu", "lstm", "no_places"])
)
@pytest.mark.usefixtures("x64")
def test_complex_parameters(name):
    """The equations, a whole sequence and its gradient; parameters, states and inputs are all complex."""
    cell, params = make(name, jnp.float64)
    turn = lambda tree, seed: jax.tree.map(jax.lax.complex, tree, random_like(tree, seed))  # noqa: E731
    params, xs = turn(params, 1), turn(random_like(jnp.zeros((5, 2, FEATURES)), 2), 3)
    state = turn(random_like(cell.initial_state(make(name, jnp.float64)[1], (2,)), 4), 5)
    kind = {"rnn": "rnn_tanh", "no_places": "lstm"}.get(name, name)
    before, tensors = jax.tree.leaves(state), {n: np.asarray(a) for n, a in params._asdict().items() if a is not None}
    h, _ = numpy_step(kind, tensors, np.asarray(xs[0, 1]), np.asarray(before[0][1]), np.asarray(before[-1][1]))
    np.testing.assert_allclose(jax.tree.leaves(cell.step(params, state, xs[0]))[0][1], h, rtol=1e-12)

    def loss(run, params):
        return jnp.sum(jnp.abs(run(cell, params, xs, state)[1]) ** 2)

    for of in (loss, jax.grad(loss, 1)):
        chex.assert_trees_all_close(of(jr.unroll, params), of(stepped, params), rtol=1e-10)


@pytest.mark.parametrize("name", REMEDIES)
@pytest.mark.usefixtures("x64")
def test_equations_of_remedies(name):
    """Three steps, so that an initial state of zeros and one that is not are both there."""
    cell, params = make(name, jnp.float64)
    state, xs = cell.initial_state(params), random_like(jnp.zeros((3, FEATURES)), seed=1)
    tensors = {field: np.asarray(value) for field, value in params._asdict().items()}
    expected = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
    for x in xs:
        state, expected = cell.step(params, state, x), numpy_remedy(name, tensors, np.asarray(x), expected)
        for ours, theirs in zip(jax.tree.leaves(state), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14)


def test_parameters():
    params = jr.lstm.init(jax.random.key(0), 7, 5, proj_size=2)
    shapes = {"weight_ih": (20, 7), "weight_hh": (20, 2), "bias_ih": (20,), "bias_hh": (20,), "weight_hr": (2, 5)}
    assert {name: a.shape for name, a in params._asdict().items()} == shapes
    assert jr.lstm.init(jax.random.key(0), 7, 5, bias=False)[2:] == (None, None, None)
    assert jr.gru.init(jax.random.key(0), 7, 5)._fields == ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@pytest.mark.parametrize("cell", [jr.rnn, jr.gru, jr.mgu, jr.lstm])
def test_initialisation_is_uniform(cell):
    """Mean, variance and range of U(-1/sqrt(H), 1/sqrt(H)), each tensor drawn by itself."""
    params = cell.init(jax.random.key(3), 40, 64)
    tensors = [np.asarray(a) for a in jax.tree.leaves(params)]
    for tensor in tensors:
        scaled = tensor.ravel() * 8
        assert np.abs(scaled).max() <= 1
        assert abs(scaled.mean()) < 4 * (1 / 3 / scaled.size) ** 0.5
        assert abs((scaled**2).mean() - 1 / 3) < 4 * (4 / 45 / scaled.size) ** 0.5
    assert not np.array_equal(params.bias_ih, params.bias_hh)
    assert not np.array_equal(params.weight_ih[:, :8], params.weight_hh[:, :8])
