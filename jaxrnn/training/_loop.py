"""`fit`: steps in compiled chunks, and what happens between them."""

import contextlib
import dataclasses
import functools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from tqdm import tqdm

from .._core.checks import check_int
from ._batches import Batches
from ._evaluation import Evaluation, measure
from ._folder import Row, RunFolder
from ._gradient import Loss, StepGradient, gradient_of
from ._mesh import BATCH, CHUNK, REPLICATED, check_divisible, check_mesh, place
from ._step import Rule, TrainState, initial_state, run_chunk

Ended: TypeAlias = Literal["finished", "stopped", "interrupted"]
OnChunk: TypeAlias = Callable[[list[Row], TrainState], bool | None]


class Result(NamedTuple):
    """What `fit` gives."""

    state: TrainState
    history: list[Row]  # a row a step, those of the resumed run too: step, loss, grad_norm, the loss's metrics, seconds
    evaluations: list[Row]  # step, what `evaluate` gave, seconds
    ended: Ended


class NonFiniteLossError(ArithmeticError):
    """The loss or the norm of its gradient became NaN or infinite.

    Attributes:
      row: what would be the row of the first such step.
      result: the run up to the step before.
    """

    def __init__(self, row: Row, result: Result) -> None:
        name, what = ("grad_norm", "the norm of the gradient") if np.isfinite(row["loss"]) else ("loss", "the loss")
        super().__init__(f"{what} became {row[name]} at step {row['step']}")
        self.row = row
        self.result = result


def fit(
    loss: Loss | StepGradient,
    params: Any,
    optimizer: optax.GradientTransformation,
    batches: Batches,
    steps: int,
    *,
    carry: Any = None,
    key: Array | None = None,
    chunk: int = 100,
    accumulate: int = 1,
    mesh: Mesh | None = None,
    folder: RunFolder | None = None,
    evaluation: Evaluation | None = None,
    on_chunk: OnChunk | None = None,
    progress: bool = True,
) -> Result:
    """Train: each chunk of steps is one compiled `lax.scan` whose buffers are donated.

        g_t = ∇ loss(θ_{t-1}, carry_{t-1}, batch_t, key_t)        θ_t = θ_{t-1} + optimizer(g_t)

    Args:
      loss: `(params, carry, batch, key) -> (value, (carry, metrics))`, value a scalar, metrics a dict of arrays of any
        shape to be logged. It gets one step's batch and a key of its own. Static: build it once, as a function, a
        partial or a frozen dataclass with `__call__`; what is built anew is compiled anew. Its gradient is that of
        `jax.value_and_grad`; a `training.StepGradient` in its place brings one of its own: `training.over_sequences`
        and `training.over_streams` make one of any algorithm and learner of `jaxrnn.gradients`.
      params: a pytree, left as it is.
      optimizer: any `optax.GradientTransformation` whose update takes a gradient, a state and params (so not lbfgs);
        clipping and schedules are parts of it. Static: build it once.
      batches: `(start, stop) -> pytree` of (stop - start, B, ...) arrays, the batches of the steps start to stop - 1,
        counted from 0, a function of its arguments alone. See `training.shuffled`.
      steps: how many in all, those of a resumed run included.
      carry: what the loss hands from step to step, its gradient cut there: a recurrent state for stateful truncated
        back-propagation, the memory of a learner. With a mesh or accumulate > 1 the batch is the first axis of every
        leaf.
      key: folded with the number of the step into the key that loss gets; `jax.random.key(0)` by default.
      chunk: steps between two looks at the loss, and between two choices to stop.
      accumulate: run the batch in this many parts, one after the other, and average their losses, metrics and
        gradients, for batches that do not fit.
      mesh: from `training.data_mesh`: the batch is sharded over it, parameters are on all its devices.
      folder: where to keep metrics and checkpoints, to resume from. None keeps nothing.
      evaluation: what to measure of the parameters on the way, and when to stop: a `training.Evaluation`.
      on_chunk: `(rows, state) -> bool | None`, called after each chunk with its rows; True stops.
        The state's buffers are gone once it has returned.
      progress: a bar with loss, steps a second and time left, on a terminal only.

    Ctrl-C ends the training after the chunk that runs, with a checkpoint; a second one interrupts at once.

    Returns:
      `Result`: the state (step, params, opt_state, carry, key), the rows of all steps, the evaluations, how it ended.

    Raises:
      NonFiniteLossError: names the step; checkpoints stay as they were, the result so far is in its `result`.
      ValueError: intervals that chunk does not divide, batches of wrong shapes, a loss that is no scalar, grads that
        are not like params.
      TypeError: an argument is of the wrong type; what loss returns is not (value, (carry, metrics)).
      RunFolderError, CheckpointError: see `RunFolder`.

    Example: see `jaxrnn.training`.
    """
    gradient = gradient_of(loss)
    _check_types(optimizer, batches, mesh, folder, evaluation)
    _check_intervals(steps, chunk, accumulate, evaluation, folder)
    run = _Run(Rule(gradient, optimizer, accumulate, mesh), batches, steps, chunk, evaluation)
    run.begin(params, carry, jax.random.key(0) if key is None else key, folder)
    with _interruptible() as interrupted, _bar(steps, run.step, progress) as bar:
        ended = run.ended()
        while not ended:
            rows, bad = run.advance()
            _write(folder, rows)
            if bad:
                raise NonFiniteLossError(bad, run.result("stopped"))
            asked = bool(on_chunk and on_chunk(rows, run.state))
            if evaluation and (run.step == steps or run.step % (evaluation.every or steps) == 0):
                _write(folder, [run.evaluate(evaluation)])
            asked, signalled = _any_process(asked, interrupted.is_set())
            ended = run.ended() or ("interrupted" if signalled else "stopped" if asked else None)
            if folder and (ended or (folder.every and run.step % folder.every == 0)):
                folder.save(run.state)
            bar.set_postfix(run.latest(), refresh=False)
            bar.update(len(rows))
    return run.result(ended)


