"""What `online` is learnt on: strings to be copied, one after another, and a text, character by character."""

import dataclasses
import functools
import operator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxrnn as jr
from jaxrnn import gradients

from .. import _corpus
from .networks import CELLS

LEARNT = 0.15  # bits missing of a symbol, below which strings become longer
LONGEST = 20  # that a compiled call holds whole, whichever the learner
SPREAD = 5  # the shortest strings are this much shorter than the longest
HELD_OUT = 16, 500  # streams and steps, at most
HELD_OUT_LONGEST = 10
TRAINED_ON = (95.0, 0.0, 5.0)  # percent of a text, its first and its last part


class Stream(Protocol):
    """Streams side by side, each as long as need be."""

    def batches(self, start: int, stop: int) -> tuple[Any, dict[str, Any]]:
        """Of these updates, for `training.over_streams`; the mean of their losses is in bits of a symbol."""
        ...

    def heard(self, bits: float) -> int:
        """Told how many were missing; the length of the strings that are learnt."""
        ...


@dataclasses.dataclass
class Copies:
    """Strings of two symbols, each said again once it is over, and longer ones when these are learnt.

    What comes after a string is learnt may have been drawn before that was known, so `batches` depends on what was
    heard; a run by this curriculum cannot be resumed.
    """

    streams: int
    every: int  # steps to an update
    seed: int
    longest: int = 1

    def batches(self, start: int, stop: int) -> tuple[Any, dict[str, Any]]:
        """Strings anew in each call, the last one cut."""
        rng = np.random.default_rng((self.seed, start))
        drawn = [strings(rng, (stop - start) * self.every, self.longest) for _ in range(self.streams)]
        return jax.tree.map(lambda *each: _by_update(np.stack(each), self.every), *drawn)

    def heard(self, bits: float) -> int:
        """One longer if these are learnt."""
        if bits < LEARNT:
            self.longest = min(self.longest + 1, LONGEST + 1)
        return self.longest - 1


