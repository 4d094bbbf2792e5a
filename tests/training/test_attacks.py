"""Every argument of every public function of jaxrnn.training against what is no good for it: see tests/attacks.py."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn as jr
from jaxrnn import gradients, training
from jaxrnn.gradients import online

from ..attacks import KEY, TREES, Argument, Attacks, Door
from ..cell_table import make

PARAMS, BATCH, OPTIMIZER = {"w": np.ones((), np.float32)}, np.ones((1, 3), np.float32), optax.sgd(0.1)


def loss(params, carry, batch, key):
    return sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)), jnp.mean(batch)), (carry, {})


def batches(start, stop):
    return BATCH


FLOATS = "None, list, dict, tuple, float, floats, nested, scalar, five axes, half, empty"
NUMBERS = "int, negative, float, bool, scalar, bools, complex, empty, five axes, half, ints, nan, old key, old keys"
FIT = {
    "loss": Argument(loss),
    "params": Argument(PARAMS, FLOATS, called="params|loss must return a real scalar"),
    "optimizer": Argument(OPTIMIZER),
    "batches": Argument(batches),
    "steps": Argument(1, "int"),
    "carry": Argument(None, TREES),
    "key": Argument(KEY, "None, key, old key"),
    "chunk": Argument(1, "int"),
    "accumulate": Argument(1, "int"),
    "mesh": Argument(None, "None"),
    "folder": Argument(None, "None"),
    "evaluation": Argument(None, "None"),
    "on_chunk": Argument(None, "None, unhashable"),
    "progress": Argument(False, "bool"),
}
GOOD = {name: argument.good for name, argument in FIT.items()}


def given(name, good, takes="", called="", **functions):
    """`fit` where one of the functions gives something: `functions` make it of the value."""

    def call(value):
        return training.fit(**GOOD | {name: function(value) for name, function in functions.items()})

    return Door(call, {"value": Argument(good, takes, called)})


def metric(value):
    return lambda params, carry, batch, key: (params["w"], (carry, {"metric": value}))


def measured(value):
    return training.Evaluation(lambda params: value)


PROBLEM = gradients.Problem(jr.rnn, lambda params, h, y: jnp.sum(h**2))
STREAMS = training.over_streams(online.snap(PROBLEM))
RNN, STATES, INPUTS = make("rnn")[1], np.zeros((2, 4), np.float32), np.ones((2, 3), np.float32)
RANDOM = Argument(KEY, "None, key, old key")
DOORS = {
    "fit": Door(training.fit, FIT, raises=training.NonFiniteLossError),
    "what loss gives": given(
        "loss", (np.float32(1), (None, {})), called="loss", loss=lambda value: lambda p, c, b, k: value
    ),
    "the value that loss gives": given(
        "loss", np.float32(1), "scalar, float", "loss", loss=lambda value: lambda p, c, b, k: (value, (c, {}))
    ),
    "a metric": given("loss", 1.0, NUMBERS, "metric", loss=metric),
    "what batches gives": given(
        "batches", BATCH, "five axes", "batches", batches=lambda value: lambda start, stop: value
    ),
    "what evaluation gives": given("evaluation", {"a": 1.0}, "dict", "evaluation", evaluation=measured),
    "initial_state": Door(
        training.initial_state,
        {
            "params": Argument(PARAMS, TREES),
            "optimizer": Argument(OPTIMIZER),
            "carry": Argument(None, TREES),
            "key": RANDOM,
        },
    ),
    "shuffled": Door(
        training.shuffled,
        {
            "data": Argument(np.ones((6, 2)), "bools, complex, half, ints, nan, old key, old keys, tensor"),
            "batch_size": Argument(2, "int"),
            "seed": Argument(0, "int"),
        },
    ),
    "Evaluation": Door(
        training.Evaluation,
        {
            "function": Argument(len, "unhashable"),
            "every": Argument(1, "None, int"),
            "stop": Argument(len, "None, unhashable"),
            "best": Argument("loss", "None, str"),
        },
    ),
    "early_stopping": Door(training.early_stopping, {"name": Argument("loss", "str"), "patience": Argument(1, "int")}),
    "RunFolder": Door(
        training.RunFolder,
        {
            "path": Argument("runs/test", "str"),
            "config": Argument({}, "dict"),
            "every": Argument(1, "None, int"),
            "keep": Argument(2, "int"),
            "resume": Argument(False, "bool"),
            "notes": Argument({}, "dict"),
        },
    ),
    "data_mesh": Door(training.data_mesh, {"devices": Argument(1, "None")}),
    "StepGradient": Door(
        training.StepGradient, {"function": Argument(loss), "init": Argument(STREAMS.init, "unhashable")}
    ),
    "over_sequences": Door(
        training.over_sequences, {"problem": Argument(PROBLEM), "algorithm": Argument(gradients.bptt)}
    ),
    "over_streams": Door(training.over_streams, {"learner": Argument(online.snap(PROBLEM))}),
    "over_streams.init": Door(
        STREAMS.init,
        {
            "params": Argument(RNN, called=r"\b(params|weight|bias)"),
            "state": Argument(STATES),
            "x": Argument(INPUTS, "nan"),
            "key": RANDOM,
        },
    ),
}


class TestDoors(Attacks):
    doors, more_than = DOORS, 1000