@dataclasses.dataclass
class _Run:
    """The run as it stands between two chunks."""

    rule: Rule
    batches: Batches
    steps: int
    chunk: int
    evaluation: Evaluation | None
    state: TrainState = dataclasses.field(init=False)
    step: int = dataclasses.field(init=False)
    history: list[Row] = dataclasses.field(init=False)
    evaluations: list[Row] = dataclasses.field(init=False)
    began: float = dataclasses.field(init=False)  # on the clock of perf_counter, less the seconds of the runs before
    ahead: Any = None  # the next chunk's batches

    def begin(self, params: Any, carry: Any, key: Array, folder: RunFolder | None) -> None:
        """Stand at the first step, or where the folder says that the run is."""
        mesh = self.rule.mesh
        self._check_divisible("carry", carry, 0)
        begin = functools.partial(_initial_copy, params, self.rule.optimizer, carry, key)
        state, rows = folder.open(jax.eval_shape(begin), mesh) if folder else (None, [])
        if state is None:
            state = begin()
            state = place(state, mesh, REPLICATED)._replace(carry=place(state.carry, mesh, BATCH))
        self.state = state
        self.step = int(state.step)
        self.history = [row for row in rows if "loss" in row]
        self.evaluations = [row for row in rows if "loss" not in row]
        self.began = time.perf_counter() - (rows[-1]["seconds"] if rows else 0)

    def advance(self) -> tuple[list[Row], Row | None]:
        """Run a chunk: the rows of its steps, as far as they are finite, and the first that is not."""
        batches = self._load() if self.ahead is None else self.ahead
        start, self.step = self.step, min(self.step + self.chunk, self.steps)
        self.state, pending = run_chunk(self.state, batches, rule=self.rule)
        self.ahead = self._load() if self.step < self.steps else None  # while the devices work
        metrics = {name: np.asarray(values) for name, values in {"loss": pending.pop("loss"), **pending}.items()}
        seconds = round(time.perf_counter() - self.began, 3)
        rows = [
            {
                "step": start + i + 1,
                **{name: values[i].tolist() for name, values in metrics.items()},
                "seconds": seconds,
            }
            for i in range(self.step - start)
        ]
        finite = np.isfinite(metrics["loss"]) & np.isfinite(metrics["grad_norm"])
        good = len(rows) if finite.all() else int(np.argmin(finite))
        self.step = start + good
        self.history += rows[:good]
        return rows[:good], rows[good] if good < len(rows) else None

    def evaluate(self, evaluation: Evaluation) -> Row:
        """One more evaluation."""
        values = measure(evaluation, self.state.params)
        row = {"step": self.step, **values, "seconds": round(time.perf_counter() - self.began, 3)}
        self.evaluations.append(row)
        return row

    def ended(self) -> Ended | None:
        """How the run has ended, if it has."""
        if self.step >= self.steps:
            return "finished"
        stop = self.evaluation and self.evaluation.stop
        return "stopped" if stop and self.evaluations and stop(self.evaluations) else None

    def latest(self) -> dict[str, str]:
        """For the bar."""
        newest = self.evaluations[-1] if self.evaluations else {}
        first = next((name for name in newest if name != "step"), None)  # more do not fit beside the bar
        values = {"loss": self.history[-1]["loss"]} | ({first: newest[first]} if first else {})
        return {name: f"{value:.3g}" for name, value in values.items()}

    def result(self, ended: Ended) -> Result:
        return Result(self.state, self.history, self.evaluations, ended)

    def _load(self) -> Any:
        start, stop = self.step, min(self.step + self.chunk, self.steps)
        batches = jax.tree.map(np.asarray, self.batches(start, stop))
        for path, leaf in jax.tree_util.tree_flatten_with_path(batches)[0]:
            if leaf.ndim == 0 or len(leaf) != stop - start:
                name = f"batches({start}, {stop}){jax.tree_util.keystr(path)}"
                raise ValueError(
                    f"{name} has shape {leaf.shape}, expected ({stop - start}, batch, ...), a batch a step"
                )
        self._check_divisible("a chunk of batches", batches, 1)
        return place(batches, self.rule.mesh, CHUNK)

    def _check_divisible(self, name: str, tree: Any, axis: int) -> None:
        if self.rule.mesh or self.rule.accumulate > 1:
            check_divisible(name, tree, axis, self.rule.mesh, self.rule.accumulate)


