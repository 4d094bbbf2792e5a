"""`fit` by any gradient: equal to loops of the algorithm's own calls, on meshes and in parts too."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn as jr
from jaxrnn import gradients, training

from ..marks import few_of, slow_but
from .task import BATCH, FEATURES, HIDDEN, LENGTH, OPTIMIZER, PROBLEM, fit, make, pairs

STATES, INPUTS = jnp.zeros((BATCH, HIDDEN)), jnp.zeros((BATCH, FEATURES))
KEY = jax.random.key(5)

ALGORITHMS = {
    "bptt": gradients.bptt,
    "tbptt": functools.partial(gradients.tbptt, k1=2, k2=3),
    "artbp": functools.partial(gradients.artbp, cut=0.3),
    "rtrl": gradients.rtrl,
    "snap": gradients.snap,
    "uoro": gradients.uoro,
}
LEARNERS = {
    "tbptt": gradients.online.tbptt(PROBLEM, k1=2, k2=3),
    "rtrl": gradients.online.rtrl(PROBLEM),
    "snap": gradients.online.snap(PROBLEM),
    "uoro": gradients.online.uoro(PROBLEM),
}


def assert_close(ours, theirs, atol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), ours, theirs)


def descend(params, opt_state, grads):
    updates, opt_state = OPTIMIZER.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


@pytest.mark.parametrize(("name", "carried"), few_of([("bptt", True), ("uoro", False)], ALGORITHMS, [True, False]))
def test_over_sequences_is_a_loop_over_them(name, carried):
    """Step by step and sequence by sequence, with keys split as documented."""
    algorithm, params, states = ALGORITHMS[name], make(), STATES
    result = fit(
        steps=6,
        chunk=3,
        loss=training.over_sequences(PROBLEM, algorithm),
        batches=pairs,
        carry=STATES if carried else None,
    )
    opt_state = OPTIMIZER.init(params)
    one = jax.jit(lambda params, state, x, y, **key: algorithm(PROBLEM, params, state, x, y, **key))
    for step in range(6):
        xs, ys = (a[0] for a in pairs(step, step + 1))
        keys = jax.random.split(jax.random.fold_in(jax.random.key(7), step), BATCH)
        options = [{"key": key} if name in ("artbp", "uoro") else {} for key in keys]
        each = [one(params, h, x, y, **o) for h, x, y, o in zip(states, xs, ys, options, strict=True)]
        np.testing.assert_allclose(result.history[step]["loss"], np.mean([e.value for e in each]), rtol=1e-5)
        params, opt_state = descend(
            params, opt_state, jax.tree.map(lambda *a: sum(a) / BATCH, *(e.grads for e in each))
        )
        states = jnp.stack([e.state for e in each]) if carried else states
    assert_close(result.state.params, params)
    if carried:
        assert_close(result.state.carry, states)
    else:
        assert result.state.carry is None


@pytest.mark.parametrize("name", slow_but(("uoro",), LEARNERS))
def test_over_streams_is_a_loop_over_their_steps(name):
    learner, params = LEARNERS[name], make()
    gradient = training.over_streams(learner)
    start = gradient.init(params, STATES, INPUTS, KEY)
    result = fit(steps=6, chunk=3, loss=gradient, batches=pairs, carry=start)
    opt_state, keys = OPTIMIZER.init(params), jax.random.split(KEY, BATCH)
    carries = [learner.init(params, STATES[b], INPUTS[b], keys[b]) for b in range(BATCH)]
    update = jax.jit(learner.update)
    for step in range(6):
        xs, ys = (a[0] for a in pairs(step, step + 1))
        sums, total = jax.tree.map(jnp.zeros_like, params), 0.0
        for b in range(BATCH):
            for t in range(LENGTH):
                carries[b], value, grads = update(params, carries[b], xs[b, t], ys[b, t])
                sums, total = jax.tree.map(lambda s, g: s + g / BATCH, sums, grads), total + value / BATCH
        np.testing.assert_allclose(result.history[step]["loss"], total, rtol=1e-5)
        params, opt_state = descend(params, opt_state, sums)
    assert_close(result.state.params, params)
    assert_close(result.state.carry.state, jnp.stack([carry.state for carry in carries]))


def test_windows_of_truncated_bptt_are_the_loss_s_own():
    """Losses propagated once a batch, as far as it reaches: stateful truncated back-propagation."""
    gradient = training.over_streams(gradients.online.tbptt(PROBLEM, k1=LENGTH, k2=LENGTH))
    ours = fit(loss=gradient, batches=pairs, carry=gradient.init(make(), STATES, INPUTS))
    theirs = fit()
    np.testing.assert_allclose([r["loss"] for r in ours.history], [r["loss"] for r in theirs.history], rtol=1e-4)
    assert_close(ours.state.params, theirs.state.params)


@pytest.mark.parametrize("name", slow_but(("uoro",), LEARNERS))
def test_streams_in_parts_are_the_whole_batch(name):
    gradient = training.over_streams(LEARNERS[name])
    start = gradient.init(make(), STATES, INPUTS, KEY)
    whole, parts = (fit(loss=gradient, batches=pairs, carry=start, accumulate=n) for n in (1, 4))
    assert_close(whole.state.params, parts.state.params)
    assert_close(whole.state.carry.state, parts.state.carry.state)


MESH = """
import jax, numpy as np
from jaxrnn import training
from tests.training.test_gradients import INPUTS, KEY, LEARNERS, STATES
from tests.training.task import fit, make, pairs
assert len(jax.devices()) == 4
for name, learner in LEARNERS.items():
    gradient = training.over_streams(learner)
    start = gradient.init(make(), STATES, INPUTS, KEY)
    options = {"loss": gradient, "batches": pairs, "carry": start}
    one, many = (fit(10, mesh=mesh, **options) for mesh in (None, training.data_mesh(4)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(np.asarray(a), np.asarray(b), 0, 1e-5),
                 one.state.params, many.state.params)
"""


@pytest.mark.slow
def test_streams_on_a_mesh_are_those_of_one_device():
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", MESH], cwd=os.getcwd(), env=environment, check=True, timeout=100)


def test_equal_gradients_compile_once():
    traced = []

    def counted(params, h, y):
        traced.append(1)
        return PROBLEM.loss(params, h, y)

    problem = PROBLEM._replace(loss=counted)
    for _ in range(2):
        gradient = training.over_streams(gradients.online.snap(problem))
        fit(10, loss=gradient, batches=pairs, carry=gradient.init(make(), STATES, INPUTS))
        fit(10, loss=training.over_sequences(problem, gradients.rtrl), batches=pairs)
        count, traced = len(traced), []
    assert count == 0


BAD = {
    "a batch that is no pair": (
        training.over_streams(LEARNERS["snap"]),
        {"carry": training.over_streams(LEARNERS["snap"]).init(make(), STATES, INPUTS)},
        TypeError,
        r"must be a tuple \(xs, ys\)",
    ),
    "sequences that are no pair": (
        training.over_sequences(PROBLEM, gradients.snap),
        {},
        TypeError,
        r"must be a tuple \(xs, ys\)",
    ),
    "a state for a carry": (
        training.over_streams(LEARNERS["snap"]),
        {"batches": pairs},
        TypeError,
        r"carry must be from the gradient's init\(params, state, x, key=None\), got float32\[8,4\]",
    ),
    "no states for a bare step": (
        training.over_sequences(PROBLEM._replace(step=jr.gru.step), gradients.snap),
        {"batches": pairs, "carry": None},
        ValueError,
        "give fit states to begin with as carry",
    ),
}


@pytest.mark.parametrize(("gradient", "options", "error", "message"), BAD.values(), ids=BAD)
def test_bad_arguments(gradient, options, error, message):
    with pytest.raises(error, match=message):
        fit(loss=gradient, **options)


def test_adapters_check_what_they_are_given():
    with pytest.raises(TypeError, match=r"learner must be a jaxrnn\.gradients\.Learner, got function"):
        training.over_streams(gradients.online.snap)
    with pytest.raises(TypeError, match=r"problem must be a jaxrnn\.gradients\.Problem, got Cell"):
        training.over_sequences(jr.gru, gradients.snap)
    with pytest.raises(TypeError, match=r"algorithm must be a function \(problem, params, .*missing"):
        training.over_sequences(PROBLEM, gradients.tbptt)
