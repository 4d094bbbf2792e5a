"""Every argument of every public function of the core against everything that is no good for it: see attacks.py."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn as jr

from .attacks import EVERYTHING, KEY, TREES, Argument, Attacks, Door
from .cell_table import random_like

X = np.ones((6, 2, 3), np.float32)  # T=6, batch 2, 3 features
STACK = jr.stack(jr.rnn, jr.lstm)
NET, DEEP = jr.GRU(3, 4), jr.LSTM(3, 4, 2, dropout=0.5)
LINEAR, EMBEDDING = jr.Linear(3, 2), jr.Embedding(4, 3)


def drawn(init, *arguments):
    return random_like(jax.eval_shape(lambda key: init(key, *arguments), KEY))


CELLS = {
    "rnn": (jr.rnn, drawn(jr.rnn.init, 3, 4)),
    "lstm": (jr.lstm, drawn(jr.lstm.init, 3, 4)),
    "gru_reset_before": (jr.gru_reset_before, drawn(jr.gru_reset_before.init, 3, 4)),
    "stack": (STACK, drawn(STACK.init, 3, (4, 5))),
}


def gates(params, z, r, h):
    return z + r


def advance(params, h, x):
    return h


def feed(params, h, key):
    return np.float32(1), h


def key(takes=""):
    return Argument(KEY, "key, old key" + takes)


SIZE, FLAG = Argument(3, "int"), Argument(False, "bool")
DTYPE = Argument(jnp.float32, "None")
PARAMS = r"\b(params|weight|bias)"


def of_cell(cell, params):
    """The doors of a cell's functions."""
    state = cell.initial_state(params, (2,))
    width = Argument((4, 5)) if cell is STACK else SIZE
    options = {"proj_size": Argument(2)} if cell is jr.lstm else {}
    return {
        "init": Door(
            cell.init,
            {"key": key(), "input_size": SIZE, "hidden_size": width, "bias": FLAG, "dtype": DTYPE} | options,
        ),
        "initial_state": Door(
            cell.initial_state, {"params": Argument(params), "batch_shape": Argument((2,), "list, tuple")}
        ),
        "step": Door(
            cell.step,
            {"params": Argument(params, called=PARAMS), "state": Argument(state), "x": Argument(X[0], "nan")},
        ),
        "output": Door(cell.output, {"state": Argument(state, EVERYTHING if cell.output is jr.rnn.output else "")}),
    }


def unroll(cell, params):
    return Door(
        jr.unroll,
        {
            "cell": Argument(cell),
            "params": Argument(params, called=PARAMS),
            "xs": Argument(X, called=r"\bxs?\b"),
            "state": Argument(cell.initial_state(params, (2,)), "None"),
            "lengths": Argument(None, "None, old key"),  # or no input would be good but X
            "reverse": FLAG,
            "checkpoint": Argument(2, "None, int"),
            "return_states": FLAG,
        },
    )


def network(make, **options):
    sizes = {"input_size": SIZE, "hidden_size": SIZE, "num_layers": Argument(2, "int")}
    flags = {"bias": FLAG, "batch_first": FLAG, "bidirectional": FLAG}
    return Door(make, sizes | flags | {"dropout": Argument(0.1, "scalar")} | options)


def apply(net, h_0):
    return Door(
        net.apply,
        {
            "params": Argument(drawn(net.init)),
            "x": Argument(X),
            "h_0": Argument(h_0, "None"),
            "lengths": Argument(None, "None, old key"),
            "key": key(", None"),
            "checkpoint": Argument(2, "None, int"),
        },
    )


def with_functions(initial_state, step, output, run, affine, input_ndim):
    cell, params = CELLS["rnn"]
    cell = jr.Cell(cell.init, initial_state, step, output, run=run, affine=affine, input_ndim=input_ndim)
    return jr.unroll(cell, params, X)


