"""The flip-flop task of Sussillo and Barak 2013, and networks that learn it: each bit says what it last heard."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import jaxrnn as jr
from jaxrnn import training

from .. import _memory

CELLS = {"rnn": jr.rnn, "gru": jr.gru, "lstm": jr.lstm}
PULSES = 0.1  # how often a bit hears one


class Batch(NamedTuple):
    """Sequences, time first."""

    xs: Any  # (T, B, bits) pulses: 1, -1, and 0 for none; all bits hear one at the first step
    ys: Any  # (T, B, bits) the last pulse


def draw(rng: np.random.Generator, steps: int, batch: int, bits: int) -> Batch:
    """Fresh sequences."""
    shape = (steps, batch, bits)
    heard = rng.random(shape) < PULSES
    heard[0] = True
    xs = np.where(heard, rng.choice([-1.0, 1.0], shape), 0).astype(np.float32)
    last = np.maximum.accumulate(np.where(heard, np.arange(steps)[:, None, None], 0), axis=0)
    return Batch(xs, np.take_along_axis(xs, last, axis=0))


@dataclasses.dataclass(frozen=True)
class Network:
    """A layer of cells and a linear read-out at every step: hashable, without arrays."""

    kind: str
    hidden: int
    bits: int

    @property
    def cell(self) -> jr.Cell:
        """The recurrent layer."""
        return CELLS[self.kind]

    @property
    def linear(self) -> jr.Linear:
        """The read-out."""
        return jr.Linear(self.hidden, self.bits)

    def init(self, key: Array) -> dict[str, Any]:
        """Parameters, from torch's initialisation."""
        key_cell, key_linear = jax.random.split(key)
        return {"cell": self.cell.init(key_cell, self.bits, self.hidden), "linear": self.linear.init(key_linear)}

    def read(self, params: dict[str, Any], state: Any) -> Array:
        """(*batch, bits) of a state."""
        return self.linear.apply(params["linear"], self.cell.output(state))

    def states(self, params: dict[str, Any], xs: Array) -> Any:
        """After each step of xs (T, B, bits), (T, B, ...) per leaf."""
        return jr.unroll(self.cell, params["cell"], xs, return_states=True)[1]

    def error(self, params: dict[str, Any], batch: Batch) -> Array:
        """The mean squared error."""
        _, outputs = jr.unroll(self.cell, params["cell"], batch.xs)
        return jnp.mean((self.linear.apply(params["linear"], outputs) - batch.ys) ** 2)


@dataclasses.dataclass(frozen=True)
class Gradient:
    """Of the error on a batch, with its norm as a metric; equal for equal networks."""

    network: Network

    def __call__(self, params: Any, carry: None, batch: Batch, key: Array) -> Any:
        """As `training.StepGradient` has it."""
        del key
        value, grads = jax.value_and_grad(self.network.error)(params, batch)
        return (value, (carry, {"norm": optax.tree.norm(grads)})), grads


@dataclasses.dataclass(frozen=True)
class Batches:
    """The batches of a training, one for each step, each drawn by a generator of its own."""

    seed: int
    steps: int
    batch: int
    bits: int

    def __call__(self, start: int, stop: int) -> Batch:
        """Of the steps start to stop - 1, as `training.fit` asks for them."""
        drawn = [
            draw(np.random.default_rng((self.seed, step)), self.steps, self.batch, self.bits)
            for step in range(start, stop)
        ]
        return Batch(*map(np.stack, zip(*drawn, strict=True)))


@functools.partial(jax.jit, static_argnums=0)
def error(network: Network, params: Any, batch: Batch) -> Array:
    """`network.error`, compiled."""
    return network.error(params, batch)


@functools.partial(jax.jit, static_argnums=0)
def states(network: Network, params: Any, xs: Array) -> Any:
    """`network.states`, compiled."""
    return network.states(params, xs)


def check_memory(flags: str, network: Network, steps: int, batch: int, optimizer: optax.GradientTransformation) -> None:
    """An error if a training of the network would not fit."""

    def initial() -> Any:
        zeros = jnp.zeros((steps, batch, network.bits))
        return network.init(jax.random.key(0)), None, Batch(zeros, zeros)

    _memory.check_training(flags, training.StepGradient(Gradient(network)), optimizer, initial)
