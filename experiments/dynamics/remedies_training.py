"""Networks with a remedy each: what it changes, and their training, all seeds at once."""

import dataclasses
import functools
import math
import operator
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import jaxrnn as jr
from jaxrnn import gradients, remedies, training

from .. import _ensemble, _memory, _run
from .delays import Task

CELLS = {
    "rnn": jr.rnn,
    "gru": jr.gru,
    "lstm": jr.lstm,
    "rnn_relu": jr.rnn_relu,
    "layer_norm_rnn": jr.layer_norm_rnn,
    "layer_norm_gru": jr.layer_norm_gru,
    "layer_norm_lstm": jr.layer_norm_lstm,
    "indrnn": jr.indrnn,
    "antisymmetric_rnn": jr.antisymmetric_rnn(),
    "cornn": jr.cornn(),
    "orthogonal_cell": jr.orthogonal_cell(jr.rnn),
    "leaky_rnn": jr.leaky_rnn(0.2),
    "slstm": jr.slstm,
}
GATED = {"gru": "gru", "layer_norm_gru": "gru", "lstm": "lstm", "layer_norm_lstm": "lstm", "slstm": "lstm"}
PLAIN = {name: GATED.get(name, "rnn") for name in CELLS}  # the cell that another one's cost is compared with
LEARNING_RATES = {"rnn": 0.001, "gru": 0.005, "lstm": 0.005}  # by plain cell
DECAY = 0.99  # of Adam's second moment, β₂

CHUNK, CHECK_EVERY = 10, 100  # steps
HELD_OUT = 200  # fresh sequences at each check
SOLVED = 0.05  # of answers wrong
ROUNDS, TIMED = 5, 5  # turns in which a step's cost is measured, and chunks in each

FLOSS_RATE, FLOSS_STEPS, FLOSS_WARMUP = 0.001, 55, 15
FLOSS_BEFORE, FLOSS_AGAIN = 200, 50  # updates
AGAIN_EVERY, AGAIN_UNTIL = 200, 1000  # steps of training

RATE = 0.1  # of zoneout and dropout
WEIGHT_NOISE = 0.02
OMEGA = 0.01
ACTIVATION, CHANGE = 0.02, 0.02  # factors of AR and TAR


@dataclasses.dataclass(frozen=True)
class Network:
    """A layer of cells and a linear read-out at every step: hashable, without arrays."""

    cell: jr.Cell
    task: Task
    hidden: int

    @property
    def linear(self) -> jr.Linear:
        """The read-out."""
        return jr.Linear(self.hidden, self.task.classes)

    @functools.cached_property
    def problem(self) -> gradients.Problem:
        """Steps and their losses, for Ω."""
        return gradients.Problem(self.cell, self._loss, operator.itemgetter("cell"))

    def read(self, params: dict[str, Any], outputs: Array) -> Array:
        """Logits of outputs."""
        return self.linear.apply(params["linear"], outputs)

    def outputs(self, params: dict[str, Any], xs: Array) -> Array:
        """Of the cells, (T, N, hidden)."""
        return jr.unroll(self.cell, params["cell"], xs)[1]

    def loss(self, params: dict[str, Any], outputs: Array, labels: Array) -> Array:
        """Cross entropy in nats, the mean over the steps that count."""
        first = self.task.learnt_from
        return jnp.mean(_entropy(self.read(params, outputs[first:]), labels[first:]))

    def _loss(self, params: dict[str, Any], state: Any, y: tuple[Array, Array]) -> Array:
        label, weight = y
        return weight * _entropy(self.read(params, self.cell.output(state)), label)


def _entropy(logits: Array, labels: Array) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


class Remedy(NamedTuple):
    """What is done for a network.

    Fields:
      title: in words.
      cells: those that it is shown with.
      begin: `(key, params, delay) -> params`, of a cell, before training.
      wrap: the cell that takes a cell's place.
      noise: `(key, params) -> params`, of a cell, in each update.
      term: `(network, params, xs, labels, outputs) -> scalar`, added to the loss.
      max_norm: of the gradient.
      flosses: whether the exponents are flossed before training.
      flosses_again: and now and then during training.
    """

    title: str
    cells: tuple[str, ...]
    begin: Callable[[Array, Any, int], Any] | None = None
    wrap: Callable[[jr.Cell], jr.Cell] | None = None
    noise: Callable[[Array, Any], Any] | None = None
    term: Callable[..., Array] | None = None
    max_norm: float = math.inf
    flosses: bool = False
    flosses_again: bool = False


def _keyed(key: Array, params: Any) -> Any:
    return remedies.Keyed(params, key)


def _noisy(key: Array, params: Any) -> Any:
    return remedies.weight_noise(key, params, WEIGHT_NOISE)


