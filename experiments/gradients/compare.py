"""The subcommand `compare`: every algorithm on one task, how good its gradient is and how fast it learns."""

import argparse
import dataclasses
import functools
import operator
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from tqdm import tqdm

import jaxrnn as jr
from jaxrnn import gradients, training

from .. import _memory, _run
from .._command import Subparsers, add_parser
from . import compare_picture
from .networks import CELLS

DELAYS = {3: 1.0, 12: 0.5}
LEARNING_RATE = 3e-3
OPTIMIZER = optax.adam(LEARNING_RATE)
UPDATES = 3000
CHUNK = 10  # updates a compiled call
POINTS = 60  # of a curve, at most
_KEY = 20  # bytes that a key takes while many are made

PICTURE, QUALITY, RESULTS = "compare.png", "quality.png", "compare.json"
FILES = (PICTURE, QUALITY, RESULTS)

ALGORITHMS: dict[str, Callable[..., gradients.Gradient]] = {
    "bptt": gradients.bptt,
    "bptt sqrt": functools.partial(gradients.bptt, memory="sqrt"),
    "bptt revolve": functools.partial(gradients.bptt, memory="revolve"),
    "tbptt 5, 5": functools.partial(gradients.tbptt, k1=5, k2=5),
    "tbptt 5, 20": functools.partial(gradients.tbptt, k1=5, k2=20),
    "artbp 0.1": functools.partial(gradients.artbp, cut=0.1),
    "rtrl": gradients.rtrl,
    "snap 1": functools.partial(gradients.snap, order=1),
    "uoro": gradients.uoro,
    "uoro 64": functools.partial(gradients.uoro, samples=64),
    "kf_rtrl": gradients.kf_rtrl,
    "ok": gradients.ok,
    "rflo": functools.partial(gradients.rflo, feedback="random"),
    "eprop": gradients.eprop,
    "dni 5": functools.partial(gradients.dni, k=5, warm=10),
}

TARGET = " + ".join(f"{weight:g} x_(t-{delay})" for delay, weight in DELAYS.items())

DESCRIPTION = f"""\
Compare every gradient algorithm of jaxrnn.gradients on one task.

The task is an echo: a coin is thrown at every step, x_t = ±1, and the network is to say
y_t = {TARGET}; the loss is the mean squared error over the sequence.

  quality    jaxrnn.gradients.compare on one sequence, after some updates with the exact gradient: the table
  learning   from the same untrained parameters and data, Adam at {LEARNING_RATE:g}, a new batch for each update; each
             algorithm for the same wall time, or {UPDATES:,} updates. Short truncations are blind to the longer delay

"rflo" has random feedback, "eprop" the symmetric one. "dni 5" is warm: its synthesizer has been over each sequence 10
times before, which is part of its time.
"""

EPILOG = f"""\
files in DIR:
  {PICTURE:13} both: cosine and relative error, loss against updates and against seconds
  {QUALITY:13} all that the table says, by parameter tensor
  {RESULTS:13} arguments, the table, the curves

Ctrl-C ends early; the files are written with what is there.
"""


class Curve(NamedTuple):
    """A training."""

    losses: list[float]  # before each update, mean over the batch
    seconds: list[float]  # after the compiled call that each was in, since the first began; compilation left out

    def points(self) -> compare_picture.Points:
        """What is drawn of it and written down."""
        ends = np.unique(np.geomspace(1, len(self.losses), POINTS).astype(int))
        means = [float(part.mean()) for part in np.split(np.array(self.losses), ends[:-1])]
        return compare_picture.Points(ends.tolist(), [self.seconds[end - 1] for end in ends], means)


