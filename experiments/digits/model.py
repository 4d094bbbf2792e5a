"""A recurrent network whose last state is read out as a digit, and the gradient along its sequence."""

import dataclasses
import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import jaxrnn as jr
from jaxrnn import gradients

from .data import CLASSES, Examples

CELLS = {"rnn": jr.rnn, "lstm": jr.lstm, "gru": jr.gru}


@dataclasses.dataclass(frozen=True)
class Classifier:
    """One layer of cells, the state after the last step into a linear layer: hashable, without arrays."""

    kind: str
    features: int
    hidden_size: int

    @property
    def cell(self) -> jr.Cell:
        """The recurrent layer."""
        return CELLS[self.kind]

    @property
    def linear(self) -> jr.Linear:
        """The read-out."""
        return jr.Linear(self.hidden_size, CLASSES)

    def init(self, key: Array) -> dict[str, Any]:
        """Parameters, from torch's default initialisation."""
        key_cell, key_linear = jax.random.split(key)
        return {
            "cell": self.cell.init(key_cell, self.features, self.hidden_size),
            "linear": self.linear.init(key_linear),
        }

    def logits(self, params: dict[str, Any], xs: Array | np.ndarray) -> Array:
        """(N, 10) of sequences (N, T, I)."""
        state, _ = jr.unroll(self.cell, params["cell"], jnp.swapaxes(xs, 0, 1))
        return self.read_out(params, state)

    def read_out(self, params: dict[str, Any], state: Any) -> Array:
        """(N, 10) of the last state."""
        return self.linear.apply(params["linear"], self.cell.output(state))


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """The loss of a classifier, as `training.fit` takes it: equal for equal models, so that nothing compiles twice."""

    model: Classifier

    def __call__(
        self, params: dict[str, Any], carry: None, batch: Examples, key: Array
    ) -> tuple[Array, tuple[None, dict[str, Array]]]:
        """The mean over the batch, and how many of it are right."""
        logits = self.model.logits(params, batch.xs)
        return _cross_entropies(logits, batch.labels).mean(), (carry, {"accuracy": accuracy(logits, batch.labels)})


def accuracy(logits: Array, labels: Array | np.ndarray) -> Array:
    """The fraction of examples whose largest logit is their label's."""
    return jnp.mean(logits.argmax(axis=-1) == labels)


def gradient_norms(model: Classifier, params: dict[str, Any], examples: Examples) -> dict[str, np.ndarray]:
    """‖∂ℓ/∂h_t‖ for t = 1 … T, (T,), mean over the examples; of an LSTM also ‖∂ℓ/∂c_t‖. ℓ is an example's loss."""
    found = jax.tree.leaves(state_gradients(model, params, examples))
    norms = [np.asarray(jnp.linalg.norm(gradient, axis=-1).mean(axis=0)) for gradient in found]
    return dict(zip(("h", "c"), norms, strict=False))


@functools.partial(jax.jit, static_argnums=0)
def state_gradients(model: Classifier, params: dict[str, Any], examples: Examples) -> Any:
    """The derivatives of each example's loss with respect to its states: leaves (N, T, H)."""

    def of_example(xs: Array, ys: dict[str, Array]) -> Any:
        state = model.cell.initial_state(params["cell"])
        return gradients.state_gradients(problem(model), params, state, xs, ys)

    return jax.vmap(of_example)(jnp.asarray(examples.xs), targets(examples))


def targets(examples: Examples) -> dict[str, Array]:
    """What the loss of `problem` reads at each step, (N, T): the label, and whether the step is the last."""
    shape = examples.xs.shape[:2]
    labels = jnp.broadcast_to(jnp.asarray(examples.labels)[:, None], shape)
    return {"label": labels, "is_last": jnp.broadcast_to(jnp.arange(shape[1]) == shape[1] - 1, shape)}


@functools.lru_cache
def problem(model: Classifier) -> gradients.Problem:
    """An example's loss, which comes at the last step."""

    def loss(params: dict[str, Any], state: Any, y: dict[str, Array]) -> Array:
        return jnp.where(y["is_last"], _cross_entropies(model.read_out(params, state), y["label"]), 0)

    return gradients.Problem(model.cell, loss, operator.itemgetter("cell"))


def _cross_entropies(logits: Array, labels: Array | np.ndarray) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(labels))
