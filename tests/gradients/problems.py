"""Problems to differentiate: every kind of step, with a read-out that the loss alone sees."""

import functools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn as jr
from jaxrnn import gradients

from ..cell_table import make, random_like

STEPS, FEATURES, OUTPUTS = 7, 3, 2
READ = jr.Linear(4, OUTPUTS)
NAMES = ["rnn", "gru", "lstm", "lstm_proj", "no_bias", "stack", "nested", "bare"]
AFFINE = ["rnn", "gru", "lstm", "lstm_proj", "no_bias"]  # those with affine parts


def loss(params, state, target):
    """Squared error of a linear map of all that the state holds."""
    return target["weight"] * READ_OUT(params, state, target["y"])


def _read(params, state):
    """All that the state holds, by a linear map."""
    leaves = [a.reshape(-1) for a in jax.tree.leaves(state) if jnp.issubdtype(a.dtype, jnp.floating)]
    return params["out"] @ jnp.concatenate(leaves)


READ_OUT = gradients.OutputLoss(_read, lambda output, y: jnp.sum((output - y) ** 2))


def bare_step(params, state, x):
    """A function without a cell: state leaves of unequal size, an integer clock and a key among them."""
    clock, noise = state["clock"], jax.random.normal(jax.random.fold_in(state["key"], state["clock"]), (2,), x.dtype)
    fast = jnp.tanh(params["w"] @ jnp.concatenate([state["fast"], state["deep"][0].reshape(-1), x]) + 0.1 * noise)
    slow = state["deep"][0] * params["decay"] + jnp.sum(fast**2)
    return {"clock": clock + 1, "key": state["key"], "fast": fast, "deep": (slow,)}


def make_problem(name, dtype=jnp.float64):
    """A problem and (params, state, xs, ys) for it."""
    if name == "bare":
        step = bare_step
        cell = {"w": jnp.linspace(-0.5, 0.5, 2 * (2 + 3 + FEATURES), dtype=dtype).reshape(2, -1),
                "decay": jnp.full((), 0.8, dtype)}  # fmt: skip
        state = {
            "clock": jnp.zeros((), jnp.int32),
            "key": jax.random.key(3),
            "fast": jnp.full(2, 0.1, dtype),
            "deep": (jnp.full((3, 1), 0.2, dtype),),
        }
    else:
        step, cell = make(name, dtype)
        state = random_like(step.initial_state(cell))
    size = sum(leaf.size for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating))
    params = {"cell": cell, "out": random_like(jnp.zeros((OUTPUTS, size), dtype), seed=5)}
    xs = random_like(jnp.zeros((STEPS, FEATURES), dtype), seed=6)
    ys = {
        "y": random_like(jnp.zeros((STEPS, OUTPUTS), dtype), seed=7),
        "weight": jnp.linspace(0.5, 1.5, STEPS, dtype=dtype),
    }
    return gradients.Problem(step, loss, operator.itemgetter("cell")), (params, state, xs, ys)


class Still(NamedTuple):
    """An optimizer by which nothing is learnt."""

    def init(self, params):
        return None

    def update(self, updates, state, params):
        return jax.tree.map(jnp.zeros_like, updates), state


STILL = Still()


def halved(synthesizer, vector):
    """A guess at a gradient to come."""
    return synthesizer * vector


GUESS = halved, np.array(0.5)


def reference(problem, params, state, xs, ys):
    """The value and gradient of the sum of losses, and the last state, by a Python loop that JAX differentiates."""

    def total(params):
        new_state, value = state, 0.0
        step = getattr(problem.step, "step", problem.step)
        for t in range(len(jax.tree.leaves(ys)[0])):
            new_state = step(problem.select(params), new_state, jax.tree.map(lambda a, t=t: a[t], xs))
            value += problem.loss(params, new_state, jax.tree.map(lambda a, t=t: a[t], ys))
        return value, new_state

    (value, final), grads = jax.value_and_grad(total, has_aux=True)(params)
    return value, grads, final


# What gives the exact gradient, each in a form that does.
EXACT = {
    "bptt": gradients.bptt,
    "sqrt": functools.partial(gradients.bptt, memory="sqrt"),
    "revolve": functools.partial(gradients.bptt, snapshots=2),
    "tbptt": functools.partial(gradients.tbptt, k1=2, k2=STEPS),
    "artbp": functools.partial(gradients.artbp, key=jax.random.key(0), cut=0.0),
    "rtrl": gradients.rtrl,
    "snap": functools.partial(gradients.snap, order=99),
    "dni": functools.partial(gradients.dni, k=STEPS),
}


def assert_unbiased(draw, exact, draws=4000):
    """The mean of an array, drawn with as many keys, within 4.5 standard errors of the exact one at every entry."""
    drawn = np.asarray(jax.vmap(draw)(jax.random.split(jax.random.key(0), draws)))
    parts = (np.real, np.imag) if np.iscomplexobj(drawn) else (np.asarray,)
    for part in parts:
        error = np.std(part(drawn), axis=0) / np.sqrt(draws)
        assert np.all(np.abs(np.mean(part(drawn), axis=0) - part(exact)) < 4.5 * error)


def assert_close(ours, theirs, tolerance):
    """Leaf by leaf, in units of the largest entry of the leaf, or of all where that is 0."""
    ours, theirs = jax.tree.leaves(ours), jax.tree.leaves(theirs)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        if jnp.issubdtype(b.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        largest = np.max(np.abs(b), initial=1e-3, where=np.isfinite(b))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * float(largest))


def differ(ours, theirs):
    """How far apart, in units of the length of the second."""
    flat = [np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)]) for tree in (ours, theirs)]
    return float(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1]))