def _omega(network: Network, params: Any, xs: Array, labels: Array, outputs: Array) -> Array:
    del outputs
    counts = jnp.arange(network.task.steps) >= network.task.learnt_from
    weights = counts / jnp.sum(counts)

    def of_one(xs: Array, labels: Array) -> Array:
        state = network.cell.initial_state(params["cell"])
        return remedies.omega(network.problem, params, state, xs, (labels, weights))

    return OMEGA * jnp.mean(jax.vmap(of_one, 1)(xs, labels))


def _ar_tar(network: Network, params: Any, xs: Array, labels: Array, outputs: Array) -> Array:
    del network, params, xs, labels
    change = remedies.temporal_activation_regulariser(outputs)
    return ACTIVATION * remedies.activation_regulariser(outputs) + CHANGE * change


_THREE = ("rnn", "gru", "lstm")
REMEDIES = {
    "none": Remedy("none", tuple(CELLS)),
    "clip": Remedy("clipping", _THREE, max_norm=1.0),
    "orthogonal": Remedy("orthogonal weights", _THREE, lambda key, params, delay: remedies.orthogonal(key, params)),
    "identity": Remedy("identity weights", ("rnn_relu",), lambda key, params, delay: remedies.identity(params)),
    "chrono": Remedy(
        "chrono", ("gru", "lstm"), lambda key, params, delay: remedies.chrono(key, params, max(2, 3 * delay // 2))
    ),
    "forget_bias": Remedy(
        "forget-gate bias 1", ("gru", "lstm"), lambda key, params, delay: remedies.forget_gate_bias(params, 1.0)
    ),
    "floss": Remedy("flossing before", ("rnn",), flosses=True),
    "floss_during": Remedy("flossing before, during", ("rnn",), flosses=True, flosses_again=True),
    "omega": Remedy("Ω", ("rnn",), term=_omega),
    "zoneout": Remedy("zoneout", ("lstm",), wrap=lambda cell: remedies.zoneout(cell, RATE), noise=_keyed),
    "recurrent_dropout": Remedy(
        "recurrent dropout", ("lstm",), wrap=lambda cell: remedies.recurrent_dropout(cell, RATE), noise=_keyed
    ),
    "variational_dropout": Remedy(
        "variational dropout", ("lstm",), wrap=lambda cell: remedies.variational_dropout(cell, RATE), noise=_keyed
    ),
    "weight_noise": Remedy("weight noise", ("lstm",), noise=_noisy),
    "ar_tar": Remedy("AR and TAR", ("lstm",), term=_ar_tar),
}


class Setting(NamedTuple):
    """What is trained on what."""

    task: Task
    remedy: str
    cell: str

    @property
    def plain(self) -> "Setting":
        """The network without remedy that its cost is compared with."""
        return Setting(self.task, "none", PLAIN[self.cell])


class Recipe(NamedTuple):
    """How large and how long, the same for all settings; None for what each has by itself."""

    hidden: int
    batch: int
    steps: int
    rate: float | None = None
    max_norm: float | None = None


class Run(NamedTuple):
    """What became of the seeds of one setting, at each check; nan of those that diverged."""

    errors: list[np.ndarray]  # (seeds,) fractions of answers that are wrong, held out
    losses: list[np.ndarray]  # (seeds,) held out
    steps: list[int]

    @property
    def solved_after(self) -> list[int | None]:
        """Of each seed, the steps until the first check with few errors."""
        below = np.array(self.errors) < SOLVED
        return [self.steps[column.argmax()] if column.any() else None for column in below.T]


@dataclasses.dataclass(frozen=True)
class Gradient:
    """Of the loss on a fresh batch, and of the remedy's term; equal for settings that need no other program.

    The carry says which seeds are finite. One whose loss or gradient is not stays as it is from then on.
    """

    network: Network
    batch: int
    noise: Callable[[Array, Any], Any] | None
    term: Callable[..., Array] | None

    def __call__(self, params: Any, carry: Array, batch: Array, key: Array) -> Any:
        """As `training.StepGradient` has it; the batch is drawn by the key there."""
        del key
        return _while_finite(self._loss, params, carry, jax.random.wrap_key_data(batch))

    def _loss(self, params: Any, key: Array) -> Array:
        key, key_noise = jax.random.split(key)
        xs, labels = self.network.task.sample(key, self.batch)
        used = params if self.noise is None else {**params, "cell": self.noise(key_noise, params["cell"])}
        outputs = self.network.outputs(used, xs)
        value = self.network.loss(used, outputs, labels)
        return value if self.term is None else value + self.term(self.network, used, xs, labels, outputs)


@dataclasses.dataclass(frozen=True)
class Flossing:
    """The gradient of the squares of all exponents, their mean, along a fresh sequence."""

    network: Network

    def __call__(self, params: Any, carry: Array, batch: Array, key: Array) -> Any:
        """As `training.StepGradient` has it."""
        del key
        return _while_finite(self._loss, params, carry, jax.random.wrap_key_data(batch))

    def _loss(self, params: Any, key: Array) -> Array:
        cell, hidden, cell_params = self.network.cell, self.network.hidden, params["cell"]
        xs = jax.random.bernoulli(key, shape=(FLOSS_STEPS, self.network.task.features)).astype(jnp.float32)
        state = cell.initial_state(cell_params)
        return remedies.floss(cell, cell_params, state, xs, hidden, FLOSS_WARMUP) / hidden


def _while_finite(loss: Callable[[Any, Array], Array], params: Any, is_finite: Array, key: Array) -> Any:
    value, grads = jax.value_and_grad(loss)(params, key)
    is_finite = is_finite & jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(grads))
    grads = jax.tree.map(lambda a: jnp.where(is_finite, a, 0), grads)
    return (jnp.where(is_finite, value, 0), (is_finite, {})), grads


def _network(setting: Setting, recipe: Recipe) -> Network:
    cell, wrap = CELLS[setting.cell], REMEDIES[setting.remedy].wrap
    return Network(cell if wrap is None else wrap(cell), setting.task, recipe.hidden)


@functools.cache
def _optimizer(rate: float, max_norm: float) -> optax.GradientTransformation:
    adam = optax.adam(rate, b2=DECAY)
    return _ensemble.optimizer(adam if max_norm == math.inf else optax.chain(optax.clip_by_global_norm(max_norm), adam))


def _initial(setting: Setting, recipe: Recipe, keys: Array) -> Any:
    """Parameters of all seeds: torch's, but inputs weigh N(0, 1), and what an rnn remembers N(0, 1/H)."""
    network, begin = _network(setting, recipe), REMEDIES[setting.remedy].begin

    def of_one(key: Array) -> Any:
        key_cell, key_linear, key_inputs, key_recurrent, key_begin = jax.random.split(key, 5)
        cell = network.cell.init(key_cell, setting.task.features, recipe.hidden)
        cell = cell._replace(weight_ih=jax.random.normal(key_inputs, cell.weight_ih.shape))
        if setting.cell == "rnn":
            normal = jax.random.normal(key_recurrent, cell.weight_hh.shape)
            cell = cell._replace(weight_hh=normal / recipe.hidden**0.5)
        if begin is not None:
            cell = begin(key_begin, cell, setting.task.delay)
        return {"cell": cell, "linear": network.linear.init(key_linear)}

    return jax.vmap(of_one)(keys)


# Compiled in a hurry, because it runs once.
_initial_jitted = jax.jit(_initial, static_argnums=(0, 1), compiler_options={"xla_backend_optimization_level": 0})


@functools.partial(jax.jit, static_argnums=0)
def _held_out(network: Network, params: Any, is_finite: Array, keys: Array, step: int) -> tuple[Array, Array]:
    """(seeds,) errors and losses on fresh sequences."""

    def of_one(params: Any, is_finite: Array, key: Array) -> tuple[Array, Array]:
        xs, labels = network.task.sample(jax.random.fold_in(key, step), HELD_OUT)
        outputs, first = network.outputs(params, xs), network.task.asked_from
        wrong = jnp.mean(network.read(params, outputs[first:]).argmax(axis=-1) != labels[first:])
        loss = network.loss(params, outputs, labels)
        is_finite &= jnp.isfinite(loss)
        return jnp.where(is_finite, wrong, jnp.nan), jnp.where(is_finite, loss, jnp.nan)

    return jax.vmap(of_one)(params, is_finite, keys)


class Seeds:
    """All seeds of one setting, as they stand."""

    def __init__(self, setting: Setting, recipe: Recipe, keys: Array) -> None:
        self.setting, self.recipe, self.network = setting, recipe, _network(setting, recipe)
        key_init, self.key_train, self.key_check, self.key_floss = _split(keys)
        self.params = _initial_jitted(setting, recipe, key_init)
        self.is_finite = jnp.ones(len(keys), bool)
        self.chunk = min(CHUNK, recipe.steps)
        self.trained = self.flossed = 0

    def train(self, steps: int, on_chunk: training.OnChunk | None = None) -> None:
        """So many steps more, by an Adam that begins anew."""
        gradient, optimizer = rule(self.setting, self.recipe)
        self._fit(gradient, optimizer, self.key_train, self.trained, steps, on_chunk)
        self.trained += steps

    def floss(self, updates: int, on_chunk: training.OnChunk | None = None) -> None:
        """So many updates of flossing more, likewise."""
        gradient = _ensemble.gradient(Flossing(self.network))
        self._fit(gradient, _optimizer(FLOSS_RATE, math.inf), self.key_floss, self.flossed, updates, on_chunk)
        self.flossed += updates

    def _fit(
        self,
        gradient: training.StepGradient,
        optimizer: optax.GradientTransformation,
        keys: Array,
        start: int,
        steps: int,
        on_chunk: training.OnChunk | None,
    ) -> None:
        result = training.fit(
            gradient,
            self.params,
            optimizer,
            lambda a, b: _ensemble.keys(keys, start + a, start + b),
            steps,
            carry=self.is_finite,
            chunk=self.chunk,
            on_chunk=on_chunk,
            progress=False,
        )
        _run.raise_if_asked(result.ended)
        self.params, self.is_finite = result.state.params, result.state.carry


@jax.jit
def _split(keys: Array) -> tuple[Array, ...]:
    return tuple(jnp.moveaxis(jax.vmap(lambda key: jax.random.split(key, 4))(keys), 1, 0))


def rule(setting: Setting, recipe: Recipe) -> tuple[training.StepGradient, optax.GradientTransformation]:
    """What a step of the training is."""
    remedy = REMEDIES[setting.remedy]
    gradient = Gradient(_network(setting, recipe), recipe.batch, remedy.noise, remedy.term)
    rate = recipe.rate or LEARNING_RATES[PLAIN[setting.cell]]
    return _ensemble.gradient(gradient), _optimizer(rate, recipe.max_norm or remedy.max_norm)


def train(setting: Setting, recipe: Recipe, keys: Array) -> Run:
    """Train until all seeds have solved the task, or until the last step."""
    seeds, run = Seeds(setting, recipe, keys), Run([], [], [])

    def check(rows: list[dict[str, Any]], state: training.TrainState) -> bool:
        del rows
        step = seeds.trained + int(state.step)
        if step % CHECK_EVERY and step != recipe.steps:
            return False
        errors, losses = _held_out(seeds.network, state.params, state.carry, seeds.key_check, step)
        run.errors.append(np.asarray(errors))
        run.losses.append(np.asarray(losses))
        run.steps.append(step)
        return None not in run.solved_after

    if REMEDIES[setting.remedy].flosses:
        seeds.floss(FLOSS_BEFORE)
    for steps in _parts(setting, recipe):
        if seeds.trained:
            seeds.floss(FLOSS_AGAIN)
        seeds.train(steps, check)
        if None not in run.solved_after:
            break
    return run


def _parts(setting: Setting, recipe: Recipe) -> list[int]:
    """Steps of training between two flossings."""
    last = min(AGAIN_UNTIL, recipe.steps - 1) if REMEDIES[setting.remedy].flosses_again else 0
    return np.diff([0, *range(AGAIN_EVERY, last + 1, AGAIN_EVERY), recipe.steps]).tolist()


def check_memory(setting: Setting, recipe: Recipe, seeds: int) -> None:
    """An error if the seeds could not be trained, or meet the sequences that are held out."""
    flags, network = "--hidden, --batch, --seeds, --delay or --length", _network(setting, recipe)
    keys = _memory.shapes(flags, lambda: jax.random.split(jax.random.key(0), seeds))

    def initial() -> Any:
        given = jax.random.split(jax.random.key(0), seeds)
        return _initial(setting, recipe, given), jnp.ones(seeds, bool), jax.random.key_data(given)

    _memory.check_training(flags, *rule(setting, recipe), initial)
    params, is_finite, _ = _memory.shapes(flags, initial)
    _memory.check(flags, functools.partial(_held_out, network), params, is_finite, keys, 0)


def cost(setting: Setting, recipe: Recipe, keys: Array) -> float:
    """Time of a step, that of all flossing included, in those of the plain network: medians, measured in turns."""
    if setting == setting.plain:
        return 1.0
    plain, this = Seeds(setting.plain, recipe, keys), Seeds(setting, recipe, keys)
    timed: tuple[list[float], ...] = [], [], []
    for _ in range(ROUNDS):
        timed[0].extend(_seconds(plain.train, plain.chunk, TIMED))
        timed[1].extend(_seconds(this.train, this.chunk, TIMED))
        timed[2].extend(_seconds(this.floss, this.chunk, 1) if REMEDIES[setting.remedy].flosses else [0.0])
    of_plain, of_step, of_floss = map(statistics.median, timed)
    flosses = FLOSS_BEFORE + FLOSS_AGAIN * (len(_parts(setting, recipe)) - 1)
    return (of_step + of_floss * flosses / recipe.steps) / of_plain


def _seconds(advance: Callable[[int, training.OnChunk], None], chunk: int, chunks: int) -> list[float]:
    """Of each of so many chunks, after one in which all is compiled."""
    ends: list[float] = []
    advance((chunks + 1) * chunk, lambda rows, state: ends.append(time.perf_counter()))
    return np.diff(ends).tolist()
