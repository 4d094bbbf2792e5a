"""A small task with all that a run can have: carried state, key, metrics of several shapes, clipping, a schedule."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn as jr
from jaxrnn import gradients, training

OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(0.05, 40)))
BATCH, LENGTH, FEATURES, HIDDEN = 8, 5, 3, 4


def loss(params, carry, batch, key):
    """A GRU that predicts its next input, its state carried; a metric that depends on the key."""
    xs = jnp.swapaxes(batch, 0, 1)
    h, ys = jr.unroll(jr.gru, params["cell"], xs[:-1], carry)
    predicted = jr.Linear(HIDDEN, FEATURES).apply(params["out"], ys)
    value = jnp.mean((predicted - xs[1:]) ** 2)
    return value, (h, {"noise": jax.random.normal(key), "means": ys.mean((0, 1))})


def error(params, h, target):
    """The same loss at one time."""
    return jnp.mean((jr.Linear(HIDDEN, FEATURES).apply(params["out"], h) - target) ** 2) / LENGTH


PROBLEM = gradients.Problem(jr.gru, error, operator.itemgetter("cell"))


def pairs(start, stop):
    """The same batches as (xs, ys)."""
    found = batches(start, stop)
    return found[..., :-1, :], found[..., 1:, :]


def batches(start, stop):
    return np.stack(
        [np.random.default_rng(step).normal(size=(BATCH, LENGTH + 1, FEATURES)) for step in range(start, stop)]
    ).astype(np.float32)


def make(seed=0):
    keys = jax.random.split(jax.random.key(seed))
    return {"cell": jr.gru.init(keys[0], FEATURES, HIDDEN), "out": jr.Linear(HIDDEN, FEATURES).init(keys[1])}


def fit(steps=40, chunk=10, **options):
    options = {"carry": jnp.zeros((BATCH, HIDDEN)), "key": jax.random.key(7)} | options
    source = options.pop("batches", batches)
    return training.fit(options.pop("loss", loss), make(), OPTIMIZER, source, steps, chunk=chunk, **options)


def plain_loop(steps):
    """The same training, a step at a time."""
    params, carry, key = make(), jnp.zeros((BATCH, HIDDEN)), jax.random.key(7)
    opt_state, losses = OPTIMIZER.init(params), []
    for step in range(steps):
        batch = jnp.asarray(batches(step, step + 1)[0])
        step_key = jax.random.fold_in(key, step)
        (value, (carry, _)), gradient = jax.value_and_grad(loss, has_aux=True)(params, carry, batch, step_key)
        updates, opt_state = OPTIMIZER.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
        losses.append((float(value), float(optax.tree.norm(gradient))))
    return params, carry, np.array(losses)


def rows(result):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in result.history]