def strings(rng: np.random.Generator, steps: int, longest: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Strings one after another: xs (steps, 3) of symbol 0, symbol 1, "say it"; and what is to be said, its weights.

    A string is heard, and said again from the step after its last symbol. The weights have the mean 1.
    """
    lengths = rng.integers(max(1, longest - SPREAD), min(longest, LONGEST), size=steps, endpoint=True)
    length = np.repeat(lengths, 2 * lengths)[:steps]
    time = np.arange(steps) - np.repeat(2 * (np.cumsum(lengths) - lengths), 2 * lengths)[:steps]
    said = time >= length
    symbol = (rng.random(steps) < 0.5)[np.arange(steps) - np.where(said, length, 0)]
    xs = np.stack([~said & ~symbol, ~said & symbol, said], axis=-1)
    return xs.astype(np.float32), {"symbol": symbol.astype(np.int32), "weight": (said / said.mean()).astype(np.float32)}


@dataclasses.dataclass
class Characters:
    """A text: what is the next character?"""

    source: Any  # of ids, `_corpus.streams`
    size: int  # of the vocabulary

    def batches(self, start: int, stop: int) -> tuple[Any, dict[str, Any]]:
        """Each stream reads its own stretch of the text; its state goes on where that begins anew."""
        ids = self.source(start, stop)["ids"]
        weight = np.ones(ids[..., 1:].shape, np.float32)
        return _one_hot(ids[..., :-1], self.size), {"symbol": ids[..., 1:].astype(np.int32), "weight": weight}

    def heard(self, bits: float) -> int:
        """There are no strings."""
        del bits
        return 0


@functools.partial(jax.jit, static_argnums=1)
def _one_hot(ids: Array, size: int) -> Array:
    return jax.nn.one_hot(ids, size)


def _by_update(values: np.ndarray, every: int) -> np.ndarray:
    """(B, updates * every, ...) as (updates, B, every, ...)."""
    return np.swapaxes(values.reshape(len(values), -1, every, *values.shape[2:]), 0, 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A kind of stream, and the sizes of the network for it."""

    inputs: int
    outputs: int
    corpus: _corpus.Corpus | None = None  # None: copies

    def stream(self, streams: int, every: int, seed: int) -> Stream:
        """From its beginning; a UserError if the text is too short."""
        if self.corpus is None:
            return Copies(streams, every, seed)
        return Characters(_corpus.streams(self.corpus.part("train"), streams, every, seed), self.inputs)

    @functools.cached_property
    def held_out(self) -> tuple[Any, dict[str, Any]]:
        """Streams (B, T, ...) that are not learnt from, of a text from places evenly spread over its last part."""
        streams, steps = HELD_OUT
        if self.corpus is None:
            drawn = [strings(np.random.default_rng(stream), steps, HELD_OUT_LONGEST) for stream in range(streams)]
            return jax.tree.map(lambda *each: np.stack(each), *drawn)
        ids = self.corpus.part("test")
        length = min(steps, len(ids) - 1)
        starts = np.linspace(0, len(ids) - 1 - length, min(streams, (len(ids) - 1) // length)).astype(int)
        rows = ids[starts[:, None] + np.arange(length + 1)].astype(np.int32)
        return _one_hot(rows[:, :-1], self.inputs), {"symbol": rows[:, 1:], "weight": np.ones(rows[:, 1:].shape)}

    def levels(self) -> dict[str, float]:
        """Bits that are missing of a symbol held out for who knows nothing, or how frequent each is in training."""
        if self.corpus is None:
            return {"chance": 1.0}
        counts = np.bincount(self.corpus.part("train"), minlength=self.inputs)
        frequencies = (counts + 1) / (counts + 1).sum()  # of what is never seen, once
        unigram = -np.log2(frequencies)[self.held_out[1]["symbol"]].mean()
        return {"chance": float(np.log2(self.inputs)), "unigram": float(unigram)}


def copying() -> Task:
    """Strings to be copied."""
    return Task(inputs=3, outputs=2)


@functools.cache
def reading(path: str | None) -> Task:
    """The text at a path, the standard library's by default."""
    corpus = _corpus.make_corpus(_corpus.read_text(path), TRAINED_ON)
    return Task(len(corpus.vocabulary), len(corpus.vocabulary), corpus)


@functools.cache
def problem_of(cell_name: str, hidden: int, outputs: int) -> gradients.Problem:
    """The loss is how many bits are missing of the symbol, times its weight."""
    cell, read = CELLS[cell_name], jr.Linear(hidden, outputs)

    def logits(params: Any, state: Any) -> Array:
        return read.apply(params["out"], cell.output(state))

    return gradients.Problem(cell, gradients.OutputLoss(logits, _bits), operator.itemgetter("cell"))


def _bits(logits: Array, y: dict[str, Array]) -> Array:
    return -y["weight"] * jax.nn.log_softmax(logits)[y["symbol"]] / jnp.log(2)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def missing(cell_name: str, hidden: int, outputs: int, params: Any, held_out: tuple[Any, dict[str, Any]]) -> Array:
    """Bits of a symbol, the mean over streams that begin with a state of zeros."""
    problem, state = problem_of(cell_name, hidden, outputs), CELLS[cell_name].initial_state(params["cell"])

    def of_one(xs: Any, ys: dict[str, Any]) -> Array:
        return gradients.bptt(problem, params, state, xs, ys).value / len(xs)

    return jnp.mean(jax.vmap(of_one)(*held_out))


def init(cell_name: str, hidden: int, task: Task, key: Array) -> dict[str, Any]:
    """A network's parameters."""
    key_cell, key_out = jax.random.split(key)
    return {
        "cell": CELLS[cell_name].init(key_cell, task.inputs, hidden),
        "out": jr.Linear(hidden, task.outputs).init(key_out),
    }
