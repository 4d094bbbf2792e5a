"""The fast scan of affine cells gives what a scan of their step gives, in chunks, in all derivative modes."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn._scan import plan

from .cell_table import make, random_like, stepped
from .marks import slow_but

STEPS, BATCH, FEATURES = 5, 3, 3
CELLS = ["rnn", "rnn_relu", "gru", "lstm", "lstm_proj", "lstm_peephole", "no_bias", "minimal", "leaky", "nonlinear"]


class LeakyParams(NamedTuple):
    """Parameters with one that the gates look at."""

    weight_ih: jax.Array
    weight_hh: jax.Array
    bias_ih: jax.Array | None
    bias_hh: jax.Array | None
    rate: jax.Array


def _leaky_init(key, input_size, hidden_size, *, bias=True, dtype=jnp.float32):
    shared = jr.rnn.init(key, input_size, hidden_size, bias=bias, dtype=dtype)
    return LeakyParams(*shared, rate=jnp.linspace(0.1, 0.9, hidden_size, dtype=dtype))


def _leaky_gates(params, a, h):
    return h + jnp.broadcast_to(params.rate, h.shape) * (jnp.tanh(a) - h)


leaky = jr.affine_cell(_leaky_gates, blocks=1, merge=lambda z, r: (z + r,), init=_leaky_init)
nonlinear = jr.affine_cell(lambda params, a, h: h + jnp.tanh(a), blocks=1, merge=lambda z, r: (z + r,), output=jnp.sin)
CUSTOM = {"leaky": leaky, "nonlinear": nonlinear}


def cell_and_params(name, dtype):
    if name in CUSTOM:
        cell = CUSTOM[name]
        return cell, cell.init(jax.random.key(0), FEATURES, 4, dtype=dtype)
    return make(name, dtype)


def loss(run, cell, options, args):
    params, xs, state = args
    outputs = run(cell, params, xs, state, **options)
    return sum(jnp.sum(jnp.sin(a + 0.1)) for a in jax.tree.leaves(outputs))


def arguments(name, dtype):
    cell, params = cell_and_params(name, dtype)
    xs = random_like(jnp.zeros((STEPS, BATCH, FEATURES), dtype))
    return cell, (params, xs, random_like(cell.initial_state(params, (BATCH,)), seed=1))


def close(ours, theirs, tolerance):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, float(np.abs(b).max())))


PLAIN = {}
RAGGED = {"lengths": np.array([5, 0, 4], np.int32)}
RAGGED_REVERSE = {"lengths": np.array([5, 2, 4], np.int32), "reverse": True, "return_states": True}


@pytest.fixture
def chunks(monkeypatch):
    """Chunks of two steps, and a rest."""
    monkeypatch.setattr(plan, "affine", lambda *args, **facts: plan.AffineChunks(2, 2))
    jax.clear_caches()
    yield
    jax.clear_caches()


def both(name, options, dtype=jnp.float64):
    cell, args = arguments(name, dtype)
    return args, [functools.partial(loss, run, cell, options) for run in (jr.unroll, stepped)]


def check(functions, args, tolerance):
    close(*(jax.jit(function)(*args) for function in functions), tolerance)


@pytest.mark.usefixtures("x64", "chunks")
@pytest.mark.parametrize("name", slow_but(("lstm_proj", "nonlinear"), CELLS))
def test_values_and_first_derivatives(name):
    for options in (PLAIN, RAGGED_REVERSE):
        args, losses = both(name, options)
        check([jax.value_and_grad(loss) for loss in losses], (args,), 1e-12)
    direction = random_like(args, seed=2)
    check([lambda a, d, f=f: jax.jvp(f, (a,), (d,))[1] for f in losses], (args, direction), 1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("x64", "chunks")
@pytest.mark.parametrize("name", ["gru", "lstm_proj", "leaky"])
def test_second_derivatives(name):
    args, losses = both(name, RAGGED_REVERSE)
    direction = random_like(args, seed=2)

    def slope(gradient, direction):
        return sum(map(jnp.vdot, jax.tree.leaves(gradient), jax.tree.leaves(direction)))

    for second in (
        lambda f: lambda a, d: jax.jvp(jax.grad(f), (a,), (d,))[1],
        lambda f: jax.grad(lambda a, d: jax.jvp(f, (a,), (d,))[1]),
        lambda f: jax.grad(lambda a, d: slope(jax.grad(f)(a), d)),
    ):
        check([second(f) for f in losses], (args, direction), 1e-11)


@pytest.mark.parametrize("name", slow_but(("gru", "lstm_peephole", "no_bias", "minimal", "leaky"), CELLS))
def test_single_precision(name):
    args, losses = both(name, PLAIN, jnp.float32)
    check([jax.grad(f) for f in losses], (args,), 1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("x64", "chunks")
@pytest.mark.parametrize("argument", [0, 1, 2], ids=["params", "xs", "state"])
def test_one_argument_alone_differentiated_and_batched(argument):
    """As many sequences as steps: a batch axis taken for time would go unnoticed by shapes alone."""
    args, losses = both("lstm", RAGGED)
    many = jax.tree.map(lambda a: a[None] + 0.1 * random_like(jnp.zeros((STEPS, *a.shape)), seed=3), args[argument])
    ours, theirs = (lambda a, f=f: f((*args[:argument], a, *args[argument + 1 :])) for f in losses)

    def gradient_of_map(f):
        return jax.grad(lambda many: jnp.sum(jax.vmap(f)(many)))

    check([gradient_of_map(ours), gradient_of_map(theirs)], (many,), 1e-12)
    check([jax.vmap(jax.grad(ours)), gradient_of_map(theirs)], (many,), 1e-12)


@pytest.mark.parametrize("name", slow_but(("gru",), ["rnn", "gru", "lstm"]))
def test_bfloat16_gradients_add_up_in_float32(name):
    """128 steps of 32 sequences: within four units of the last place of float32's, where a plain scan is not."""
    cell = getattr(jr, name)
    params = cell.init(jax.random.key(0), 16, 32, dtype=jnp.bfloat16)
    xs, weights = random_like([jnp.zeros((128, 32, 16), jnp.bfloat16), jnp.zeros((128, 32, 32), jnp.bfloat16)])

    def gradient(run, params, xs, weights):
        def loss(params):
            ys = run(cell, params, xs, cell.initial_state(params, xs.shape[1:-1]))[1]
            return jnp.sum((ys * weights).astype(jnp.float32))

        return jax.jit(jax.grad(loss))(params)

    reference = gradient(jr.unroll, *jax.tree.map(lambda a: a.astype(jnp.float32), (params, xs, weights)))

    def error(run):
        pairs = zip(*map(jax.tree.leaves, (gradient(run, params, xs, weights), reference)), strict=True)
        return max(float(jnp.abs(a.astype(jnp.float32) - b).max() / jnp.abs(b).max()) for a, b in pairs)

    assert error(jr.unroll) <= 4 * 2**-8 < error(stepped)


def test_merge_errors():
    with pytest.raises(TypeError, match="merge must be a function"):
        jr.affine_cell(lambda params, a, h: a, blocks=1, merge=None)


@pytest.mark.parametrize("merge", [lambda z, r: (z * r,), lambda z, r: (jnp.tanh(z) + r,)], ids=["product", "tanh"])
def test_a_merge_that_is_not_linear(merge):
    cell = jr.affine_cell(lambda params, a, h: a, blocks=1, merge=merge)
    with pytest.raises(ValueError, match="merge must be linear in z and r"):
        jr.unroll(cell, cell.init(jax.random.key(0), 2, 3), jnp.ones((4, 2)))
