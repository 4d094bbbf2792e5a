"""Text from a trained model, a character at a time."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .._corpus import encode
from .._run import UserError
from .model import CharModel


def sample(
    model: CharModel,
    params: Any,
    vocabulary: str,
    prime: str,
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    seed: int = 0,
) -> Iterator[str]:
    """Characters that follow `prime`, as they are drawn.

    Args:
      temperature: of the softmax; 0 takes the likeliest character.
      top_k: draw from this many of the likeliest only.
      top_p: draw from the fewest likeliest characters that hold this probability only (arXiv:1904.09751).

    Raises:
      UserError: prime is empty, or has characters that the vocabulary does not have.
    """
    if not prime:
        raise UserError("--prime must hold at least one character")
    ids = jnp.asarray(encode(prime, vocabulary))  # at once, before anything is drawn

    def characters() -> Iterator[str]:
        state, logits = jax.jit(model.apply)(params, model.initial_state(params), ids)
        logits, key = logits[-1], jax.random.key(seed)
        for position in range(length):
            state, logits, chosen = _advance(
                model, params, state, logits, jax.random.fold_in(key, position), temperature, top_k, top_p
            )
            yield vocabulary[int(chosen)]

    return characters()


@functools.partial(jax.jit, static_argnames=("model", "top_k"), donate_argnames="state")
def _advance(
    model: CharModel,
    params: Any,
    state: Any,
    logits: Array,
    key: Array,
    temperature: float,
    top_k: int | None,
    top_p: float,
) -> tuple[Any, Array, Array]:
    """Draw a character, and read it."""
    chosen = draw(key, logits, temperature, top_k, top_p)
    return *model.step(params, state, chosen), chosen


def draw(key: Array, logits: Array, temperature: float | Array, top_k: int | None, top_p: float | Array) -> Array:
    """One index into logits (V,)."""
    greedy = jnp.argmax(logits)
    logits = (logits - logits[greedy]) / jnp.where(temperature == 0, 1, temperature)  # the likeliest stays finite
    order = jnp.argsort(logits, descending=True)
    ranked = logits[order]
    probability = jax.nn.softmax(ranked)
    before = jnp.cumsum(probability) - probability  # of all that are likelier
    allowed = (before < top_p) & (jnp.arange(len(ranked)) < (len(ranked) if top_k is None else top_k))
    chosen = order[jax.random.categorical(key, jnp.where(allowed, ranked, -jnp.inf))]
    return jnp.where(temperature == 0, greedy, chosen)
