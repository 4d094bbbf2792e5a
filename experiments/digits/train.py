"""Training one classifier, and what it leaves to be drawn."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrnn import training

from .. import _memory, _run
from .data import Examples, Split
from .model import Classifier, CrossEntropy, accuracy, gradient_norms, state_gradients

BATCH = 32
LEARNING_RATE = 5e-3  # the first; it falls to 0 along a cosine
MAX_NORM = 1.0
PROBES = 256  # training images whose gradients are shown


class Run(NamedTuple):
    """What became of one classifier."""

    test_accuracy: np.ndarray  # (epochs done,)
    norms_before: dict[str, np.ndarray]  # from `gradient_norms`, at initialisation
    norms_after: dict[str, np.ndarray]
    seconds: float
    ended: str


def check_memory(model: Classifier, split: Split) -> None:
    """An error if training, or the gradients to be shown, would not fit."""
    flags, probes = "--hidden", Examples(split.train.xs[:PROBES], split.train.labels[:PROBES])

    def initial() -> Any:
        return model.init(jax.random.key(0)), None, Examples(*(jnp.asarray(a[:BATCH]) for a in split.train))

    _memory.check_training(flags, CrossEntropy(model), optimizer(1), initial)
    params = _memory.shapes(flags, lambda: model.init(jax.random.key(0)))
    _memory.check(flags, functools.partial(state_gradients, model), params, probes)


def train(model: Classifier, split: Split, epochs: int, seed: int, folder: training.RunFolder | None = None) -> Run:
    """Train for some epochs. The test part is measured after each and chooses nothing: the last parameters count."""
    batches = training.shuffled(split.train, BATCH, seed)
    per_epoch = len(split.train.labels) // BATCH
    params = _run.init(model, jax.random.key(seed))
    result = training.fit(
        CrossEntropy(model),
        params,
        optimizer(epochs * per_epoch),
        batches,
        epochs * per_epoch,
        chunk=per_epoch,
        folder=folder,
        evaluation=training.Evaluation(
            lambda params: {"test_accuracy": float(_accuracy(model, params, split.test))}, every=per_epoch
        ),
    )
    probes = Examples(split.train.xs[:PROBES], split.train.labels[:PROBES])
    return Run(
        np.array([row["test_accuracy"] for row in result.evaluations]),
        gradient_norms(model, params, probes),
        gradient_norms(model, result.state.params, probes),
        result.history[-1]["seconds"],
        result.ended,
    )


@functools.cache
def optimizer(steps: int) -> optax.GradientTransformation:
    """Adam under a cosine schedule, gradients clipped; one object for each number of steps, as `fit` asks."""
    return optax.chain(
        training.log_clipping(optax.clip_by_global_norm(MAX_NORM)),
        optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps)),
    )


@functools.partial(jax.jit, static_argnums=0)
def _accuracy(model: Classifier, params: dict[str, Any], examples: Examples) -> jax.Array:
    return accuracy(model.logits(params, examples.xs), examples.labels)
