"""The cells that exist because of gradients: in every gradient algorithm, in Flax's wrappers, at the edges."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxrnn as jr
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn import gradients

from ..cell_table import CELLS, FEATURES, make, random_like
from ..gradients.problems import EXACT, assert_close, make_problem, reference
from ..marks import slow_but
from ..oracles import REMEDIES

# name of a problem: whether its cell says how its gates are affine
HAVE_AFFINE = {name: name in ("leaky", "slstm") for name in REMEDIES}
NEED_AFFINE = {
    "kf_rtrl": functools.partial(gradients.kf_rtrl, key=jax.random.key(0)),
    "ok": functools.partial(gradients.ok, key=jax.random.key(0)),
    "rflo": gradients.rflo,
    "eprop": gradients.eprop,
}
IN_FLAX = [name for name in REMEDIES if name != "layer_norm_rnn"]  # which has no bias_ih


@pytest.mark.usefixtures("x64")
@pytest.mark.filterwarnings("ignore:the sparsity pattern")
@pytest.mark.parametrize("name", slow_but(("indrnn",), REMEDIES))
def test_exact_gradients(name):
    """By every algorithm in a form that is exact; of a solve in the exponential SnAp knows no zeros, and says so."""
    problem, args = make_problem(name)
    expected = reference(problem, *args)
    for algorithm in ("bptt", "rtrl", "snap") if name == "indrnn" else EXACT:
        assert_close(EXACT[algorithm](problem, *args), expected, 1e-11)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", slow_but(("orthogonal",), REMEDIES))
def test_structured_algorithms_take_what_has_an_affine_record(name):
    problem, args = make_problem(name)
    assert (problem.step.affine is not None) == HAVE_AFFINE[name]
    for algorithm, run in NEED_AFFINE.items():
        if HAVE_AFFINE[name]:
            np.testing.assert_allclose(run(problem, *args).value, reference(problem, *args)[0], rtol=1e-12)
        else:
            with pytest.raises(ValueError, match=f"{algorithm} needs the affine parts of a step.*`affine` is None"):
                run(problem, *args)


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
@pytest.mark.parametrize("name", REMEDIES)
def test_uoro_and_flow(name):
    problem, args = make_problem(name)
    value, grads, _ = gradients.uoro(problem, *args, key=jax.random.key(0))
    np.testing.assert_allclose(value, reference(problem, *args)[0], rtol=1e-12)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert np.isfinite(gradients.flow(problem, *args).omega)


@pytest.mark.parametrize("name", slow_but(("slstm",), IN_FLAX))
def test_in_flax(name):
    """`AffineCell` in both, in `RNN`: the numbers of `jr.unroll` with the same parameters."""
    cell, _, _ = CELLS[name]
    batch = np.random.default_rng(0).normal(size=(2, 5, FEATURES)).astype(np.float32)
    layer = nn.RNN(jaxrnn.linen.AffineCell(features=4, cell=cell))
    ys, variables = layer.init_with_output(jax.random.key(0), batch)
    tensors = variables["params"]["cell"]
    params = make(name)[1]._replace(**tensors)
    expected = jnp.swapaxes(jr.unroll(cell, params, jnp.swapaxes(batch, 0, 1))[1], 0, 1)
    np.testing.assert_allclose(ys, expected, rtol=1e-5, atol=1e-6)
    module = jaxrnn.nnx.AffineCell(in_features=FEATURES, hidden_features=4, cell=cell, rngs=nnx.Rngs(0))
    nnx.update(module, dict(tensors))
    np.testing.assert_allclose(nnx.RNN(module)(batch), expected, rtol=1e-5, atol=1e-6)


def test_what_flax_does_not_take_is_refused():
    cell = jaxrnn.linen.AffineCell(features=4, cell=jr.layer_norm_rnn)
    with pytest.raises(TypeError, match="cell must have parameters with the fields weight_ih, weight_hh, bias_ih"):
        cell.init(jax.random.key(0), jnp.zeros(4), jnp.ones(FEATURES))


@pytest.mark.parametrize("name", slow_but(("orthogonal",), REMEDIES))
def test_one_step_is_the_step(name):
    cell, params = make(name)
    x = random_like(jnp.zeros((1, 2, FEATURES)))
    state = cell.step(params, cell.initial_state(params, (2,)), x[0])
    final, ys = jr.unroll(cell, params, x)
    assert_close(final, state, 1e-6)
    assert_close(ys[0], cell.output(state), 1e-6)


@pytest.mark.parametrize("name", slow_but(("slstm",), REMEDIES))
def test_values_that_are_not_finite_stay_in_their_sequence(name):
    """NaN goes through, as in JAX, and no further than its own sequence of a batch."""
    cell, params = make(name)
    xs = np.ones((3, 2, FEATURES), np.float32)
    xs[1, 0, 0] = np.nan
    _, ys = jr.unroll(cell, params, xs)
    assert np.isnan(ys[1:, 0]).all() or (name == "cornn" and np.isnan(ys[2, 0]).all())
    assert np.isfinite(ys[:, 1]).all()


def test_slstm_is_finite_where_its_gates_are_not():
    """Input gates of exp(±200), which float32 cannot hold: h stays a mean of what was stored."""
    params = jax.tree.map(jnp.zeros_like, make("slstm")[1])
    size = params.weight_hh.shape[1]
    for gates in ([-200.0] * 6, [200.0] * 6, [-200, 200, -200, 150, 200, -200]):
        params = params._replace(weight_ih=params.weight_ih.at[:size, 0].set(1).at[2 * size : 3 * size, 1].set(1))
        xs = jnp.stack([jnp.asarray(gates, jnp.float32), jnp.linspace(-1.0, 1.0, 6), jnp.zeros(6)], axis=1)

        def loss(params, xs=xs):
            state, ys = jr.unroll(jr.slstm, params, xs)
            return jnp.sum(ys), (state, ys)

        (_, (state, ys)), grads = jax.value_and_grad(loss, has_aux=True)(params)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, ys, grads)))
        weights = np.exp(np.asarray(gates, np.longdouble)) * np.longdouble(0.5) ** np.arange(6)[::-1]
        mean = (weights * np.tanh(np.linspace(-1, 1, 6))).sum() / weights.sum()
        np.testing.assert_allclose(ys[-1], np.full(size, 0.5 * float(mean)), rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_orthogonal_weights_stay_orthogonal():
    """Whatever is learnt: to rounding, and in bfloat16 to its own."""
    cell = jr.orthogonal_cell(jr.affine_cell(_linear, blocks=1))
    for scale in (0.0, 1.0, 30.0):
        params = cell.init(jax.random.key(0), 3, 16, dtype=jnp.float64, bias=False)
        params = params._replace(weight_hh=scale * params.weight_hh)
        jacobian = jax.jacobian(lambda h, params=params: cell.step(params, h, jnp.zeros(3)))(jnp.zeros(16))
        np.testing.assert_allclose(jacobian @ jacobian.T, np.eye(16), rtol=0, atol=1e-13)


def _linear(params, z, r, h):
    return z + r


@pytest.mark.usefixtures("x64")
def test_a_linear_antisymmetric_system_keeps_its_energy():
    """Eigenvalues of W − Wᵀ − γI have real part −γ, whatever W is."""
    cell = jr.antisymmetric_rnn(1e-3, 0.2)
    params = cell.init(jax.random.key(0), 3, 8, dtype=jnp.float64, bias=False)
    jacobian = jax.jacobian(lambda h: cell.step(params, h, jnp.zeros(3)))(jnp.zeros(8))
    values = np.linalg.eigvals((jacobian - np.eye(8)) / 1e-3)
    np.testing.assert_allclose(values.real, np.full(8, -0.2), rtol=0, atol=1e-10)


def test_layer_norm_does_not_see_the_scale_of_its_weights():
    """The paper's invariance: gates of weights and inputs of any size are the same."""
    cell, params = make("layer_norm_lstm")
    state, x = random_like(cell.initial_state(params)), random_like(jnp.zeros(FEATURES), seed=1)
    larger = params._replace(weight_ih=1e3 * params.weight_ih, weight_hh=1e3 * params.weight_hh)
    largest = params._replace(weight_ih=1e6 * params.weight_ih, weight_hh=1e6 * params.weight_hh)
    assert_close(cell.step(largest, state, x), cell.step(larger, state, x), 1e-5)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: jr.leaky_rnn(0), ValueError, r"rate must be a number in \(0, 1\], got 0"),
        (lambda: jr.leaky_rnn(1.5), ValueError, r"rate must be a number in \(0, 1\], got 1.5"),
        (lambda: jr.leaky_rnn(math.nan), ValueError, r"rate must be a number in \(0, 1\], got nan"),
        (lambda: jr.leaky_rnn("x"), TypeError, r"rate must be a number in \(0, 1\], got 'x' of type str"),
        (lambda: jr.antisymmetric_rnn(0), ValueError, "step_size must be a number above 0, got 0"),
        (lambda: jr.antisymmetric_rnn(damping=-1), ValueError, "damping must be a number of at least 0, got -1"),
        (lambda: jr.cornn(frequency=math.inf), ValueError, "frequency must be a number above 0, got inf"),
        (lambda: jr.cornn(True), TypeError, "step_size must be a number above 0, got True of type bool"),
        (lambda: jr.orthogonal_cell(jr.gru.step), TypeError, "cell must be a jaxrnn.Cell, got method"),
        (
            lambda: jr.orthogonal_cell(jr.lstm).init(jax.random.key(0), 3, 4, proj_size=2),
            ValueError,
            r"weight_hh has shape \(16, 2\), expected \(G\*H, H\) of square blocks, without a projection",
        ),
        (
            lambda: jr.indrnn.step(make("rnn")[1], jnp.zeros(4), jnp.ones(3)),
            ValueError,
            r"weight_hh has shape \(4, 4\), expected \(4,\)",
        ),
        (
            lambda: jr.cornn().step(make("rnn")[1], jnp.zeros(4), jnp.ones(3)),
            ValueError,
            r"weight_hh has shape \(4, 4\), expected \(4, 8\)",
        ),
        (
            lambda: jr.layer_norm_gru.step(make("gru")[1], jnp.zeros(4), jnp.ones(3)),
            TypeError,
            "params must be a jaxrnn.LayerNormGRUParams, got AffineParams",
        ),
        (lambda: jr.slstm.output(jnp.zeros(4)), TypeError, r"state must be a jaxrnn.SLSTMState, got float32\[4\]"),
        (lambda: jr.cornn().output(jnp.zeros(4)), TypeError, r"state must be a jaxrnn.CoRNNState, got float32\[4\]"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_function_that_makes_cells_makes_one_of_equal_arguments():
    assert jr.leaky_rnn(0.5) is jr.leaky_rnn(np.float64(0.5))
    assert jr.cornn(0.1, damping=2) is jr.cornn(0.1, damping=2.0)
    assert jr.antisymmetric_rnn() is jr.antisymmetric_rnn()
    assert jr.orthogonal_cell(jr.gru) is jr.orthogonal_cell(jr.gru)
    assert jr.leaky_rnn(0.5) != jr.leaky_rnn(0.25)
