"""A recurrent network with a linear read-out that predicts the next point of a series."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

import jaxrnn as jr

CELLS = {"rnn": jr.rnn, "gru": jr.gru, "lstm": jr.lstm}
RNN_STD = 0.001


@dataclasses.dataclass(frozen=True)
class Forecaster:
    """Layers of one kind of cell, and a read-out of the top one: hashable, without arrays."""

    kind: str
    hidden_size: int
    num_layers: int
    features: int

    @property
    def cell(self) -> jr.Cell:
        """The layers as one cell."""
        return jr.stack(*[CELLS[self.kind]] * self.num_layers)

    @property
    def linear(self) -> jr.Linear:
        """The read-out."""
        return jr.Linear(self.hidden_size, self.features)

    def init(self, key: Array) -> dict[str, Any]:
        """All recurrent tensors, biases too, from N(0, 0.001²); the read-out from torch's default."""
        key_cell, key_linear = jax.random.split(key)
        init = functools.partial(self.cell.init, key_cell, self.features, (self.hidden_size,) * self.num_layers)
        flat, unravel = ravel_pytree(jax.tree.map(jnp.zeros_like, jax.eval_shape(init)))
        normal = RNN_STD * jax.random.normal(key_cell, flat.shape)  # one draw for all: a third of the time to compile
        return {"rnn": unravel(normal), "linear": self.linear.init(key_linear)}

    def predict(self, params: dict[str, Any], h: Any, xs: Array) -> tuple[Array, Any]:
        """Teacher-forced: the next point after each of xs (T, F), and all states, T first."""
        _, states = jr.unroll(self.cell, params["rnn"], xs, h, return_states=True)
        return self.linear.apply(params["linear"], self.cell.output(states)), states

    def free_run(self, params: dict[str, Any], h: Any, x0: Array, length: int) -> Array:
        """The `length` points after x0 (F,), each predicted from the prediction before it, (length, F)."""
        _, ys = jr.generate(self._step, self._feed, params, h, x0, length)
        return ys

    def _step(self, params: dict[str, Any], h: Any, x: Array) -> Any:
        return self.cell.step(params["rnn"], h, x)

    def _feed(self, params: dict[str, Any], h: Any, key: Array | None) -> tuple[Array, Array]:
        y = self.linear.apply(params["linear"], self.cell.output(h))
        return y, y


def torch_names(params: dict[str, Any]) -> dict[str, Array]:
    """A flat dict as the state_dict of a torch module with a `rnn` and a `linear`."""
    flat = {f"linear.{name}": value for name, value in params["linear"].items()}
    for layer, tensors in enumerate(params["rnn"]):
        flat |= {f"rnn.{name}_l{layer}": a for name, a in tensors._asdict().items() if a is not None}
    return flat


def mse(prediction: Array, target: Array) -> Array:
    """Mean squared error."""
    return jnp.mean((prediction - target) ** 2)
