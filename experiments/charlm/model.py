"""Characters in, layers of recurrent cells, logits of the next character out."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

import jaxrnn as jr

CELLS = {"rnn": jr.rnn, "rnn_relu": jr.rnn_relu, "gru": jr.gru, "lstm": jr.lstm}


@dataclasses.dataclass(frozen=True)
class CharModel:
    """A network over a vocabulary: hashable, without arrays."""

    vocabulary_size: int
    kind: str
    hidden_size: int
    num_layers: int
    embedding_dim: int  # 0: one-hot
    tied: bool  # the read-out's weight is the embedding's
    dropout: float  # of what goes into each cell and into the read-out
    dtype: str = "float32"  # of the computation and the states; parameters and logits are float32

    @property
    def cell(self) -> jr.Cell:
        """Of one layer."""
        return CELLS[self.kind]

    @property
    def embedding(self) -> jr.Embedding:
        """Characters to features."""
        return jr.Embedding(self.vocabulary_size, self.embedding_dim)

    @property
    def linear(self) -> jr.Linear:
        """The read-out."""
        return jr.Linear(self.hidden_size, self.vocabulary_size)

    def init(self, key: Array) -> dict[str, Any]:
        """Parameters: the cells' by layer, the read-out's, and the embedding's if there is one."""
        key_embedding, key_linear, *keys = jax.random.split(key, 2 + self.num_layers)
        widths = [self.embedding_dim or self.vocabulary_size] + [self.hidden_size] * (self.num_layers - 1)
        cells = [self.cell.init(k, width, self.hidden_size) for k, width in zip(keys, widths, strict=True)]
        params = {"cells": cells, "linear": self.linear.init(key_linear)}
        if self.tied:
            params["embedding"] = {"weight": params["linear"].pop("weight")}  # the read-out's is of the better scale
        elif self.embedding_dim:
            params["embedding"] = self.embedding.init(key_embedding)
        return params

    def initial_state(self, params: dict[str, Any], batch_shape: tuple[int, ...] = ()) -> tuple[Any, ...]:
        """Zeros: a state a layer."""
        cells = jr.cast(params["cells"], self.dtype)
        return tuple(self.cell.initial_state(cell, batch_shape) for cell in cells)

    def apply(
        self, params: dict[str, Any], state: tuple[Any, ...], ids: Array, key: Array | None = None
    ) -> tuple[tuple[Any, ...], Array]:
        """The final state and logits (T, *batch, V), of ids (T, *batch); dropout acts when a key is given."""
        params = jr.cast(params, self.dtype)
        ys, finals = self.features(params, ids), []
        for layer, (cell, initial) in enumerate(zip(params["cells"], state, strict=True)):
            final, ys = jr.unroll(self.cell, cell, self._drop(key, layer, ys), initial)
            finals.append(final)
        return tuple(finals), self.logits(params, self._drop(key, self.num_layers, ys))

    def step(self, params: dict[str, Any], state: tuple[Any, ...], ids: Array) -> tuple[tuple[Any, ...], Array]:
        """The next state and logits (*batch, V), of ids (*batch)."""
        state, logits = self.apply(params, state, ids[None])
        return state, logits[0]

    def activity(self, params: dict[str, Any], ids: Array) -> Array:
        """(T, H): what the top layer's units hold, between -1 and 1, as they read ids (T,); of an LSTM tanh(c)."""
        params = jr.cast(params, self.dtype)
        ys = self.features(params, ids)
        for cell in params["cells"][:-1]:
            _, ys = jr.unroll(self.cell, cell, ys)
        _, states = jr.unroll(self.cell, params["cells"][-1], ys, return_states=True)
        states = jr.cast(states, jnp.float32)
        return jnp.tanh(states.c) if isinstance(states, jr.LSTMState) else states

    def features(self, params: dict[str, Any], ids: Array) -> Array:
        """(*shape, E or V) of ids (*shape): embedded, or one-hot."""
        if not self.embedding_dim:
            return jax.nn.one_hot(ids, self.vocabulary_size, dtype=self.dtype)
        return self.embedding.apply(jr.cast(params["embedding"], self.dtype), ids)

    def logits(self, params: dict[str, Any], ys: Array) -> Array:
        """(*shape, V), of what the top layer puts out (*shape, H)."""
        params = jr.cast(params, self.dtype)
        weight = params["embedding"]["weight"] if self.tied else params["linear"]["weight"]
        return self.linear.apply({"weight": weight, "bias": params["linear"]["bias"]}, ys).astype(jnp.float32)

    def _drop(self, key: Array | None, place: int, x: Array) -> Array:
        """Of x (T, *batch, F), the same features at every time step (arXiv:1512.05287)."""
        if key is None or self.dropout == 0:
            return x
        keep = jax.random.bernoulli(jax.random.fold_in(key, place), 1 - self.dropout, (1, *x.shape[1:]))
        return jnp.where(keep, x / (1 - self.dropout), 0)
