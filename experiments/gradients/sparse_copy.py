"""A sparse GRU, and the copy task that it learns."""

import dataclasses
import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxrnn as jr
from jaxrnn import gradients

FEATURES = 3  # bit 0, bit 1, "say it"


@dataclasses.dataclass(frozen=True)
class Network:
    """A GRU few of whose recurrent weights are there, each with equal chance, and a read-out of one logit."""

    hidden: int
    sparsity: float
    seed: int

    @functools.cached_property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns, in (3H, H), of the weights that are there."""
        there = np.random.default_rng(self.seed).random((3 * self.hidden, self.hidden)) >= self.sparsity
        rows, columns = np.nonzero(there)
        return rows, columns

    @functools.cached_property
    def cell(self) -> jr.Cell:
        """A cell whose `weight_hh` is the vector of the weights that are there."""
        return jr.Cell(self._init, self._initial_state, self._step, jr.gru.output)

    def _init(self, key: Array) -> Any:
        """As torch does, the recurrent weights larger by what is missing of their variance."""
        params = jr.gru.init(key, FEATURES, self.hidden)
        return params._replace(weight_hh=params.weight_hh[self.places] / (1 - self.sparsity) ** 0.5)

    def _initial_state(self, params: Any, batch_shape: tuple[int, ...] = ()) -> Array:
        return jnp.zeros((*batch_shape, self.hidden), params.weight_hh.dtype)

    def _step(self, params: Any, h: Array, x: Array) -> Array:
        dense = jnp.zeros((3 * self.hidden, self.hidden), h.dtype).at[self.places].set(params.weight_hh)
        return jr.gru.step(params._replace(weight_hh=dense), h, x)

    @functools.cached_property
    def problem(self) -> gradients.Problem:
        """The cell, and the loss of a step."""
        return gradients.Problem(self.cell, self._loss, operator.itemgetter("cell"))

    def init(self, key: Array) -> dict[str, Any]:
        """Parameters."""
        key_cell, key_out = jax.random.split(key)
        return {"cell": self._init(key_cell), "out": self._read.init(key_out)}

    @property
    def _read(self) -> jr.Linear:
        return jr.Linear(self.hidden, 1)

    def _loss(self, params: dict[str, Any], h: Array, y: dict[str, Array]) -> Array:
        """Bits that are missing of the one to be said, by its weight."""
        logit = self._read.apply(params["out"], h)[..., 0]
        return jnp.sum(y["weight"] * jax.nn.softplus(jnp.where(y["bit"], -logit, logit))) / jnp.log(2)

    @functools.partial(jax.jit, static_argnums=0)
    def bits(self, params: dict[str, Any], xs: Array, ys: dict[str, Array]) -> Array:
        """(N,) of sequences: bits that are missing of each bit to be said."""

        def of_one(xs: Array, ys: dict[str, Array]) -> Array:
            return gradients.bptt(self.problem, params, jnp.zeros(self.hidden), xs, ys).value

        return jax.vmap(of_one)(xs, ys)


def copies(key: Array, lengths: Array, longest: int) -> tuple[Array, dict[str, Array]]:
    """xs (N, T, FEATURES) and ys (N, T), T twice the longest: bits of these lengths (N,), and right after them again.

    ys has the bits to be said, and weights that sum up to 1 over them.
    """
    bits = jax.random.bernoulli(key, shape=(len(lengths), longest))
    time, length = jnp.arange(2 * longest), lengths[:, None]
    heard, said = time < length, (time >= length) & (time < 2 * length)
    at = jnp.where(said, time - length, jnp.minimum(time, longest - 1))
    bit = jnp.take_along_axis(bits, at, axis=1)
    xs = jnp.stack([heard & ~bit, heard & bit, said], axis=-1).astype(jnp.float32)
    return xs, {"bit": bit, "weight": said / length.astype(jnp.float32)}
