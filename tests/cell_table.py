"""The cells that every generic test runs on: built in, stacked, and written by a user."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn import remedies

from .marks import slow_but

FEATURES = 3


def _init(key, input_size, hidden_size, *, dtype=jnp.float32):
    key_in, key_out = jax.random.split(key)
    return {
        "w": jax.random.normal(key_in, (hidden_size, input_size), dtype),
        "v": jax.random.normal(key_out, (hidden_size, 2), dtype),
        "rate": jnp.full((), 0.3, dtype),
    }


def _initial_state(params, batch_shape=()):
    zeros = lambda width: jnp.zeros((*batch_shape, width), params["w"].dtype)  # noqa: E731
    return {"fast": zeros(params["w"].shape[0]), "slow": (zeros(2),)}


def _step(params, state, x):
    fast = jnp.tanh(x @ params["w"].T + state["slow"][0] @ params["v"].T)
    slow = (1 - params["rate"]) * state["slow"][0] + params["rate"] * jnp.sin(state["fast"] @ params["v"])
    return {"fast": fast, "slow": (slow,)}


def _minimal_gates(params, z, r, h):
    z_forget, z_new = jnp.split(z, 2, axis=-1)
    r_forget, r_new = jnp.split(r, 2, axis=-1)
    forget = jax.nn.sigmoid(z_forget + r_forget)
    return h + forget * (jnp.tanh(z_new + forget * r_new) - h)


nested = jr.Cell(_init, _initial_state, _step, output=lambda state: state["fast"])
minimal = jr.affine_cell(_minimal_gates, blocks=2)

# name: (cell, hidden size, further arguments of init)
CELLS = {
    "rnn": (jr.rnn, 4, {}),
    "rnn_relu": (jr.rnn_relu, 4, {}),
    "gru": (jr.gru, 4, {}),
    "gru_reset_before": (jr.gru_reset_before, 4, {}),
    "mgu": (jr.mgu, 4, {}),
    "mgu_without_reset": (jr.mgu_without_reset, 4, {}),
    "lstm": (jr.lstm, 4, {}),
    "lstm_proj": (jr.lstm, 4, {"proj_size": 2}),
    "lstm_peephole": (jr.lstm_peephole, 4, {}),
    "no_places": (jr.conv_lstm._replace(input_ndim=1), 4, {"kernel_size": ()}),  # over images: test_conv_lstm.py
    "no_bias": (jr.gru, 4, {"bias": False}),
    "minimal": (minimal, 4, {}),
    "nested": (nested, 4, {}),
    "stack": (jr.stack(jr.lstm, jr.gru), (5, 2), {}),
    "leaky": (jr.leaky_rnn(0.3), 4, {}),
    "indrnn": (jr.indrnn, 4, {}),
    "antisymmetric": (jr.antisymmetric_rnn(0.3, 0.1), 4, {}),
    "cornn": (jr.cornn(0.3, 1.5, 0.7), 4, {}),
    "orthogonal": (jr.orthogonal_cell(jr.rnn), 4, {}),
    "orthogonal_gru": (jr.orthogonal_cell(jr.gru), 4, {}),
    "slstm": (jr.slstm, 4, {}),
    "layer_norm_rnn": (jr.layer_norm_rnn, 4, {}),
    "layer_norm_gru": (jr.layer_norm_gru, 4, {}),
    "layer_norm_lstm": (jr.layer_norm_lstm, 4, {}),
    "zoneout": (remedies.zoneout(jr.lstm, 0.1), 4, {}),
    "dropout": (remedies.variational_dropout(jr.gru, 0.1), 4, {}),
    "stack_of_remedies": (jr.stack(jr.indrnn, jr.slstm, jr.layer_norm_gru), (4, 3, 2), {}),
    "stack_of_stacks": (jr.stack(jr.stack(jr.rnn, nested), jr.lstm), ((3, 2), 4), {}),
}

# Made as others of the table are, with tests of their own in tests/remedies.
ALIKE = ["antisymmetric", "dropout", "leaky", "layer_norm_gru", "layer_norm_rnn", "orthogonal", "orthogonal_gru"]
SLOW = [*ALIKE, "cornn", "layer_norm_lstm", "stack_of_remedies", "zoneout"]
NAMES = slow_but([name for name in CELLS if name not in SLOW], CELLS, full=ALIKE)
DISTINCT = [name for name in CELLS if name not in ALIKE]


def names_with(*options):
    """All names with all combinations of the options; by default each of the quick with one of them, in turn."""
    combinations = list(itertools.product(*options))
    turns = dict(zip((name for name in CELLS if name not in SLOW), itertools.cycle(combinations), strict=False))
    marks = {name: pytest.mark.full if name in ALIKE else pytest.mark.slow for name in CELLS}
    return [
        pytest.param(name, *values, marks=() if turns.get(name) == values else marks[name])
        for name in CELLS
        for values in combinations
    ]


def shapes(name, dtype=jnp.float32):
    """A cell of the table, and the shapes and dtypes of its parameters."""
    cell, hidden_size, options = CELLS[name]
    init = functools.partial(cell.init, jax.random.key(0), FEATURES, hidden_size, dtype=dtype, **options)
    return cell, jax.eval_shape(init)


def make(name, dtype=jnp.float32, seed=0):
    """A cell of the table and parameters for it, of the shapes that its `init` gives them."""
    cell, like = shapes(name, dtype)
    return cell, _drawn(like, lambda rng, shape: rng.uniform(-0.5, 0.5, shape), seed)


def random_like(tree, seed=0):
    """Arrays from N(0, 1), shaped as those of a tree."""
    return _drawn(tree, lambda rng, shape: rng.normal(size=shape), seed)


def _drawn(tree, draw, seed):
    """By NumPy: JAX compiles a program for each shape."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(draw(rng, a.shape), a.dtype), tree)


def stepped(cell, params, xs, state, *, lengths=None, reverse=False, return_states=False):
    """`jr.unroll`, as a scan of `cell.step`."""

    def step(state, inputs):
        t, x = inputs
        new_state = cell.step(params, state, x)
        out = new_state if return_states else cell.output(new_state)
        if lengths is None:
            return new_state, out
        keep = lambda yes, no: jnp.where(jnp.expand_dims(t < lengths, -1), yes, no)  # noqa: E731
        return jax.tree.map(keep, new_state, state), jax.tree.map(lambda a: keep(a, jnp.zeros_like(a)), out)

    return jax.lax.scan(step, state, (jnp.arange(len(xs), dtype=jnp.int32), xs), reverse=reverse)
