"""One kind of network on one task: its initialisation, and its training, all seeds at once."""

import dataclasses
import functools
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

import jaxrnn as jr
from jaxrnn import training

from .. import _ensemble, _memory, _run
from .longterm_tasks import TASKS, Task
from .networks import CELLS

LEARNING_RATES = {"rnn": 0.002, "gru": 0.01, "lstm": 0.01}
OPTIMIZERS = {cell: _ensemble.optimizer(optax.adam(rate)) for cell, rate in LEARNING_RATES.items()}
MAX_NORM = 1.0  # of the gradient, where it is clipped
HELD_OUT = 1000  # fresh sequences at each check
_MEMORY_SIGNS = {"gru": (0, 1, 0), "lstm": (-1, 1, 0, 0)}  # of gates r, z, n and i, f, g, o: which open to keep


class Setting(NamedTuple):
    """What is trained on what."""

    task: str
    length: int
    cell: str
    clip: bool
    orthogonal: bool


class Recipe(NamedTuple):
    """How long and on how much, the same for all settings."""

    hidden: int
    batch: int
    steps: int
    check_every: int


class Run(NamedTuple):
    """What became of the seeds of one setting."""

    solved_after: list[int | None]  # steps until the held-out error was first below the threshold
    errors: list[list[float]]  # (checks, seeds) held out
    steps: int


@dataclasses.dataclass(frozen=True)
class Network:
    """One layer of cells, the state after the last step into a linear layer: hashable, without arrays."""

    task_name: str
    kind: str
    hidden: int

    @property
    def task(self) -> Task:
        """What it learns."""
        return TASKS[self.task_name]

    @property
    def cell(self) -> jr.Cell:
        """The recurrent layer."""
        return CELLS[self.kind]

    @property
    def linear(self) -> jr.Linear:
        """The read-out."""
        return jr.Linear(self.hidden, self.task.outputs)

    def init(self, key: Array, length: ArrayLike, orthogonal: ArrayLike) -> dict[str, Any]:
        """Parameters, from torch's default initialisation but for `_chrono` and, if so wished, `_orthogonal`."""
        key_cell, key_linear, key_chrono, key_orthogonal = jax.random.split(key, 4)
        cell = self.cell.init(key_cell, self.task.features, self.hidden)
        if self.kind in _MEMORY_SIGNS:
            cell = _chrono(cell, _MEMORY_SIGNS[self.kind], length, key_chrono)
        cell = cell._replace(weight_hh=jnp.where(orthogonal, _orthogonal(cell, key_orthogonal), cell.weight_hh))
        return {"cell": cell, "linear": self.linear.init(key_linear)}

    def apply(self, params: dict[str, Any], xs: Array) -> Array:
        """(N, outputs) after the last step of xs (T, N, features)."""
        state, _ = jr.unroll(self.cell, params["cell"], xs)
        return self.linear.apply(params["linear"], self.cell.output(state))

    def error(self, params: dict[str, Any], key: Array, length: int) -> Array:
        """On fresh sequences."""
        xs, targets = self.task.sample(key, length, HELD_OUT)
        return self.task.error(self.apply(params, xs), targets)


def _chrono(cell: Any, signs: tuple[int, ...], length: ArrayLike, key: Array) -> Any:
    """Biases with which units keep what they hold for times spread over 1 … T-1 steps.

        b_keep = log u        b_in = -log u        u ~ U(1, T-1)

    With torch's, a gate is half open: 50 steps back 2⁻⁵⁰ is left. Source: Tallec and Ollivier 2018, arXiv:1804.11188.
    """
    memory = jnp.log(jax.random.uniform(key, (cell.weight_hh.shape[1],), minval=1.0, maxval=length - 1))
    return cell._replace(bias_ih=cell.bias_ih + jnp.outer(jnp.array(signs), memory).ravel())


