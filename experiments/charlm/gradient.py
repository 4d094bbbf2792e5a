"""What a model is trained by: back-propagation, or any other gradient of `jaxrnn.gradients`."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

import jaxrnn as jr
from jaxrnn import gradients, training

from .evaluate import cross_entropy
from .model import CharModel

BPTT = "bptt"
_SMALLEST = CharModel(1, "rnn", 1, 1, 0, False, 0.0)


class Kind(NamedTuple):
    """An algorithm and the arguments that a person may set."""

    make: Callable[..., training.StepGradient]  # (problem, **arguments)
    arguments: dict[str, Any]  # with the values for what is not said


def _by_learner(make: Callable[..., gradients.Learner]) -> Callable[..., training.StepGradient]:
    return lambda problem, **arguments: training.over_streams(make(problem, **arguments))


def _by_artbp(problem: gradients.Problem, cut: float) -> training.StepGradient:
    if not 0 <= cut < 1:
        raise ValueError(f"cut must lie in [0, 1), got {cut}")
    return training.over_sequences(problem, functools.partial(gradients.artbp, cut=cut))


KINDS = {
    "tbptt": Kind(_by_learner(gradients.online.tbptt), {"k1": 16, "k2": 64}),
    "artbp": Kind(_by_artbp, {"cut": 0.1}),
    "rtrl": Kind(_by_learner(gradients.online.rtrl), {}),
    "snap": Kind(_by_learner(gradients.online.snap), {"order": 1}),
    "uoro": Kind(_by_learner(gradients.online.uoro), {"samples": 1}),
}


def canonical(text: str) -> str:
    """NAME or NAME:ARGUMENT=VALUE,... with all arguments said.

    Raises:
      ValueError: an unknown name or argument, or a value that the algorithm does not take.
    """
    name, arguments = _read(text)
    if name != BPTT:
        KINDS[name].make(problem(_SMALLEST, 1), **arguments)
    said = ",".join(f"{argument}={value}" for argument, value in arguments.items())
    return f"{name}:{said}" if said else name


def _read(text: str) -> tuple[str, dict[str, Any]]:
    name, _, given = text.partition(":")
    if name not in (BPTT, *KINDS):
        raise ValueError(f"expected {', '.join((BPTT, *KINDS))}, got {text!r}")
    arguments = {} if name == BPTT else dict(KINDS[name].arguments)
    for part in given.split(",") if given else ():
        argument, _, value = part.partition("=")
        if argument not in arguments:
            raise ValueError(f"{name} has no argument {argument!r}, it has: {', '.join(arguments) or 'none'}")
        kind = type(arguments[argument])
        try:
            arguments[argument] = kind(value)
        except ValueError:
            raise ValueError(f"{argument} of {name} must be of type {kind.__name__}, got {value!r}") from None
    return name, arguments


def of_text(said: str, model: CharModel, length: int) -> training.StepGradient:
    """The gradient of that name, of a model with one-hot characters.

    Its batch is that of `streams`, and what its `init` reads are ids (B,).

    Raises:
      ValueError, TypeError: arguments that the algorithm does not take.
    """
    name, arguments = _read(said)
    gradient = _OverText(model, KINDS[name].make(problem(model, length), **arguments))
    return training.StepGradient(gradient, gradient.init)


@functools.lru_cache
def problem(model: CharModel, length: int) -> gradients.Problem:
    """The mean cross-entropy over `length` characters, as a sum over time."""
    many = model.num_layers > 1
    cell = jr.stack(*[model.cell] * model.num_layers) if many else model.cell

    def loss(params: Any, state: Any, target: Array) -> Array:
        return cross_entropy(model.logits(params, cell.output(state)), target) / length

    def select(params: Any) -> Any:
        return jr.cast(tuple(params["cells"]) if many else params["cells"][0], model.dtype)

    return gradients.Problem(cell, loss, select)


@dataclasses.dataclass(frozen=True)
class _OverText:
    model: CharModel
    gradient: training.StepGradient

    def init(self, params: Any, state: Any, ids: Array, key: Array | None = None) -> Any:
        """The carry of streams in these states, with an example of what they read."""
        state = state if self.model.num_layers > 1 else state[0]
        return self.gradient.init(params, state, self.model.features(params, ids), key)

    def __call__(self, params: Any, carry: Any, batch: dict[str, Array], key: Array) -> Any:
        key_init, key_step = jax.random.split(key)
        ids = jnp.zeros(len(batch["begins"]), jnp.int32)
        fresh = self.init(params, self.model.initial_state(params, ids.shape), ids, key_init)
        carry = jax.tree.map(functools.partial(_where, batch["begins"]), fresh, carry)
        xs = self.model.features(params, batch["ids"][:, :-1])
        return self.gradient.function(params, carry, (xs, batch["ids"][:, 1:]), key_step)


def _where(begins: Array, fresh: Array, carry: Array) -> Array:
    return jnp.where(begins.reshape(-1, *(1,) * (carry.ndim - 1)), fresh, carry)
