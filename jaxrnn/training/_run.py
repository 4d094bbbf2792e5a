"""A run as it stands between two chunks, and what it gives in the end."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from ._batches import Batches, checked_batches
from ._checkpoint import Best
from ._evaluation import Evaluation, check_has, measure
from ._folder import Resumed, Row
from ._mesh import BATCH, CHUNK, REPLICATED, check_divisible, place
from ._signals import Asked
from ._step import Rule, TrainState, initial_state, run_chunk

Ended: TypeAlias = Literal["finished", "stopped"] | Asked


class Result(NamedTuple):
    """What `fit` gives."""

    state: TrainState
    history: list[Row]  # a row a step, those of the resumed run too: step, loss, grad_norm, metrics, seconds
    evaluations: list[Row]  # step, what the evaluation gave, seconds
    ended: Ended
    best: Best | None  # step, value and params, of an evaluation that keeps the best


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


@dataclasses.dataclass
class Run:
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
    best: Best | None = dataclasses.field(init=False)
    began: float = dataclasses.field(init=False)  # on the clock of perf_counter, less the seconds of the runs before
    ahead: Any = None  # the next chunk's batches

    def begin(self, begin: Callable[[], TrainState], resumed: Resumed) -> None:
        """Stand at the first step, or where the folder says that the run is."""
        state, rows, self.best = resumed
        if state is None:
            state = place(begin(), self.rule.mesh, REPLICATED)
            state = state._replace(carry=place(state.carry, self.rule.mesh, BATCH))
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
        params = kept(self.state.params)
        row = {"step": self.step, **measure(evaluation, params)}
        if evaluation.best is not None:
            check_has(row, evaluation.best)
            value = row[evaluation.best]
            if math.isfinite(value) and (self.best is None or value < self.best.value):
                self.best = Best(self.step, value, params)
        row["seconds"] = round(time.perf_counter() - self.began, 3)
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
        """What `fit` gives."""
        return Result(self.state, self.history, self.evaluations, ended, self.best)

    def check(self, name: str, tree: Any, axis: int) -> None:
        """Its batch axis can be spread."""
        if self.rule.mesh or self.rule.accumulate > 1:
            check_divisible(name, tree, axis, self.rule.mesh, self.rule.accumulate)

    def _load(self) -> Any:
        start, stop = self.step, min(self.step + self.chunk, self.steps)
        batches = checked_batches(self.batches, start, stop)
        self.check("a chunk of batches", batches, 1)
        return place(batches, self.rule.mesh, CHUNK)


@functools.partial(jax.jit, static_argnames="optimizer")
def initial_copy(params: Any, optimizer: optax.GradientTransformation, carry: Any, key: Array) -> TrainState:
    """Copies, since `run_chunk` is given its arguments' buffers: the caller's own arrays live on."""
    return jax.tree.map(jnp.copy, initial_state(params, optimizer, carry, key))


@jax.jit
def kept(tree: Any) -> Any:
    """A copy that stays when the next chunk has taken the buffers."""
    return jax.tree.map(jnp.copy, tree)