def _orthogonal(cell: Any, key: Array) -> Array:
    """Recurrent weights that are orthogonal, gate by gate."""
    hidden = cell.weight_hh.shape[1]
    gates = jax.random.orthogonal(key, hidden, (len(cell.weight_hh) // hidden,))
    return gates.reshape(cell.weight_hh.shape)


@dataclasses.dataclass(frozen=True)
class Gradient:
    """Of the loss on a fresh batch; equal for equal fields, and one program, clipped or not."""

    network: Network
    length: int
    batch: int

    def __call__(self, params: Any, carry: None, batch: dict[str, Array], key: Array) -> Any:
        """Clipped to the norm in the batch, drawn by the key there."""
        del key
        value, grads = jax.value_and_grad(self._loss)(params, jax.random.wrap_key_data(batch["key"]))
        scale = jnp.minimum(1, batch["max_norm"] / optax.tree.norm(grads))
        return (value, (carry, {})), jax.tree.map(lambda a: a * scale, grads)

    def _loss(self, params: Any, key: Array) -> Array:
        xs, targets = self.network.task.sample(key, self.length, self.batch)
        return self.network.task.loss(self.network.apply(params, xs), targets)


def check_memory(setting: Setting, recipe: Recipe, seeds: int, processes: int) -> None:
    """An error if as many processes could not train, or look at the sequences that are held out."""
    flags, network = "--hidden, --lengths or --seeds", Network(setting.task, setting.cell, recipe.hidden)

    def begin() -> Any:
        keys = jax.random.split(jax.random.key(0), seeds)
        return jax.vmap(lambda key: network.init(key, setting.length, setting.orthogonal))(keys), keys

    def initial() -> Any:
        params, keys = begin()
        return params, None, {"key": jax.random.key_data(keys), "max_norm": jnp.zeros(seeds)}

    gradient = _ensemble.gradient(Gradient(network, setting.length, recipe.batch))
    _memory.check_training(flags, gradient, OPTIMIZERS[setting.cell], initial, processes)
    _memory.check(
        flags,
        functools.partial(_errors, network, setting.length),
        *_memory.shapes(flags, begin),
        jnp.int32(0),
        copies=processes,
    )


def train(setting: Setting, recipe: Recipe, keys: Array) -> Run:
    """Train until all seeds have solved the task, or until the last step."""
    network = Network(setting.task, setting.cell, recipe.hidden)
    key_init, key_train, key_check = jnp.moveaxis(jax.vmap(lambda key: jax.random.split(key, 3))(keys), 0, 1)
    max_norm = MAX_NORM if setting.clip else np.inf
    errors: list[list[float]] = []

    def batches(start: int, stop: int) -> dict[str, np.ndarray]:
        norms = np.full((stop - start, len(keys)), max_norm, np.float32)
        return {"key": _ensemble.keys(key_train, start, stop), "max_norm": norms}

    def check(rows: list[dict[str, Any]], state: training.TrainState) -> bool:
        del rows
        errors.append(np.asarray(_errors(network, setting.length, state.params, key_check, state.step)).tolist())
        return None not in _solved_after(errors, network.task.threshold, recipe.check_every)

    result = training.fit(
        _ensemble.gradient(Gradient(network, setting.length, recipe.batch)),
        _initial(network, setting.length, setting.orthogonal, key_init),
        OPTIMIZERS[setting.cell],
        batches,
        recipe.steps,
        chunk=recipe.check_every,
        on_chunk=check,
        progress=False,
    )
    if result.ended in _run.STATUS:
        sys.exit()  # a worker whose command has ended
    solved = _solved_after(errors, network.task.threshold, recipe.check_every)
    return Run(solved, errors, len(errors) * recipe.check_every)


def _solved_after(errors: list[list[float]], threshold: float, check_every: int) -> list[int | None]:
    """Of each seed, the steps until the first check below the threshold."""
    below = np.array(errors) < threshold
    firsts = np.where(below.any(axis=0), below.argmax(axis=0) + 1, 0) * check_every
    return [int(first) or None for first in firsts]


@functools.partial(jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
def _initial(network: Network, length: ArrayLike, orthogonal: ArrayLike, keys: Array) -> Any:
    """The parameters of all seeds."""
    return jax.vmap(lambda key: network.init(key, length, orthogonal))(keys)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _errors(network: Network, length: int, params: Any, keys: Array, step: Array) -> Array:
    """Of all seeds, on fresh sequences."""

    def error(params: Any, key: Array) -> Array:
        return network.error(params, jax.random.fold_in(key, step), length)

    return jax.vmap(error)(params, keys)
