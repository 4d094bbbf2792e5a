"""The subcommand `online`: two tasks learnt from endless streams, by every online learner, in equal seconds."""

import argparse
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from jaxrnn import gradients, training

from .. import _memory, _run
from .._command import Subparsers, add_parser
from . import online_picture
from .networks import CELLS
from .online_tasks import (
    HELD_OUT_LONGEST,
    LEARNT,
    LONGEST,
    SPREAD,
    Stream,
    Task,
    copying,
    init,
    missing,
    problem_of,
    reading,
)

PICTURE, RESULTS = "online.png", "online.json"
FILES = (PICTURE, RESULTS)
COPY, TEXT = "copy", "text"
APART = 1.1  # from one time that is noted to the next
_ENDLESS = 10**6  # compiled calls
_NUMBERS = 4  # that a symbol is at the same time: one-hot and itself, of this call and the next


class Way(NamedTuple):
    """A learner, and how it is used."""

    make: Callable[..., gradients.Learner]
    rates: dict[str, float]  # by task: of Adam, the best of 0.001, 0.003, 0.01, 0.03 (results/online-rates)
    every: int = 1  # steps of the stream to an update of the parameters
    steps: int = 500  # of the stream to a compiled call


_online = gradients.online
LEARNERS: dict[str, Way] = {
    "bptt 50": Way(functools.partial(_online.tbptt, k1=50, k2=50), {COPY: 3e-3, TEXT: 1e-2}, every=50),
    "tbptt 10, 10": Way(functools.partial(_online.tbptt, k1=10, k2=10), {COPY: 1e-2, TEXT: 3e-3}, every=10),
    "tbptt 1, 10": Way(functools.partial(_online.tbptt, k1=1, k2=10), {COPY: 3e-3, TEXT: 3e-3}),
    "dni 5": Way(functools.partial(_online.dni, k=5), {COPY: 3e-3, TEXT: 3e-3}, every=5),
    "rtrl": Way(_online.rtrl, {COPY: 1e-2, TEXT: 1e-2}, steps=50),
    "snap 1": Way(_online.snap, {COPY: 1e-2, TEXT: 3e-3}),
    "eprop": Way(_online.eprop, {COPY: 1e-2, TEXT: 3e-3}),
    "rflo": Way(functools.partial(_online.rflo, feedback="random"), {COPY: 3e-3, TEXT: 3e-3}),
    "uoro": Way(_online.uoro, {COPY: 1e-2, TEXT: 1e-3}),
    "kf_rtrl": Way(_online.kf_rtrl, {COPY: 3e-3, TEXT: 1e-3}),
    "ok": Way(_online.ok, {COPY: 1e-3, TEXT: 3e-3}),
}
HEAVIEST = ("bptt 50", "rtrl", "ok")  # of windows, of influence, of matrices to be decomposed

DESCRIPTION = f"""\
Learn two tasks online: from endless streams that are never unrolled, by each learner of jaxrnn.gradients.online, for
the same wall time, compilation left out (as in arXiv:2006.07232 and arXiv:1805.10842).

  {COPY}   strings of two symbols are heard and then said again, one after another. They are of 1 symbol at first; the
         longest may be one longer whenever less than {LEARNT} bits are missing of a symbol, and the others are up to
         {SPREAD} shorter. Measured by the longest string that is learnt, {LONGEST} at most
  {TEXT}   character by character of a text, what is the next one? Measured by the bits that are missing of each, on
         text that is held out

Parameters change at every step, by Adam at a rate that was chosen for each learner and task. For comparison there is
back-propagation through windows of 50 and 10 steps, which changes them once a window ("bptt 50", "tbptt 10, 10"), and
through 10 steps back at every step ("tbptt 1, 10"). "dni 5" guesses what comes after segments of 5 steps, and changes
them once a segment. "rflo" has random feedback, "eprop" the symmetric one. SnAp-2 of these cells is RTRL.
"""

EPILOG = f"""\
files in DIR:
  {PICTURE}   the longest string learnt, and bits of a character, against seconds
  {RESULTS}  arguments, both curves for each learner (of copies also the bits missing of
               strings of {HELD_OUT_LONGEST - SPREAD} to {HELD_OUT_LONGEST} symbols), what its rates came to

Ctrl-C ends early; the files are written with what is there.
"""