def add(subparsers: Subparsers) -> None:
    """Its parser."""
    parser = add_parser(subparsers, "compare", "every algorithm on one task: quality, learning", DESCRIPTION, EPILOG)
    network = parser.add_argument_group("network and data")
    network.add_argument("--cell", choices=CELLS, default="lstm", help="default: lstm")
    network.add_argument("--hidden", type=_run.positive, default=32, metavar="H", help="hidden units (default: 32)")
    network.add_argument("--steps", type=_run.positive, default=100, metavar="T", help="steps (default: 100)")
    network.add_argument("--batch", type=_run.positive, default=8, metavar="B", help="sequences (default: 8)")
    measuring = parser.add_argument_group("measuring")
    measuring.add_argument(
        "--trained", type=_run.natural, default=300, metavar="N", help="updates before the quality (default: 300)"
    )
    measuring.add_argument(
        "--repeats", type=_run.positive, default=100, metavar="N", help="draws of stochastic ones (default: 100)"
    )
    measuring.add_argument(
        "--seconds", type=_run.natural, default=4, metavar="S", help="of training for each algorithm (default: 4)"
    )
    parser.add_argument("--seed", type=_run.seed, default=0, metavar="S", help="of all that is random (default: 0)")


def check(arguments: argparse.Namespace) -> None:
    """An error if the algorithms that take the most, of time, of influence and of samples, would not fit."""
    flags, problem = "--hidden, --steps, --batch or --repeats", _problem(arguments)

    def initial() -> Any:
        keys = jax.random.split(jax.random.key(0), (1, arguments.batch))
        xs, ys = _echoes(keys, arguments.steps)
        return _init(arguments, keys[0, 0]), None, (xs[0], ys[0])

    for name in ("bptt", "rtrl", "uoro 64"):
        with _memory.own_limits():
            _memory.check_training(flags, training.over_sequences(problem, ALGORITHMS[name]), OPTIMIZER, initial)
    _memory.check_bytes(flags, arguments.repeats * _KEY)


def run(arguments: argparse.Namespace, folder: pathlib.Path) -> int:
    """Measure, print, draw; the exit status."""
    key = jax.random.key(arguments.seed)
    problem, params = _problem(arguments), _init(arguments, jax.random.fold_in(key, 0))
    state, data = CELLS[arguments.cell].initial_state(params["cell"]), jax.random.fold_in(key, 2)
    trainer = functools.partial(_Trainer, arguments, problem, data)
    report = _quality(arguments, problem, trainer("bptt").trained(params), state, jax.random.fold_in(key, 1))
    print(report, flush=True)
    curves: dict[str, Curve] = {}
    with _run.until_interrupted() as ending:
        for name in tqdm(ALGORITHMS if arguments.seconds else (), disable=None, leave=False):
            curves[name] = Curve([], [])
            trainer(name).learn(params, curves[name])
    _tell(curves)
    _write(folder, arguments, report, curves)
    return ending.status


def _problem(arguments: argparse.Namespace) -> gradients.Problem:
    cell, read = CELLS[arguments.cell], jr.Linear(arguments.hidden, 1)

    def output(params: Any, state: Any) -> Array:
        return read.apply(params["out"], cell.output(state))[0]

    def loss(output: Array, y: Array) -> Array:
        return (output - y) ** 2 / arguments.steps

    return gradients.Problem(cell, gradients.OutputLoss(output, loss), operator.itemgetter("cell"))


def _init(arguments: argparse.Namespace, key: Array) -> dict[str, Any]:
    """A network's parameters."""
    key_cell, key_out = jax.random.split(key)
    cell, read = CELLS[arguments.cell], jr.Linear(arguments.hidden, 1)
    return {"cell": cell.init(key_cell, 1, arguments.hidden), "out": read.init(key_out)}


def echo(key: Array, steps: int) -> tuple[Array, Array]:
    """xs (T, 1) and ys (T,) of one sequence."""
    xs = jax.random.rademacher(key, (steps,), float)
    past = [weight * jnp.concatenate([jnp.zeros(delay), xs])[:steps] for delay, weight in DELAYS.items()]
    return xs[:, None], sum(past, jnp.zeros(steps))


