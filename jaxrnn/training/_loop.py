"""`fit`: steps in compiled chunks, and what happens between them."""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import optax
from jax import Array
from jax.sharding import Mesh
from tqdm import tqdm

from .._core.checks import check_arrays, check_bool, check_function, check_int, check_optional_key
from ._batches import Batches
from ._evaluation import Evaluation
from ._folder import Row, RunFolder, opened
from ._gradient import Loss, StepGradient, gradient_of
from ._mesh import check_mesh
from ._processes import is_first, of_all
from ._run import Ended, NonFiniteLossError, Result, Run, initial_copy, kept
from ._signals import asked_to_stop
from ._step import Rule, TrainState, check_optimizer

OnChunk: TypeAlias = Callable[[list[Row], TrainState], bool | None]
_PRESSING: tuple[Ended | None, ...] = (None, "stopped", "interrupted", "terminated")


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
      on_chunk: `(rows, state) -> bool | None`, called after each chunk with its rows and a copy of the state; True
        stops.
      progress: a bar with loss, steps a second and time left, on a terminal only.

    Ctrl-C or SIGTERM ends the training after the chunk that runs, with a checkpoint; a second one does what it does
    elsewhere. Of several processes it is enough if one gets the signal.

    Returns:
      `Result`: the state (step, params, opt_state, carry, key), the rows of all steps, the evaluations, how it ended,
      the best parameters if the evaluation keeps them, or the one of a run that was resumed did.

    Raises:
      NonFiniteLossError: names the step; checkpoints stay as they were, the result so far is in its `result`.
      ValueError: intervals that chunk does not divide, batches of wrong shapes, a loss that is no scalar, grads that
        are not like params.
      TypeError: an argument is of the wrong type; what loss returns is not (value, (carry, metrics)).
      RunFolderError, CheckpointError: see `RunFolder`.

    Example: see `jaxrnn.training`.
    """
    gradient = gradient_of(loss)
    check_optimizer(optimizer)
    _check_functions(batches, on_chunk)
    check_mesh(mesh)
    _check_records(folder, evaluation)
    check_bool("progress", progress)
    check_arrays("params", params)
    check_arrays("carry", carry)
    check_optional_key("key", key)
    _check_intervals(steps, chunk, accumulate, evaluation, folder)
    rule = Rule(gradient, optimizer, accumulate, mesh)
    run = Run(rule, batches, steps, chunk, evaluation)
    run.check("carry", carry, 0)
    begin = functools.partial(initial_copy, params, optimizer, carry, jax.random.key(0) if key is None else key)
    with opened(folder, jax.eval_shape(begin), mesh) as disk, asked_to_stop() as signalled:
        run.begin(begin, disk.resumed)
        with _bar(steps, run.step, progress) as bar:
            ended = run.ended()
            while not ended:
                rows, bad = run.advance()
                disk.write(rows)
                if bad:
                    raise NonFiniteLossError(bad, run.result("stopped"))
                asked = on_chunk is not None and bool(on_chunk(rows, kept(run.state)))
                if evaluation and (run.step == steps or run.step % (evaluation.every or steps) == 0):
                    disk.write([run.evaluate(evaluation)])
                stopped = _of_all_processes(signalled() or ("stopped" if asked else None))
                ended = run.ended() or stopped
                if ended or (folder and folder.every and run.step % folder.every == 0):
                    disk.save(run.state, run.best)
                bar.set_postfix(run.latest(), refresh=False)
                bar.update(len(rows))
    return run.result(ended)


def _check_functions(batches: Any, on_chunk: Any) -> None:
    check_function("batches", batches, "start, stop", "arrays, as from training.shuffled")
    if on_chunk is not None:
        check_function("on_chunk", on_chunk, "rows, state", "bool or None")


def _check_records(folder: Any, evaluation: Any) -> None:
    expected = {
        "folder": (folder, RunFolder | None, "a training.RunFolder"),
        "evaluation": (evaluation, Evaluation | None, "a training.Evaluation"),
    }
    for name, (value, kind, words) in expected.items():
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be {words}, got {type(value).__name__}")


def _check_intervals(
    steps: int, chunk: int, accumulate: int, evaluation: Evaluation | None, folder: RunFolder | None
) -> None:
    for name, value in (("steps", steps), ("chunk", chunk), ("accumulate", accumulate)):
        check_int(name, value)
    for name, record in (("evaluation", evaluation), ("folder", folder)):
        if record and record.every is not None and record.every % chunk:
            raise ValueError(f"{name}.every must be a multiple of chunk={chunk}, got {record.every}")


def _of_all_processes(ended: Ended | None) -> Ended | None:
    """What the most pressing of the processes asks for: they stop together or not at all."""
    return _PRESSING[int(of_all(_PRESSING.index(ended)).max())]


def _bar(steps: int, done: int, progress: bool) -> tqdm:
    quiet = None if progress and is_first() else True  # None: on a terminal only
    return tqdm(total=steps, initial=done, unit="step", disable=quiet, dynamic_ncols=True)
