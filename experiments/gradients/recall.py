"""Long dependencies: the first token of a sequence is to be told after a number of others that do not matter."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import jaxrnn as jr
from jaxrnn import training

from .. import _ensemble, _memory, _run

LABELS, DISTRACTORS = 4, 4  # tokens of each kind
HIDDEN = 32
BATCH = 32
LEARNING_RATE = 3e-3
MAX_NORM = 1.0
TESTED = 500  # sequences, made anew

LINEAR = jr.Linear(HIDDEN, LABELS)


class Network(NamedTuple):
    """A cell and how it starts."""

    cell: jr.Cell
    change: Callable[[Any, Array, Array], Any]  # (params, key, distance) -> params
    label: str


def as_torch(params: Any, key: Array, distance: Array) -> Any:
    """U(-1/√H, 1/√H), as it is."""
    del key, distance
    return params


def chrono(params: Any, key: Array, distance: Array) -> Any:
    """Forget gates that open for 1 to `distance` steps, input gates the less: b_f = log U(1, D), b_i = -b_f.

    Source: Tallec and Ollivier 2018, arXiv:1804.11188.
    """
    bias = jnp.log(jax.random.uniform(key, (HIDDEN,), minval=1.0, maxval=distance))
    biases = params.bias_ih.at[:HIDDEN].set(-bias).at[HIDDEN : 2 * HIDDEN].set(bias)
    return params._replace(bias_ih=biases, bias_hh=params.bias_hh.at[: 2 * HIDDEN].set(0))


NETWORKS = {
    "rnn": Network(jr.rnn, as_torch, "rnn"),
    "lstm": Network(jr.lstm, as_torch, "lstm, torch's initialisation"),
    "lstm-chrono": Network(jr.lstm, chrono, "lstm, chrono initialisation"),
}


class Sequences(NamedTuple):
    """A batch."""

    tokens: Array  # (longest + 1, N, LABELS + DISTRACTORS), one-hot
    labels: Array  # (N,)


def draw(key: Array, count: int, longest: int) -> Sequences:
    """A token that decides, then `longest` others."""
    key_labels, key_rest = jax.random.split(key)
    labels = jax.random.randint(key_labels, (count,), 0, LABELS)
    rest = jax.random.randint(key_rest, (longest, count), LABELS, LABELS + DISTRACTORS)
    return Sequences(jax.nn.one_hot(jnp.concatenate([labels[None], rest]), LABELS + DISTRACTORS), labels)


@dataclasses.dataclass(frozen=True)
class Loss:
    """Cross-entropy on a fresh batch; equal for equal fields, so that another distance does not compile anew."""

    cell: jr.Cell
    longest: int

    def __call__(
        self, params: Any, carry: None, batch: dict[str, Array], key: Array
    ) -> tuple[Array, tuple[None, dict[str, Array]]]:
        """Of one network, on sequences drawn by the key in the batch, cut after its distance."""
        del key
        sequences = draw(jax.random.wrap_key_data(batch["key"]), BATCH, self.longest)
        logits = _logits(self.cell, batch["distance"], params, sequences.tokens)
        return optax.softmax_cross_entropy_with_integer_labels(logits, sequences.labels).mean(), (carry, {})


@functools.cache
def gradient(cell: jr.Cell, longest: int) -> training.StepGradient:
    """Of each of several networks."""
    return _ensemble.gradient(jax.value_and_grad(Loss(cell, longest), has_aux=True))


OPTIMIZER = _ensemble.optimizer(optax.chain(optax.clip_by_global_norm(MAX_NORM), optax.adam(LEARNING_RATE)))


def check_memory(longest: int, networks: int) -> None:
    """An error if training the largest of the networks, or testing them, would not fit."""
    flags, name = "--distances or --networks", "lstm"
    cell = NETWORKS[name].cell
    _memory.check_bytes(flags, 4 * networks * BATCH * longest * (LABELS + DISTRACTORS))  # lengths that fit are int32

    def begin() -> Any:
        keys = jax.random.split(jax.random.key(0), networks)
        return jax.vmap(functools.partial(init, name, jnp.float32(longest)))(keys), keys

    def initial() -> Any:
        params, keys = begin()
        return params, None, {"key": jax.random.key_data(keys), "distance": jnp.full(networks, longest)}

    _memory.check_training(flags, gradient(cell, longest), OPTIMIZER, initial)
    _memory.check(flags, functools.partial(_test, cell, longest, longest), *_memory.shapes(flags, begin))


def accuracies(name: str, distance: int, longest: int, steps: int, networks: int, seed: int) -> np.ndarray:
    """(networks,) test accuracy of as many networks, trained side by side.

    The sequences are cut after `distance` tokens; for each `longest` and cell there is one program to compile, which
    takes longer than to train.
    """
    cell, keys = NETWORKS[name].cell, jax.random.split(jax.random.key(seed), (3, networks))
    reach = jnp.asarray(distance, jnp.float32)

    def batches(start: int, stop: int) -> dict[str, np.ndarray]:
        distances = np.full((stop - start, networks), distance)
        return {"key": _ensemble.keys(keys[1], start, stop), "distance": distances}

    result = training.fit(
        gradient(cell, longest),
        jax.vmap(lambda key: init(name, reach, key))(keys[0]),
        OPTIMIZER,
        batches,
        steps,
        progress=False,
    )
    _run.raise_if_asked(result.ended)
    return np.asarray(_test(cell, longest, distance, result.state.params, keys[2]))


@functools.partial(jax.jit, static_argnames=("cell", "longest"))
def _test(cell: jr.Cell, longest: int, distance: Array, params: Any, keys: Array) -> Array:
    """(networks,) test accuracies."""

    def accuracy(params: Any, key: Array) -> Array:
        sequences = draw(key, TESTED, longest)
        return jnp.mean(_logits(cell, distance, params, sequences.tokens).argmax(axis=-1) == sequences.labels)

    return jax.vmap(accuracy)(params, keys)


def init(name: str, distance: Array, key: Array) -> dict[str, Any]:
    """Parameters of a network and its read-out."""
    key_cell, key_change, key_linear = jax.random.split(key, 3)
    network = NETWORKS[name]
    cell = network.change(network.cell.init(key_cell, LABELS + DISTRACTORS, HIDDEN), key_change, distance)
    return {"cell": cell, "linear": LINEAR.init(key_linear)}


def _logits(cell: jr.Cell, distance: Array, params: dict[str, Any], tokens: Array) -> Array:
    """(N, LABELS) after the first token and `distance` others."""
    lengths = jnp.full(tokens.shape[1], distance + 1, jnp.int32)
    state, _ = jr.unroll(cell, params["cell"], tokens, lengths=lengths)
    return LINEAR.apply(params["linear"], cell.output(state))
