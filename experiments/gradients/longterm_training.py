"""One kind of network on one task: its initialisation, and its training, all seeds at once."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.typing import ArrayLike

import jaxrnn as jr

from .longterm_tasks import TASKS, Task
from .networks import CELLS

LEARNING_RATES = {"rnn": 0.002, "gru": 0.01, "lstm": 0.01}
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

    def loss(self, params: dict[str, Any], key: Array, length: int, batch: int) -> Array:
        """On a fresh batch."""
        xs, targets = self.task.sample(key, length, batch)
        return self.task.loss(self.apply(params, xs), targets)

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


class _State(NamedTuple):
    """Of one seed."""

    params: Any
    optimizer: optax.OptState
    key: Array


def train(setting: Setting, recipe: Recipe, keys: Array) -> Run:
    """Train until all seeds have solved the task, or until the last step."""
    network = Network(setting.task, setting.cell, recipe.hidden)
    state = _initial(network, setting.length, setting.orthogonal, keys)
    max_norm = MAX_NORM if setting.clip else np.inf
    solved: list[int | None] = [None] * len(keys)
    errors: list[list[float]] = []
    done = 0
    while None in solved and done < recipe.steps:
        state, error = _steps_and_check(network, setting.length, recipe, max_norm, state)
        done += recipe.check_every
        errors.append(np.asarray(error).tolist())
        below = [value < network.task.threshold for value in errors[-1]]
        solved = [done if before is None and now else before for before, now in zip(solved, below, strict=True)]
    return Run(solved, errors, done)


def _optimizer(kind: str, max_norm: ArrayLike) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(max_norm), optax.adam(LEARNING_RATES[kind]))


@functools.partial(jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
def _initial(network: Network, length: ArrayLike, orthogonal: ArrayLike, keys: Array) -> _State:
    """Of all seeds."""

    def initial(key: Array) -> _State:
        key, key_init = jax.random.split(key)
        params = network.init(key_init, length, orthogonal)
        return _State(params, _optimizer(network.kind, np.inf).init(params), key)

    return jax.vmap(initial)(keys)


# At level 1 the LSTM compiles in half the time and runs as fast.
@functools.partial(jax.jit, static_argnums=(0, 1, 2), compiler_options={"xla_backend_optimization_level": 1})
def _steps_and_check(
    network: Network, length: int, recipe: Recipe, max_norm: ArrayLike, state: _State
) -> tuple[_State, Array]:
    """Some steps of all seeds, and then their errors. One program, clipped or not, whatever the initialisation."""
    optimizer = _optimizer(network.kind, max_norm)

    def step(state: _State, _: None) -> tuple[_State, None]:
        key, key_batch = jax.random.split(state.key)
        gradient = jax.grad(network.loss)(state.params, key_batch, length, recipe.batch)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer)
        return _State(optax.apply_updates(state.params, updates), optimizer_state, key), None

    def steps_and_check(state: _State) -> tuple[_State, Array]:
        state, _ = lax.scan(step, state, length=recipe.check_every)
        key, key_check = jax.random.split(state.key)
        return state._replace(key=key), network.error(state.params, key_check, length)

    return jax.vmap(steps_and_check)(state)