class Learnt(NamedTuple):
    """What became of a training."""

    rate: float
    points: online_picture.Points

    def score(self) -> tuple[bool, int, float]:
        """The higher the better: at the end, and one that failed is worse than any other."""
        points = self.points
        return (not points.failed, points.longest[-1], -points.bits[-1]) if points.bits else (False, -1, 0.0)


Found = dict[str, dict[str, list[Learnt]]]  # by task and learner, at each rate


def add(subparsers: Subparsers) -> None:
    """Its parser."""
    parser = add_parser(subparsers, "online", "two tasks learnt from streams in equal seconds", DESCRIPTION, EPILOG)
    data = parser.add_argument_group("network and data")
    data.add_argument(
        "--text", type=_run.path, metavar="PATH", help="a UTF-8 file, or a folder of them (default: Python's library)"
    )
    data.add_argument("--cell", choices=CELLS, default="gru", help="default: gru")
    data.add_argument("--hidden", type=_run.positive, default=32, metavar="H", help="hidden units (default: 32)")
    data.add_argument("--batch", type=_run.positive, default=8, metavar="B", help="streams (default: 8)")
    parser.add_argument(
        "--seconds", type=_run.positive, default=8, metavar="S", help="for each learner and task (default: 8)"
    )
    parser.add_argument(
        "--lr",
        nargs="+",
        type=_run.above_zero,
        metavar="R",
        help="rates to try, of which each learner keeps its best (default: of 0.001, 0.003, 0.01, 0.03 what was best)",
    )
    parser.add_argument("--seed", type=_run.seed, default=0, metavar="S", help="of all that is random (default: 0)")


def check(arguments: argparse.Namespace) -> None:
    """An error if the text is too short, or the learners that take the most would not fit."""
    flags = "--hidden or --batch"
    task = reading(arguments.text)
    symbols = arguments.batch * max(way.steps for way in LEARNERS.values())
    _memory.check_bytes(flags, 4 * _NUMBERS * symbols * (1 + task.inputs))
    for way in (LEARNERS[name] for name in HEAVIEST):
        gradient = _gradient(arguments, task, way)
        batch = jax.tree.map(lambda a: a[0], task.stream(arguments.batch, way.every, 0).batches(0, 1))
        with _memory.own_limits():
            begin = functools.partial(_begin, arguments, task, gradient)
            _memory.check_training(flags, gradient, optax.adam(1.0), lambda begin=begin, batch=batch: (*begin(), batch))
    params = _memory.shapes(flags, lambda: init(arguments.cell, arguments.hidden, task, jax.random.key(0)))
    measure = functools.partial(missing, arguments.cell, arguments.hidden, task.outputs)
    _memory.check(flags, measure, params, jax.tree.map(jnp.asarray, task.held_out))


def run(arguments: argparse.Namespace, folder: pathlib.Path) -> int:
    """Train, print, draw; the exit status."""
    tasks = {COPY: copying(), TEXT: reading(arguments.text)}
    found: Found = {task: {} for task in tasks}
    plan = [
        (task, name, rate)
        for task in tasks
        for name, way in LEARNERS.items()
        for rate in arguments.lr or [way.rates[task]]
    ]
    with _run.until_interrupted() as ending:
        for task, name, rate in tqdm(plan, disable=None, leave=False):
            learnt = Learnt(rate, online_picture.Points([], [], [], [], []))
            found[task].setdefault(name, []).append(learnt)
            _learn(arguments, tasks[task], LEARNERS[name], rate, learnt.points)
    _tell(found)
    _write(folder, arguments, tasks, found)
    return ending.status


def _gradient(arguments: argparse.Namespace, task: Task, way: Way) -> training.StepGradient:
    return training.over_streams(way.make(problem_of(arguments.cell, arguments.hidden, task.outputs)))


def _begin(arguments: argparse.Namespace, task: Task, gradient: training.StepGradient) -> tuple[Any, Any]:
    """Parameters, and the carry of streams that begin."""
    key, key_learner = jax.random.split(jax.random.key(arguments.seed))
    params = init(arguments.cell, arguments.hidden, task, key)
    state = CELLS[arguments.cell].initial_state(params["cell"], (arguments.batch,))
    return params, gradient.init(params, state, jnp.zeros((arguments.batch, task.inputs)), key_learner)