def gives(field, good, takes="", lengths=None):
    """A cell one of whose functions gives something."""
    cell, params = CELLS["rnn"]

    def call(value):
        functions = {"run": None, field: lambda *arguments, **options: value}
        return jr.unroll(cell._replace(**functions), params, X, lengths=lengths)

    return Door(call, {"value": Argument(good, takes, called=r"cell\.|state")})


OUTPUTS, LENGTHS = "bools, nan, half, complex, keys, old keys, old key", np.array([6, 2])  # begin with the batch of 2
H, YS = np.zeros((2, 4), np.float32), np.zeros((6, 2, 4), np.float32)
DOORS = {
    "affine_cell": Door(
        jr.affine_cell,
        {
            "gates": Argument(gates),
            "blocks": SIZE,
            "merge": Argument(jr.affine_cell(gates, 1).affine.merge),
            "init": Argument(None, "None"),
            "state": Argument(lambda params, batch_shape: None),
            "output": Argument(lambda state: state),
            "check": Argument(None, "None"),
            "slope": Argument(1.0, "None, int, negative, float, scalar"),
        },
    ),
    "stack": Door(lambda cells: jr.stack(jr.rnn, cells), {"cells": Argument(jr.rnn)}),
    **{f"{name}.{door}": value for name, cell in CELLS.items() for door, value in of_cell(*cell).items()},
    **{f"unroll of {name}": unroll(*cell) for name, cell in CELLS.items()},
    "unroll of a Cell": Door(
        with_functions,
        {
            "initial_state": Argument(jr.rnn.initial_state),
            "step": Argument(jr.rnn.step),
            "output": Argument(jr.rnn.output),
            "run": Argument(None, "None"),
            "affine": Argument(None, "None"),
            "input_ndim": Argument(1, called="input_ndim|axes of an input"),
        },
    ),
    "what initial_state gives": gives("initial_state", H),
    "what step gives": gives("step", H),
    "what output gives": gives("output", H, OUTPUTS),
    "what run gives": gives("run", (H, YS)),
    "what initial_state gives, with lengths": gives("initial_state", H, lengths=LENGTHS),
    "what step gives, with lengths": gives("step", H, lengths=LENGTHS),
    "what output gives, with lengths": gives("output", H, OUTPUTS, lengths=LENGTHS),
    "what run gives, with lengths": gives("run", (H, YS), lengths=LENGTHS),
    "generate": Door(
        jr.generate,
        {
            "step": Argument(advance),
            "feed": Argument(feed),
            "params": Argument(None, TREES),
            "state": Argument(np.float32(0), TREES),
            "x0": Argument(np.float32(1), "float, scalar"),
            "length": SIZE,
            "key": key(", None"),
        },
    ),
    "RNN": network(jr.RNN, nonlinearity=Argument("relu")),
    "GRU": network(jr.GRU),
    "LSTM": network(jr.LSTM, proj_size=Argument(2)),
    "GRU.init": Door(NET.init, {"key": key(), "dtype": DTYPE}),
    "GRU.apply": apply(NET, np.zeros((1, 2, 4), np.float32)),
    "LSTM.apply": apply(DEEP, (np.zeros((2, 2, 4), np.float32),) * 2),
    "Linear": Door(jr.Linear, {"in_features": SIZE, "out_features": SIZE, "bias": FLAG}),
    "Linear.init": Door(LINEAR.init, {"key": key(), "dtype": DTYPE}),
    "Linear.apply": Door(LINEAR.apply, {"params": Argument(drawn(LINEAR.init)), "x": Argument(X, "nan")}),
    "Embedding": Door(jr.Embedding, {"num_embeddings": SIZE, "embedding_dim": SIZE}),
    "Embedding.init": Door(EMBEDDING.init, {"key": key(), "dtype": DTYPE}),
    "Embedding.apply": Door(
        EMBEDDING.apply,
        {"params": Argument(drawn(EMBEDDING.init)), "ids": Argument(np.array([1]), "ints, old key, old keys")},
    ),
}


class TestDoors(Attacks):
    doors, more_than = DOORS, 4000