def _quality(
    arguments: argparse.Namespace, problem: gradients.Problem, params: Any, state: Any, key: Array
) -> gradients.Comparison:
    key_data, key_draws = jax.random.split(key)
    xs, ys = echo(key_data, arguments.steps)
    return gradients.compare(problem, params, state, xs, ys, ALGORITHMS, key=key_draws, repeats=arguments.repeats)


@dataclasses.dataclass(frozen=True)
class _Trainer:
    """Training with one algorithm; update n sees the same sequences whichever it is."""

    arguments: argparse.Namespace
    problem: gradients.Problem
    key: Array
    name: str

    def trained(self, params: Any) -> Any:
        """The parameters after as many updates as --trained says."""
        steps = self.arguments.trained
        return self._fit(params, steps).state.params if steps else params

    def learn(self, params: Any, curve: Curve) -> None:
        """Train for the time that is given, and note the losses."""
        self._fit(params, CHUNK)  # compiles

        def note(rows: list[dict[str, Any]], state: training.TrainState) -> bool:
            del state
            curve.losses.extend(row["loss"] for row in rows)
            curve.seconds.extend(row["seconds"] for row in rows)
            return curve.seconds[-1] >= self.arguments.seconds

        _run.raise_if_asked(self._fit(params, UPDATES, note).ended)

    def _fit(self, params: Any, steps: int, on_chunk: training.OnChunk | None = None) -> training.Result:
        gradient = training.over_sequences(self.problem, ALGORITHMS[self.name])
        options = {"key": self.key, "chunk": CHUNK, "on_chunk": on_chunk, "progress": False}
        return training.fit(gradient, params, OPTIMIZER, self._batches, steps, **options)

    def _batches(self, start: int, stop: int) -> tuple[Array, Array]:
        keys = jax.random.split(jax.random.fold_in(self.key, start), (stop - start, self.arguments.batch))
        return _echoes(keys, self.arguments.steps)


@functools.partial(jax.jit, static_argnames="steps")
def _echoes(keys: Array, steps: int) -> tuple[Array, Array]:
    """`echo` of each of keys (updates, batch)."""
    return jax.vmap(jax.vmap(lambda key: echo(key, steps)))(keys)


def _tell(curves: dict[str, Curve]) -> None:
    if not curves:
        return
    print(f"\n{'learning':14}{'updates':>9}{'seconds':>9}{'loss of the last tenth':>24}")
    for name, curve in curves.items():
        if curve.losses:
            last = np.mean(curve.losses[-max(1, len(curve.losses) // 10) :])
            print(f"{name:14}{len(curve.losses):9,}{curve.seconds[-1]:9.1f}{last:24.4f}")
    ignorant = sum(weight**2 for weight in DELAYS.values())
    print(f"knowing nothing: {ignorant:g}; the shorter delay alone: {min(DELAYS.values()) ** 2:g}")


def _write(
    folder: pathlib.Path, arguments: argparse.Namespace, report: gradients.Comparison, curves: dict[str, Curve]
) -> None:
    points = {name: curve.points() for name, curve in curves.items() if curve.losses}
    learning = {name: curve._asdict() for name, curve in points.items()}
    measured = _run.rounded({"quality": _without_none(report.to_dict()), "learning": learning})
    _run.write_json(folder / RESULTS, {"arguments": vars(arguments), **measured})
    with _run.replacing(folder / QUALITY) as path:
        report.plot().savefig(path, format="png", dpi=100)
    title = (
        f"{arguments.cell}, {arguments.hidden} units, echo over T={arguments.steps}, seed {arguments.seed}; "
        f"quality after {arguments.trained} updates"
    )
    with _run.replacing(folder / PICTURE) as path:
        compare_picture.draw(path, title, report, points, [min(DELAYS.values()) ** 2])
    print(f"\n{folder}: {PICTURE}, {QUALITY}, {RESULTS}")


def _without_none(tree: Any) -> Any:
    """The dicts without what an algorithm does not have."""
    return {k: _without_none(v) for k, v in tree.items() if v is not None} if isinstance(tree, dict) else tree
