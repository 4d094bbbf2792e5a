"""Long dependencies: the first token of a sequence is to be told after a number of others that do not matter."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import jaxrnn as jr

LABELS, DISTRACTORS = 4, 4  # tokens of each kind
HIDDEN = 32
BATCH = 32
LEARNING_RATE = 3e-3
MAX_NORM = 1.0
TESTED = 500  # sequences, made anew

LINEAR = jr.Linear(HIDDEN, LABELS)


class Network(NamedTuple):
    """A cell and how it starts."""

    cell: jr.Cell
    change: Callable[[Any, Array, int], Any]  # (params, key, distance) -> params
    label: str


def as_torch(params: Any, key: Array, distance: int) -> Any:
    """U(-1/√H, 1/√H), as it is."""
    del key, distance
    return params


def chrono(params: Any, key: Array, distance: int) -> Any:
    """Forget gates that open for 1 to `distance` steps, input gates the less: b_f = log U(1, D), b_i = -b_f.

    Source: Tallec and Ollivier 2018, arXiv:1804.11188.
    """
    bias = jnp.log(jax.random.uniform(key, (HIDDEN,), minval=1.0, maxval=float(distance)))
    biases = params.bias_ih.at[:HIDDEN].set(-bias).at[HIDDEN : 2 * HIDDEN].set(bias)
    return params._replace(bias_ih=biases, bias_hh=params.bias_hh.at[: 2 * HIDDEN].set(0))


NETWORKS = {
    "rnn": Network(jr.rnn, as_torch, "rnn"),
    "lstm": Network(jr.lstm, as_torch, "lstm, torch's initialisation"),
    "lstm-chrono": Network(jr.lstm, chrono, "lstm, forget gates open for up to the distance"),
}


class Sequences(NamedTuple):
    """A batch."""

    tokens: Array  # (distance + 1, N, LABELS + DISTRACTORS), one-hot
    labels: Array  # (N,)


def draw(key: Array, count: int, distance: int) -> Sequences:
    """A token that decides, then `distance` of others."""
    key_labels, key_rest = jax.random.split(key)
    labels = jax.random.randint(key_labels, (count,), 0, LABELS)
    rest = jax.random.randint(key_rest, (distance, count), LABELS, LABELS + DISTRACTORS)
    return Sequences(jax.nn.one_hot(jnp.concatenate([labels[None], rest]), LABELS + DISTRACTORS), labels)


def accuracies(name: str, distance: int, steps: int, seeds: int, seed: int) -> np.ndarray:
    """(seeds,) test accuracy of as many networks, trained side by side."""
    keys = jax.random.split(jax.random.key(seed), seeds)
    return np.asarray(_train_all(name, distance, steps, keys))


@functools.partial(jax.jit, static_argnames=("name", "distance", "steps"))
def _train_all(name: str, distance: int, steps: int, keys: Array) -> Array:
    return jax.vmap(functools.partial(_train, name, distance, steps))(keys)


def _train(name: str, distance: int, steps: int, key: Array) -> Array:
    """The test accuracy of one network after training."""
    cell = NETWORKS[name].cell
    optimizer = optax.chain(optax.clip_by_global_norm(MAX_NORM), optax.adam(LEARNING_RATE))
    key_init, key_train, key_test = jax.random.split(key, 3)

    def update(carry: tuple[Any, Any], key: Array) -> tuple[tuple[Any, Any], None]:
        params, optimizer_state = carry
        grads = jax.grad(_loss, argnums=1)(cell, params, draw(key, BATCH, distance))
        updates, optimizer_state = optimizer.update(grads, optimizer_state)
        return (optax.apply_updates(params, updates), optimizer_state), None

    params = _init(name, distance, key_init)
    start = (params, optimizer.init(params))
    (params, _), _ = jax.lax.scan(update, start, jax.random.split(key_train, steps))
    sequences = draw(key_test, TESTED, distance)
    return jnp.mean(_logits(cell, params, sequences.tokens).argmax(axis=-1) == sequences.labels)


def _init(name: str, distance: int, key: Array) -> dict[str, Any]:
    key_cell, key_change, key_linear = jax.random.split(key, 3)
    network = NETWORKS[name]
    cell = network.change(network.cell.init(key_cell, LABELS + DISTRACTORS, HIDDEN), key_change, distance)
    return {"cell": cell, "linear": LINEAR.init(key_linear)}


def _logits(cell: jr.Cell, params: dict[str, Any], tokens: Array) -> Array:
    state, _ = jr.unroll(cell, params["cell"], tokens)
    return LINEAR.apply(params["linear"], cell.output(state))


def _loss(cell: jr.Cell, params: dict[str, Any], sequences: Sequences) -> Array:
    logits = _logits(cell, params, sequences.tokens)
    return optax.softmax_cross_entropy_with_integer_labels(logits, sequences.labels).mean()
