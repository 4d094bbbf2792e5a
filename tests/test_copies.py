"""A pickled or deep-copied cell, network or problem is equal to the first, and nothing is traced again; what they say.

In another process, too: a worker gets the cell by its modules' names, as pickle has it.
"""

import copy
import operator
import pickle
import pydoc
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn import gradients
from jaxrnn._cells.conv_lstm import conv_lstm_of
from jaxrnn._cells.gru import gru_of

from .cell_table import CELLS, FEATURES, make, minimal, nested
from .test_retrace import tracing

COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {n}": lambda a, n=n: pickle.loads(pickle.dumps(a, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)},
}


def output(state):
    return state["fast"]


def loss(params, h, y):
    return jnp.sum((h - y) ** 2)


functions = nested._replace(output=output)  # four functions of this and another module
OBJECTS = {
    "rnn": jr.rnn,
    "rnn_relu": jr.rnn_relu,
    "lstm": jr.lstm,
    "gru": jr.gru,
    "affine": minimal,
    "functions": functions,
    "stack": jr.stack(jr.lstm, minimal, functions),
    "stack of stacks": jr.stack(jr.stack(jr.rnn, jr.gru), jr.lstm),
    "with functions given": gru_of(copy.copy, operator.neg),
    "conv_lstm": jr.conv_lstm,
    "conv_lstm with a padding": conv_lstm_of((3,), ((2, 0),)),
    "with another step": jr.gru._replace(step=operator.add, affine=None, run=None),
    "step": jr.lstm.step,
    "RNN": jr.RNN(3, 4, 2, nonlinearity="relu"),
    "GRU": jr.GRU(3, 4, bidirectional=True),
    "LSTM": jr.LSTM(3, 4, proj_size=2),
    "Linear": jr.Linear(3, 4, bias=False),
    "Embedding": jr.Embedding(3, 4),
    "problem": gradients.Problem(jr.gru, loss),
    "problem with a key": gradients.Problem(jr.stack(jr.gru), loss, operator.itemgetter("cell")),
    "problem with an attribute": gradients.Problem(jr.rnn, loss, operator.attrgetter("cell.top")),
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("name", OBJECTS)
def test_a_copy_is_equal(name, way):
    first = OBJECTS[name]
    copied = COPIES[way](first)
    assert copied == first
    assert operator.ne(copied, first) is False  # tuple's own, were it not ours
    assert hash(copied) == hash(first)
    assert type(copied) is type(first)
    assert repr(copied) == repr(first)
    assert copied.__doc__ == first.__doc__


def feed(params, state, key):
    return jnp.zeros((2, FEATURES)), ()


@pytest.mark.parametrize("name", ["lstm", "minimal", "stack"])
@pytest.mark.parametrize("way", ["deepcopy", "pickle 5"])
def test_a_copied_cell_is_not_traced_again(name, way):
    cell, params = make(name)
    xs = jnp.ones((4, 2, FEATURES))
    state = cell.initial_state(params, (2,))
    jax.block_until_ready((jr.unroll(cell, params, xs), jr.generate(cell, feed, params, state, xs[0], 3)))
    cell = COPIES[way](cell)
    with tracing() as found:
        jax.block_until_ready((jr.unroll(cell, params, xs), jr.generate(cell, feed, params, state, xs[0], 3)))
    assert not found


@pytest.mark.parametrize("way", ["deepcopy", "pickle 5"])
def test_a_copied_network_or_problem_is_not_traced_again(way):
    net, problem = jr.LSTM(3, 4), gradients.Problem(jr.gru, loss, operator.itemgetter("cell"))
    params, x = net.init(jax.random.key(0)), jnp.ones((4, 3))
    given = {"cell": jr.gru.init(jax.random.key(0), 3, 4)}, jnp.zeros(4), x, jnp.ones((4, 4))
    jax.block_until_ready((net.apply(params, x), gradients.bptt(problem, *given), gradients.rtrl(problem, *given)))
    net, problem = COPIES[way]((net, problem))
    with tracing() as found:
        jax.block_until_ready((net.apply(params, x), gradients.bptt(problem, *given), gradients.rtrl(problem, *given)))
    assert not found


def test_a_cell_made_again_of_the_same_gates_is_equal():
    def gates(params, z, r, h):
        return z + r + h

    first = jr.affine_cell(gates, blocks=1)
    assert jr.affine_cell(gates, blocks=1) == first
    assert jr.affine_cell(gates, blocks=np.int64(1)) == first
    assert jr.affine_cell(gates, blocks=2) != first
    assert jr.affine_cell(gates, blocks=1, slope=1.0) != first
    assert jr.affine_cell(lambda params, z, r, h: z + r + h, blocks=1) != first


def test_problems_that_differ_are_unequal():
    cell, other = (gradients.Problem(jr.gru, loss, operator.itemgetter(name)) for name in ("cell", "other"))
    assert cell == gradients.Problem(jr.gru, loss, operator.itemgetter("cell"))
    assert cell != other
    assert operator.eq(cell, other) is False
    assert cell != gradients.Problem(jr.gru, loss)
    assert cell != gradients.Problem(jr.rnn, loss, operator.itemgetter("cell"))
    assert cell != gradients.Problem(jr.gru, min, operator.itemgetter("cell"))
    assert cell != (jr.gru, loss, operator.itemgetter("cell"))


WORKER = """
import pickle, sys
import jax.numpy as jnp, jaxrnn as jr
lstm, stack, net = pickle.loads(sys.stdin.buffer.read())
assert lstm == jr.lstm and lstm.step == jr.lstm.step, lstm
assert stack == jr.stack(jr.gru, jr.rnn), stack
assert net == jr.GRU(3, 4), net
print(repr((lstm, stack)))
"""


def test_a_copy_in_another_process_is_equal():
    content = pickle.dumps((jr.lstm, jr.stack(jr.gru, jr.rnn), jr.GRU(3, 4)))
    run = subprocess.run([sys.executable, "-c", WORKER], input=content, capture_output=True, timeout=100)
    assert run.returncode == 0, run.stderr.decode()
    assert run.stdout.decode().strip() == "(jaxrnn.lstm, jaxrnn.stack(jaxrnn.gru, jaxrnn.rnn))"


def gates(params, z, r, h):
    """h′ = z"""
    return z


class Call:
    def __call__(self, params, z, r, h):
        return z


SHOWN = {
    "jaxrnn.rnn": jr.rnn,
    "jaxrnn.rnn_relu": jr.rnn_relu,
    "jaxrnn.lstm": jr.lstm,
    "jaxrnn.gru": jr.gru,
    "jaxrnn.stack(jaxrnn.gru, jaxrnn.rnn)": jr.stack(jr.gru, jr.rnn),
    "jaxrnn.stack(jaxrnn.stack(jaxrnn.rnn), jaxrnn.lstm)": jr.stack(jr.stack(jr.rnn), jr.lstm),
    "jaxrnn.affine_cell(gates, blocks=2)": jr.affine_cell(gates, 2),
    "jaxrnn.affine_cell(Call, blocks=1)": jr.affine_cell(Call(), 1),
    "jaxrnn.Cell(init=_init, initial_state=_initial_state, step=_step, output=output)": functions,
    "jaxrnn.Cell(init=_init, initial_state=_Methods.initial_state, step=gates, output=lstm_output)": jr.lstm._replace(
        step=gates, affine=None, run=None
    ),
    "jaxrnn.Affine(project=project, merge=z_and_r, gates=gates)": jr.affine_cell(gates, 2).affine,
    "jaxrnn.Affine(project=project, merge=sum_of_z_and_r, gates=_gates_tanh, slope=1.0)": jr.rnn.affine,
}


@pytest.mark.parametrize("shown", SHOWN)
def test_a_cell_is_shown_in_one_short_line(shown):
    assert repr(SHOWN[shown]) == shown


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (jr.rnn, ["jaxrnn.rnn\n", "h′ = tanh(W_ih x", "weight_ih (H, I)", "h (*batch, H)"]),
        (jr.rnn_relu, ["jaxrnn.rnn_relu\n", "h′ = max(0, W_ih x", "weight_hh (H, H)", "h (*batch, H)"]),
        (jr.lstm, ["jaxrnn.lstm\n", "c′ = f ⊙ c + i ⊙ g", "weight_ih (4H, I)", "LSTMState(h (*batch, R)"]),
        (jr.gru, ["jaxrnn.gru\n", "h′ = n + u ⊙ (h − n)", "weight_hh (3H, H)", "h (*batch, H)"]),
        (jr.affine_cell(gates, 2), ["gates(params, ", "weight_ih (2*H, I)", "h (*batch, H)", "h′ = z"]),
        (jr.stack(jr.gru, jr.rnn), ["jaxrnn.gru, jaxrnn.rnn", "s⁽ˡ⁾′ = stepₗ(", "a tuple of widths"]),
    ],
    ids=repr,
)
def test_help_of_a_cell_has_its_equations_and_shapes(cell, words):
    text = pydoc.plain(pydoc.render_doc(cell))
    assert all(word in text for word in words), text
    assert "Cell(init:" not in text


def test_a_cell_with_another_step_does_not_say_it_is_the_first():
    other = jr.lstm._replace(step=gates, affine=None, run=None)
    assert type(other) is jr.Cell
    assert other.__doc__ == jr.Cell.__doc__


def test_help_of_the_library_has_a_line_for_each_name():
    lines = [line.strip().removeprefix("jaxrnn.") for line in jr.__doc__.splitlines() if line.startswith("    ")]
    listed = [name for line in lines for name in line.split("  ")[0].split(", ")]
    assert sorted(listed) == sorted(
        [*jr.__all__, "dynamics", "gradients", "interop", "linen", "nnx", "remedies", "training"]
    )


def test_the_cells_are_named_tuples_all_the_same():
    for cell, *_ in CELLS.values():
        assert isinstance(cell, jr.Cell)
        assert cell._fields == ("init", "initial_state", "step", "output", "affine", "run", "input_ndim")
        assert cell._replace(input_ndim=2)[:6] == cell[:6]
