"""Every argument of jaxrnn.remedies, and of what makes cells, against what is no good for it: see tests/attacks.py."""

import dataclasses

import jax.numpy as jnp
import numpy as np

import jaxrnn as jr
from jaxrnn import gradients, remedies

from ..attacks import EVERYTHING, KEY, TREES, Argument, Attacks, Door
from ..cell_table import make

LSTM = make("lstm")[1]
RANDOM, INT = Argument(KEY, "key, old key"), Argument(1, "int")
PARAMS = Argument(LSTM, called=r"\b(params|weight|bias)")
NUMBER, POSITIVE = (Argument(0.5, f"int, {kind}float, scalar") for kind in ("negative, ", ""))
BLOCK = Argument(1, "None, int")
PROBLEM = gradients.Problem(jr.rnn, lambda params, h, y: jnp.sum((h - y) ** 2))
YS = np.ones((6, 2, 3), np.float32)
X = np.ones((2, 3), np.float32)


def of_cell(name):
    """The doors of a cell's functions."""
    cell, params = make(name)
    state = cell.initial_state(params, (2,))
    anything = EVERYTHING if cell.output is jr.rnn.output else ""
    return {
        f"{name}.init": Door(
            cell.init,
            {
                "key": RANDOM,
                "input_size": INT,
                "hidden_size": INT,
                "dtype": Argument(jnp.float32, "None"),
            },
        ),
        f"{name}.initial_state": Door(
            cell.initial_state,
            {"params": dataclasses.replace(PARAMS, good=params), "batch_shape": Argument((2,), "list, tuple")},
        ),
        f"{name}.step": Door(
            cell.step,
            {"params": dataclasses.replace(PARAMS, good=params), "state": Argument(state), "x": Argument(X, "nan")},
        ),
        f"{name}.output": Door(cell.output, {"state": Argument(state, anything)}),
    }


CELL = Argument(jr.lstm)
DOORS = {
    "leaky_rnn": Door(jr.leaky_rnn, {"rate": Argument(0.5, "scalar")}),
    "antisymmetric_rnn": Door(jr.antisymmetric_rnn, {"step_size": POSITIVE, "damping": POSITIVE}),
    "cornn": Door(jr.cornn, {"step_size": POSITIVE, "frequency": POSITIVE, "damping": POSITIVE}),
    "orthogonal_cell": Door(jr.orthogonal_cell, {"cell": CELL}),
    **{door: value for name in ("slstm", "layer_norm_lstm") for door, value in of_cell(name).items()},
    "orthogonal": Door(remedies.orthogonal, {"key": RANDOM, "params": PARAMS, "scale": NUMBER}),
    "identity": Door(remedies.identity, {"params": PARAMS, "scale": NUMBER}),
    "scaled_spectral": Door(remedies.scaled_spectral, {"params": PARAMS, "radius": POSITIVE}),
    "chrono": Door(
        remedies.chrono,
        {"key": RANDOM, "params": PARAMS, "max_length": Argument(9, "int"), "forget": BLOCK, "input": BLOCK},
    ),
    "forget_gate_bias": Door(remedies.forget_gate_bias, {"params": PARAMS, "value": NUMBER, "forget": BLOCK}),
    "weight_noise": Door(
        remedies.weight_noise,
        {"key": RANDOM, "params": Argument(LSTM, TREES), "scale": POSITIVE},
    ),
    "activation_regulariser": Door(
        remedies.activation_regulariser,
        {"ys": Argument(YS, "nan, half, five axes"), "lengths": Argument(None, "None, old key")},
    ),
    "temporal_activation_regulariser": Door(
        remedies.temporal_activation_regulariser,
        {"ys": Argument(YS, "nan, half, five axes"), "lengths": Argument(None, "None, old key")},
    ),
    "omega": Door(
        lambda problem, params, state, xs: remedies.omega(problem, params, state, xs, np.ones((5, 4), np.float32)),
        {
            "problem": Argument(PROBLEM),
            "params": Argument(make("rnn")[1], called=r"\b(params|weight|bias)"),
            "state": Argument(np.zeros(4, np.float32)),
            "xs": Argument(np.ones((5, 3), np.float32), called=r"\bxs?\b"),
        },
    ),
    "zoneout": Door(remedies.zoneout, {"cell": CELL, "rate": Argument(0.1, "scalar")}),
    "recurrent_dropout": Door(remedies.recurrent_dropout, {"cell": CELL, "rate": Argument(0.1)}),
    "variational_dropout": Door(remedies.variational_dropout, {"cell": CELL, "rate": Argument(0.1)}),
    **{
        door: value for name in ("zoneout", "dropout") for door, value in of_cell(name).items() if "initial" not in door
    },
    "Keyed": Door(lambda key: remedies.zoneout(jr.lstm, 0.1).initial_state(remedies.Keyed(LSTM, key)), {"key": RANDOM}),
}


class TestDoors(Attacks):
    doors, more_than = DOORS, 900