def _learn(arguments: argparse.Namespace, task: Task, way: Way, rate: float, points: online_picture.Points) -> None:
    """Train for the time that is given, and note what is learnt; what measuring takes is not counted."""
    gradient, chunk = _gradient(arguments, task, way), way.steps // way.every
    stream, kept = task.stream(arguments.batch, way.every, arguments.seed), []
    params, carry = _begin(arguments, task, gradient)
    fit = functools.partial(training.fit, gradient, params, optax.adam(rate), stream.batches)
    options = {"carry": carry, "chunk": chunk, "progress": False}
    note = functools.partial(_note, arguments.seconds, way, stream, points, kept)
    try:
        _run.raise_if_asked(fit(chunk, **options).ended)  # compiles
        _run.raise_if_asked(fit(_ENDLESS * chunk, on_chunk=note, **options).ended)
    except training.NonFiniteLossError as error:
        points.failed.append(str(error))
    finally:
        measure = functools.partial(missing, arguments.cell, arguments.hidden, task.outputs, held_out=task.held_out)
        points.bits.extend(float(measure(params)) for params in kept)


def _note(
    until: int,
    way: Way,
    stream: Stream,
    points: online_picture.Points,
    kept: list[Any],
    rows: list[dict[str, Any]],
    state: training.TrainState,
) -> bool:
    """Tell the stream how it is going; now and then, and at the end, a point, and the parameters to be measured."""
    longest = stream.heard(float(np.mean([row["loss"] for row in rows])) / way.every)
    seconds = rows[-1]["seconds"]
    if seconds >= until or not kept or seconds > APART * points.seconds[-1]:
        points.steps.append(rows[-1]["step"] * way.every)
        points.seconds.append(seconds)
        points.longest.append(longest)
        kept.append(state.params)
    return seconds >= until


def best(found: dict[str, list[Learnt]]) -> dict[str, Learnt]:
    """Of each learner, its training at the rate that came furthest."""
    return {name: max(each, key=Learnt.score) for name, each in found.items()}


def _tell(found: Found) -> None:
    for task, learners in found.items():
        if not learners:
            continue
        print(f"\n{task:14}{'rate':>8}{'steps':>11}{'seconds':>9}{'longest learnt':>16}{'bits':>8}")
        for name, (rate, points) in best(learners).items():
            if points.bits:
                steps, seconds, longest, bits = (column[-1] for column in points[:4])
                string = longest if task == COPY else ""
                print(f"{name:14}{rate:8g}{steps:11,}{seconds:9.1f}{string:16}{bits:8.3f}")
            for why in points.failed:
                print(f"{name:14}{why}")


def _write(folder: pathlib.Path, arguments: argparse.Namespace, tasks: dict[str, Task], found: Found) -> None:
    levels = {task: tasks[task].levels() for task in tasks}
    drawn = {task: best(learners) for task, learners in found.items()}
    learners = {
        task: {
            name: {"rate": rate, **points._asdict(), "tried": [_tried(other) for other in found[task][name]]}
            for name, (rate, points) in each.items()
        }
        for task, each in drawn.items()
    }
    _run.write_json(folder / RESULTS, {"arguments": vars(arguments), **_run.rounded({"levels": levels, **learners})})
    title = (
        f"learnt online in equal seconds: {arguments.cell}, {arguments.hidden} units, {arguments.batch} streams, "
        f"seed {arguments.seed}"
    )
    copies, texts = ({name: learnt.points for name, learnt in drawn[task].items()} for task in (COPY, TEXT))
    with _run.replacing(folder / PICTURE) as path:
        online_picture.draw(path, title, copies, texts, levels[TEXT])
    print(f"\n{folder}: {PICTURE}, {RESULTS}")


def _tried(learnt: Learnt) -> dict[str, Any]:
    """What a rate came to."""
    ends = {field: (getattr(learnt.points, field) or [None])[-1] for field in ("steps", "longest", "bits")}
    return {"rate": learnt.rate, **ends, "failed": learnt.points.failed}
