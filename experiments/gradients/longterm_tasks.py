"""Two tasks whose answer depends on what stood far back: temporal order and adding.

Sources: Hochreiter and Schmidhuber 1997, "Long short-term memory"; Pascanu, Mikolov and Bengio 2012, arXiv:1211.5063,
whose positions these are, for sequences that are all T steps long.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

MARKERS, DISTRACTORS = 2, 4  # A and B; c, d, e and f
SHORTEST = 10  # below, a tenth of the sequence is no step


class Task(NamedTuple):
    """What a network is to learn from sequences of T steps, and when it has.

    Fields:
      features: of an input.
      outputs: numbers that the network gives after the last step.
      sample: `(key, T, N) -> (xs (T, N, features), targets (N,))`, N fresh sequences.
      loss: `(outputs (N, outputs), targets) -> scalar`, what is trained.
      error: the same, what is measured.
      threshold: below it the task is solved.
      measure: what the error is called.
    """

    features: int
    outputs: int
    sample: Callable[[Array, int, int], tuple[Array, Array]]
    loss: Callable[[Array, Array], Array]
    error: Callable[[Array, Array], Array]
    threshold: float
    measure: str


def temporal_order(key: Array, steps: int, batch: int) -> tuple[Array, Array]:
    """One-hot symbols, and which of AA, AB, BA, BB came: 0 … 3.

    One of A and B at a step drawn from [T/10, 2T/10), one at a step from [4T/10, 5T/10), counted from 0; distractors
    everywhere else.
    """
    key_markers, key_distractors, key_first, key_second = jax.random.split(key, 4)
    first, second = jax.random.randint(key_markers, (2, batch), 0, MARKERS)
    symbols = jax.random.randint(key_distractors, (steps, batch), MARKERS, MARKERS + DISTRACTORS)
    symbols = jnp.where(_at(key_first, steps, batch, 1, 2), first, symbols)
    symbols = jnp.where(_at(key_second, steps, batch, 4, 5), second, symbols)
    return jax.nn.one_hot(symbols, MARKERS + DISTRACTORS), MARKERS * first + second


def adding(key: Array, steps: int, batch: int) -> tuple[Array, Array]:
    """Numbers from U(0, 1) beside a mark that is 1 at two steps, else 0; and the sum of the two marked numbers.

    One step is drawn from [0, T/10), one from [T/10, T/2), counted from 0. Always to say 1, the mean, has an error of
    1/6; to know one of the two numbers, 1/12.
    """
    key_numbers, key_first, key_second = jax.random.split(key, 3)
    numbers = jax.random.uniform(key_numbers, (steps, batch))
    marked = _at(key_first, steps, batch, 0, 1) | _at(key_second, steps, batch, 1, 5)
    return jnp.stack([numbers, marked.astype(numbers.dtype)], axis=-1), jnp.sum(jnp.where(marked, numbers, 0), axis=0)


def _at(key: Array, steps: int, batch: int, start: int, stop: int) -> Array:
    """(T, N), for each sequence true at one step, drawn from [start, stop) tenths of T."""
    chosen = jax.random.randint(key, (batch,), start * steps // 10, stop * steps // 10)
    return jnp.arange(steps)[:, None] == chosen


def _cross_entropy(logits: Array, labels: Array) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _wrong(logits: Array, labels: Array) -> Array:
    return jnp.mean(logits.argmax(axis=-1) != labels)


def _squared_error(outputs: Array, sums: Array) -> Array:
    return jnp.mean((outputs[:, 0] - sums) ** 2)


TASKS = {
    "order": Task(MARKERS + DISTRACTORS, 4, temporal_order, _cross_entropy, _wrong, 0.01, "error rate"),
    "adding": Task(2, 1, adding, _squared_error, _squared_error, 0.01, "mean squared error"),
}
