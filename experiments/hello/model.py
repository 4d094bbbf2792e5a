"""The five models, words as indices in and logits over the vocabulary out, with the notes' sizes and learning rates."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

import jaxrnn as jr

EMBEDDING, HIDDEN, LAYERS = 10, 8, 2  # of the forms that begin with an embedding
NETWORKS = {"rnn": jr.RNN, "lstm": jr.LSTM, "gru": jr.GRU}


class Model(Protocol):
    """What the forms differ in. Models hold sizes and no arrays, and compare by value."""

    def init(self, key: Array) -> Any:
        """Parameters, from torch's default initialisation."""
        ...

    def logits(self, params: Any, ids: Array) -> Array:
        """(N, T, V) of words (N, T)."""
        ...


@dataclasses.dataclass(frozen=True)
class OneHotCell:
    """A cell taken step by step over one-hot characters. Its states are the logits: as many units as characters."""

    vocabulary_size: int

    def init(self, key: Array) -> Any:
        """The cell's parameters."""
        return jr.rnn.init(key, self.vocabulary_size, self.vocabulary_size)

    def logits(self, params: Any, ids: Array) -> Array:
        """(N, T, V) of words (N, T)."""

        def step(h: Array, x: Array) -> tuple[Array, Array]:
            h = jr.rnn.step(params, h, x)
            return h, h

        xs = jax.nn.one_hot(ids.T, self.vocabulary_size)
        _, hs = lax.scan(step, jr.rnn.initial_state(params, ids.shape[:1]), xs)
        return jnp.swapaxes(hs, 0, 1)


@dataclasses.dataclass(frozen=True)
class OneHotNetwork:
    """A network over the whole sequence of one-hot characters. Its outputs are the logits."""

    vocabulary_size: int

    @property
    def network(self) -> jr.RNN:
        """One layer, time first."""
        return jr.RNN(self.vocabulary_size, self.vocabulary_size)

    def init(self, key: Array) -> Any:
        """The network's parameters."""
        return self.network.init(key)

    def logits(self, params: Any, ids: Array) -> Array:
        """(N, T, V) of words (N, T)."""
        output, _ = self.network.apply(params, jax.nn.one_hot(ids.T, self.vocabulary_size))
        return jnp.swapaxes(output, 0, 1)


@dataclasses.dataclass(frozen=True)
class EmbeddedNetwork:
    """An embedding, a network of two layers, and a linear layer, all batch first."""

    kind: str
    vocabulary_size: int

    @property
    def embedding(self) -> jr.Embedding:
        """From characters to vectors."""
        return jr.Embedding(self.vocabulary_size, EMBEDDING)

    @property
    def network(self) -> jr.RNN | jr.LSTM | jr.GRU:
        """The recurrent layers."""
        return NETWORKS[self.kind](EMBEDDING, HIDDEN, num_layers=LAYERS, batch_first=True)

    @property
    def linear(self) -> jr.Linear:
        """From the top layer to logits."""
        return jr.Linear(HIDDEN, self.vocabulary_size)

    def init(self, key: Array) -> Any:
        """The three layers' parameters."""
        keys = jax.random.split(key, 3)
        return {
            "embedding": self.embedding.init(keys[0]),
            "network": self.network.init(keys[1]),
            "linear": self.linear.init(keys[2]),
        }

    def logits(self, params: Any, ids: Array) -> Array:
        """(N, T, V) of words (N, T)."""
        output, _ = self.network.apply(params["network"], self.embedding.apply(params["embedding"], ids))
        return self.linear.apply(params["linear"], output)


class Form(NamedTuple):
    """A model and how it is trained."""

    model: Callable[[int], Model]  # of the vocabulary's size
    optimizer: optax.GradientTransformation
    reduce: Callable[[Array], Array]  # the characters' cross-entropies to the loss


# Where the state itself is the logits, tanh units that saturate early get no gradient any more and the word stays
# wrong for ever, with Adam alone for one seed in seven. A decay of the weights brings such units back.
FORMS = {
    "cell": Form(OneHotCell, optax.adamw(0.1, weight_decay=0.5), jnp.sum),
    "rnn": Form(OneHotNetwork, optax.adamw(0.05, weight_decay=0.5), jnp.mean),
    "embedding": Form(functools.partial(EmbeddedNetwork, "rnn"), optax.adam(0.05), jnp.mean),
    "lstm": Form(functools.partial(EmbeddedNetwork, "lstm"), optax.adam(0.05), jnp.mean),
    "gru": Form(functools.partial(EmbeddedNetwork, "gru"), optax.adam(0.05), jnp.mean),
}
