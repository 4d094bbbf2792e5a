"""What the tests of run folders share: a run, what it leaves, and a run that is refused."""

import json
import multiprocessing
import pathlib
import signal
import time

import jax
import numpy as np
import pytest

from jaxrnn import gradients, training

from .task import BATCH, FEATURES, HIDDEN, OPTIMIZER, PROBLEM, batches, loss, make, pairs

STEPS, EVERY = 300, 50
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.training.task", "orbax.checkpoint"])


def train(path, gradient):
    """What a process does that is going to be killed; SIGINT reaches it where a script has begun the tests by `&`."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run(training.RunFolder(path, {"of": "the test"}, every=EVERY, resume=True), gradient=gradient, seconds=0.02)


def by(gradient):
    """What `fit` is given: a loss or a gradient, batches and a carry."""
    states = np.zeros((BATCH, HIDDEN), np.float32)
    if gradient == "loss":
        return loss, batches, states
    snap = training.over_streams(gradients.online.snap(PROBLEM, order=1))
    return snap, pairs, snap.init(make(), states, np.zeros((BATCH, FEATURES), np.float32))


def run(folder, steps=STEPS, gradient="loss", seconds=0):
    """Train; `seconds` to sleep before each chunk."""
    first, source, carry = by(gradient)

    def slowly(start, stop):
        time.sleep(seconds)
        return source(start, stop)

    return training.fit(
        first,
        make(),
        OPTIMIZER,
        slowly,
        steps,
        carry=carry,
        key=jax.random.key(7),
        chunk=10,
        folder=folder,
        evaluation=training.Evaluation(lambda params: {"bias": params["out"]["bias"][0]}, every=EVERY),
    )


def like(params=None, gradient="loss"):
    params = make() if params is None else params
    return jax.eval_shape(lambda: training.initial_state(params, OPTIMIZER, by(gradient)[2], jax.random.key(7)))


def content(folder):
    """Every file's bytes."""
    return {str(path): path.read_bytes() for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file()}


def flipped(good, index):
    """One bit of one byte."""
    index %= len(good)
    return good[:index] + bytes([good[index] ^ 1]) + good[index + 1 :]


def outcome(path, gradient="loss"):
    """Parameters, optimiser, carry and key at the end, and the metrics without their seconds."""
    state = training.RunFolder(path).load(like(gradient=gradient))
    leaves = [a if a.dtype != jax.random.key(0).dtype else jax.random.key_data(a) for a in jax.tree.leaves(state)]
    return [np.asarray(leaf).tobytes() for leaf in leaves], without_seconds(pathlib.Path(path) / "metrics.jsonl")


def without_seconds(metrics):
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def refuse(path, error, message, config=None, steps=100):
    """Resuming raises, in one line, and touches nothing."""
    before = content(path)
    with pytest.raises(error, match=message) as info:
        run(training.RunFolder(path, {"cell": "gru"} if config is None else config, resume=True), steps=steps)
    assert "\n" not in str(info.value)
    assert content(path) == before
