"""Steps, and loops in NumPy over explicit Jacobians that results are compared with."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..cell_table import FEATURES, make, random_like

NAMES = ("rnn", "gru", "lstm", "lstm_proj", "nested", "stack", "indrnn", "cornn", "slstm", "layer_norm_lstm")


def linear(w, h, x):
    return w @ h + x


def scale(w, h, x):
    return w * h if x is None else w * h + x


def henon(params, state, x):
    """Parameters of Hénon 1976."""
    a, b = params
    return {"x": 1 - a * state["x"] ** 2 + state["y"], "y": b * state["x"]}


def grown(params, h, x):
    """A step that changes its state's structure."""
    return h, h


def driven(name, steps=12, dtype=float):
    """A cell of the table with parameters, a state and inputs."""
    cell, params = make(name, dtype)
    state = random_like(jax.eval_shape(lambda: cell.initial_state(params)), seed=1)
    xs = random_like(jax.ShapeDtypeStruct((steps, FEATURES), dtype), seed=2)
    return cell, params, state, xs


def loop(cell, params, state, xs):
    """(T, n, n) by `jax.jacfwd` of the flattened step, time by time."""
    found = []
    for x in xs:
        flat, unravel = ravel_pytree(state)
        found.append(
            jax.jacfwd(lambda h, x=x, unravel=unravel: ravel_pytree(cell.step(params, unravel(h), x))[0])(flat)
        )
        state = cell.step(params, state, x)
    return np.array(found)


def exponents(matrices, frame, warmup=0):
    """Lyapunov exponents (k,) of Jacobians (T, n, n) and a frame (n, k): Gram and Schmidt, column after column."""
    sums = np.zeros(frame.shape[1])
    for t, matrix in enumerate(matrices):
        frame = matrix @ frame
        for i in range(len(sums)):
            before = np.linalg.norm(frame[:, i])
            for j in range(i):
                frame[:, i] -= frame[:, j] @ frame[:, i] * frame[:, j]
            length = np.linalg.norm(frame[:, i])
            if length <= 1e-13 * before:  # nothing but rounding is left
                length, frame[:, i] = 0, 0
            frame[:, i] /= length or 1
            sums[i] += (np.log(length) if length else -np.inf) if t >= warmup else 0
    return np.sort(sums)[::-1] / (len(matrices) - warmup)


def random_network(gain, units, seed=0, dtype=float):
    """x <- g J tanh(x), J ~ N(0, 1/N): the step and its parameters."""
    weights = gain * np.random.default_rng(seed).normal(size=(units, units)) / np.sqrt(units)
    return lambda w, h, x: w @ jnp.tanh(h), jnp.asarray(weights, dtype)
