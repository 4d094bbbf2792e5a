"""Training: truncated back-propagation along streams of text, the state carried from step to step."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxrnn import training

from .. import _memory, _run
from .._corpus import Corpus, make_corpus, read_text, streams
from .evaluate import cross_entropy, figures, parallel_loss
from .gradient import BPTT, of_text
from .model import CharModel

_LONGEST_CHUNK = 25  # steps inside one compiled call


@dataclasses.dataclass(frozen=True)
class Config:
    """All that the trained parameters depend on, beside the text."""

    gradient: str = BPTT
    cell: str = "lstm"
    hidden: int = 192
    layers: int = 1
    embedding: int = 64
    tied: bool = False
    dropout: float = 0.0
    dtype: str = "float32"
    batch: int = 32
    length: int = 64
    steps: int = 1200
    lr: float = 1.6e-2
    warmup: int = 50
    weight_decay: float = 0.0
    clip: float = 1.0
    accumulate: int = 1
    evaluate_every: int = 200
    patience: int | None = None
    split: tuple[float, ...] = (90.0, 5.0, 5.0)
    seed: int = 0

    @classmethod
    def of(cls, saved: dict[str, Any]) -> "Config":
        """From a run's saved config, which holds more than this."""
        return cls(**{field.name: saved[field.name] for field in dataclasses.fields(cls) if field.name in saved})

    def model(self, vocabulary: str) -> CharModel:
        """The network that it describes."""
        shape = self.hidden, self.layers, self.embedding, self.tied
        return CharModel(len(vocabulary), self.cell, *shape, self.dropout, self.dtype)

    def objective(self, model: CharModel) -> training.Loss | training.StepGradient:
        """What `training.fit` trains by."""
        if self.gradient == BPTT:
            return functools.partial(loss, model)
        return of_text(self.gradient, model, self.length)

    def carry(self, model: CharModel, params: Any) -> Any:
        """What goes from step to step: the states, or what a learner remembers."""
        objective, state = self.objective(model), model.initial_state(params, (self.batch,))
        if isinstance(objective, training.StepGradient):
            key = jax.random.fold_in(jax.random.key(self.seed), 2)
            return objective.init(params, state, jnp.zeros(self.batch, jnp.int32), key)
        return state

    def optimizer(self) -> optax.GradientTransformation:
        """Adam with decoupled weight decay of matrices; linear warm-up, then a cosine to zero; clipped before."""
        rate = optax.warmup_cosine_decay_schedule(0, self.lr, min(self.warmup, self.steps - 1), self.steps)
        matrices = functools.partial(jax.tree.map, lambda a: a.ndim > 1)
        adam = optax.adamw(rate, b2=0.99, weight_decay=self.weight_decay, mask=matrices)
        return optax.chain(training.log_clipping(optax.clip_by_global_norm(self.clip)), adam)


PRESETS = {
    "minute": Config(),
    "ten-minutes": Config(hidden=320, dropout=0.3, steps=8500, lr=1e-2, weight_decay=1e-2, evaluate_every=500),
}


def check_memory(config: Config, model: CharModel) -> None:
    """An error if training would not fit."""

    def initial() -> Any:
        params = model.init(jax.random.key(0))
        ids = jnp.zeros((config.batch, config.length + 1), jnp.uint8 if model.vocabulary_size <= 256 else jnp.int32)
        return params, config.carry(model, params), {"ids": ids, "begins": jnp.zeros(config.batch, bool)}

    flags = "--hidden, --layers, --embedding, --batch or --length"
    _memory.shapes(flags, lambda: training.initial_state(model.init(jax.random.key(0)), config.optimizer()))
    with _memory.own_limits(f"--gradient {config.gradient}: "):
        _memory.check_training(flags, config.objective(model), config.optimizer(), initial)


def train(
    config: Config, corpus: Corpus, folder: training.RunFolder, mesh: Any, on_chunk: training.OnChunk
) -> training.Result:
    """Train on the first part of the corpus, with an eye on the second.

    Raises:
      UserError: a part is too short.
    """
    model = config.model(corpus.vocabulary)
    batches = streams(corpus.part("train"), config.batch, config.length, config.seed)
    validation = corpus.part("validation")
    evaluates = len(validation) > 0
    if (evaluates and len(validation) <= config.batch) or (config.patience and not evaluates):
        count = len(validation)
        raise _run.UserError(f"the validation part has {count} characters, too few for {config.batch} streams")

    def evaluate(params: Any) -> dict[str, float]:
        loss = parallel_loss(model, params, validation, config.batch)
        return {f"validation_{name}": value for name, value in figures(loss).items()}

    stop = training.early_stopping("validation_loss", config.patience) if config.patience else None
    key_init, key_train = jax.random.split(jax.random.key(config.seed))
    params = _run.init(model, key_init)
    return training.fit(
        config.objective(model),
        params,
        config.optimizer(),
        batches,
        config.steps,
        carry=config.carry(model, params),
        key=key_train,
        chunk=_chunk(config.evaluate_every, folder.every),
        accumulate=config.accumulate,
        mesh=mesh,
        folder=folder,
        evaluation=training.Evaluation(evaluate, config.evaluate_every, stop, best="validation_loss")
        if evaluates
        else None,
        on_chunk=on_chunk,
    )


def loss(model: CharModel, params: Any, state: Any, batch: dict[str, Array], key: Array) -> Any:
    """The mean cross-entropy of a step's characters, in nats; the state goes on to the next step."""
    begins = batch["begins"][:, None]
    state = jax.tree.map(lambda a: jnp.where(begins, jnp.zeros_like(a), a), state)
    ids = batch["ids"].T
    state, logits = model.apply(params, state, ids[:-1], key)
    return cross_entropy(logits, ids[1:]).mean(), (state, {})


def load(config: Config, vocabulary: str, folder: training.RunFolder, *, best: bool = False) -> tuple[CharModel, Any]:
    """The model and the parameters of the newest checkpoint, its last or its best."""
    model = config.model(vocabulary)
    if best:
        return model, folder.load_best(jax.eval_shape(model.init, jax.random.key(0))).params

    def initial() -> training.TrainState:
        params = model.init(jax.random.key(0))
        return training.initial_state(params, config.optimizer(), config.carry(model, params))

    return model, folder.load(jax.eval_shape(initial)).params


def corpus_of(run: training.RunFolder) -> Corpus:
    """The text that a run was trained on.

    Raises:
      UserError: it cannot be read, or has changed.
    """
    config, path = run.saved_config(), run.saved_notes()["text"]
    corpus = make_corpus(read_text(path), config["split"], config["vocabulary"])
    if corpus.digest != config["text_sha256"]:
        raise _run.UserError(f"{path or 'the standard library'} is not the text that the run was trained on")
    return corpus


def _chunk(*intervals: int | None) -> int:
    """Steps a compiled call, such that every interval ends with one."""
    common = math.gcd(*(interval or 0 for interval in intervals))
    return max(n for n in range(1, _LONGEST_CHUNK + 1) if common % n == 0)
