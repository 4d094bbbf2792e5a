"""Training one form: an epoch is one step on the one pair of words."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxrnn import training

from .. import _memory, _run
from .model import FORMS, Model
from .words import Words

CHUNK = 100


class Run(NamedTuple):
    """What a form spelled, each epoch, before that epoch's step."""

    losses: np.ndarray  # (epochs done,) cross-entropy, mean over the characters
    predictions: np.ndarray  # (epochs done, T)
    ended: str

    def right(self, words: Words) -> np.ndarray:
        """(epochs done,), how many characters are the target's."""
        return (self.predictions == words.target_ids).sum(axis=1)

    def first_epoch(self, words: Words) -> int | None:
        """The first epoch, counted from 1, that spells the target."""
        epochs = np.flatnonzero(self.right(words) == len(words.target))
        return int(epochs[0]) + 1 if len(epochs) else None


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """The loss, as `training.fit` takes it: equal for equal fields, so that another seed does not compile anew."""

    model: Model
    reduce: Callable[[Array], Array]

    def __call__(
        self, params: Any, carry: None, batch: dict[str, Array], key: Array
    ) -> tuple[Array, tuple[None, dict[str, Array]]]:
        """Of one batch (N, T) of words; with the spelled words and the mean over the characters as metrics."""
        logits = self.model.logits(params, batch["source"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["target"])
        return self.reduce(losses), (carry, {"per_character": losses.mean(), "predicted": logits.argmax(axis=-1)})


def check_memory(form: str, words: Words) -> None:
    """An error if training would not fit."""
    make_model, optimizer, reduce = FORMS[form]
    model, ids = make_model(len(words.vocabulary)), jnp.zeros((1, len(words.source)), jnp.int32)

    def initial() -> Any:
        return model.init(jax.random.key(0)), None, {"source": ids, "target": ids}

    _memory.check_training("the length of the words", CrossEntropy(model, reduce), optimizer, initial)


def train(
    form: str,
    words: Words,
    epochs: int,
    seed: int,
    folder: training.RunFolder | None = None,
    on_epochs: Callable[[list[dict[str, Any]]], None] | None = None,
) -> Run:
    """Train a form from a seed; `on_epochs` sees the rows of each chunk of epochs."""
    make_model, optimizer, reduce = FORMS[form]
    model = make_model(len(words.vocabulary))
    pair = {"source": words.source_ids[None], "target": words.target_ids[None]}

    def batches(start: int, stop: int) -> dict[str, np.ndarray]:
        return {name: np.broadcast_to(ids, (stop - start, *ids.shape)) for name, ids in pair.items()}

    result = training.fit(
        CrossEntropy(model, reduce),
        _run.init(model, jax.random.key(seed)),
        optimizer,
        batches,
        epochs,
        chunk=min(epochs, CHUNK),
        folder=folder,
        on_chunk=lambda rows, state: on_epochs(rows) if on_epochs else None,
        progress=False,
    )
    losses = np.array([row["per_character"] for row in result.history])
    predictions = np.array([row["predicted"][0] for row in result.history])
    return Run(losses, predictions, result.ended)
