"""How well a model predicts a text."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from .model import CharModel

_BLOCK = 4096  # characters a compiled call


def cross_entropy(logits: Array, ids: Array) -> Array:
    """-log p of each character, in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, ids.astype(jnp.int32))


def figures(loss: float) -> dict[str, float]:
    """A mean loss in nats a character, as the field writes it; the perplexity of a ruined model may be inf."""
    with np.errstate(over="ignore"):
        perplexity = float(np.exp(loss))
    return {"loss": loss, "bits_per_character": loss / math.log(2), "perplexity": perplexity}


def parallel_loss(model: CharModel, params: Any, ids: np.ndarray, batch: int) -> float:
    """The mean loss of a text cut into `batch` stretches, each from a zero state: quick, for while training."""
    length = (len(ids) - 1) // batch
    rows = length * np.arange(batch) + np.arange(length + 1)[:, None]
    return float(_mean_loss(model, params, jnp.asarray(ids[rows])))


@functools.partial(jax.jit, static_argnames="model")
def _mean_loss(model: CharModel, params: Any, ids: Array) -> Array:
    _, logits = model.apply(params, model.initial_state(params, ids.shape[1:]), ids[:-1])
    return cross_entropy(logits, ids[1:]).mean()


def read(model: CharModel, params: Any, ids: np.ndarray) -> np.ndarray:
    """(N - 1,) nats: the loss of each character after the first, streamed once from a zero state."""
    state, losses = model.initial_state(params), []
    padding = -(len(ids) - 1) % _BLOCK
    padded = np.concatenate([ids, np.zeros(padding, ids.dtype)])  # what follows the text does not change it
    for start in range(0, len(ids) - 1, _BLOCK):
        state, block = _read_block(model, params, state, jnp.asarray(padded[start : start + _BLOCK + 1]))
        losses.append(np.asarray(block, np.float64))
    return np.concatenate(losses)[: len(ids) - 1]


@functools.partial(jax.jit, static_argnames="model")
def _read_block(model: CharModel, params: Any, state: Any, ids: Array) -> tuple[Any, Array]:
    state, logits = model.apply(params, state, ids[:-1])
    return state, cross_entropy(logits, ids[1:])