@functools.partial(jax.jit, static_argnames="optimizer")
def _initial_copy(params: Any, optimizer: optax.GradientTransformation, carry: Any, key: Array) -> TrainState:
    """Copies, since `run_chunk` is given its arguments' buffers: the caller's own arrays live on."""
    return jax.tree.map(jnp.copy, initial_state(params, optimizer, carry, key))


def _check_types(optimizer: Any, batches: Any, mesh: Any, folder: Any, evaluation: Any) -> None:
    expected = {
        "optimizer": (
            optimizer,
            optax.GradientTransformation,
            "an optax.GradientTransformation, such as optax.adam(0.01)",
        ),
        "batches": (batches, Callable, "a function (start, stop) -> arrays, such as training.shuffled makes"),
        "mesh": (mesh, Mesh | None, "a mesh from training.data_mesh"),
        "folder": (folder, RunFolder | None, "a training.RunFolder"),
        "evaluation": (evaluation, Evaluation | None, "a training.Evaluation"),
    }
    for name, (value, kind, words) in expected.items():
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be {words}, got {type(value).__name__}")
    check_mesh(mesh)


def _check_intervals(
    steps: int, chunk: int, accumulate: int, evaluation: Evaluation | None, folder: RunFolder | None
) -> None:
    for name, value in (("steps", steps), ("chunk", chunk), ("accumulate", accumulate)):
        check_int(name, value)
    for name, record in (("evaluation", evaluation), ("folder", folder)):
        if record and record.every is not None and record.every % chunk:
            raise ValueError(f"{name}.every must be a multiple of chunk={chunk}, got {record.every}")


def _write(folder: RunFolder | None, rows: list[Row]) -> None:
    if folder:
        folder.write(rows)


def _any_process(*flags: bool) -> tuple[bool, ...]:
    """Each flag, where any of the processes raised it: they stop together or not at all."""
    if jax.process_count() == 1:
        return flags
    return tuple(multihost_utils.process_allgather(np.array(flags)).any(axis=0).tolist())


def _bar(steps: int, done: int, progress: bool) -> tqdm:
    quiet = None if progress and jax.process_index() == 0 else True  # None: on a terminal only
    return tqdm(total=steps, initial=done, unit="step", disable=quiet, dynamic_ncols=True)


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; a second one interrupts at once. SIGINT stays ignored where it is so."""
    interrupted = threading.Event()
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as in what a shell script starts with `&`
    if ignored or threading.current_thread() is not threading.main_thread():
        yield interrupted  # signals reach the main thread alone
        return

    def handle(signum: int, frame: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)
