"""The subcommand `training`: exponents, gradient norms and loss while networks learn, and which of them break."""

import argparse
import functools
import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxrnn import dynamics, training

from .. import _ensemble, _memory, _run
from .._command import Subparsers, add_parser
from . import flip_flop, training_picture
from .flip_flop import Batches, Gradient, Network

PICTURE = "training.png"
RESULTS = "training.json"
FILES = (PICTURE, RESULTS, "metrics.jsonl", "checkpoints")

GAINS = (0.5, 1.0, 1.5, 2.5)  # of the recurrent weights at the start
BITS, BATCH, LENGTH = 3, 32, 60
EXPONENTS = 4
WARMUP, MEASURED, INPUTS = 100, 500, 4  # steps, and sequences of inputs, for the exponents
BREAKS = 2.0  # times the least loss so far
CHANCE = 1.0  # the loss of an output that is always 0
LEARNT = 0.05

DESCRIPTION = f"""\
Lyapunov exponents, gradient norms and loss over the course of training: where does it break, and did the spectrum say
so before the loss did?

Networks of tanh units learn to hold {BITS} bits (see `fixedpoints`) side by side, from recurrent weights N(0, g²/N) with
g = {", ".join(map(str, GAINS))}, by Adam without clipping on batches of {BATCH} sequences of {LENGTH} steps. Every --every steps their {EXPONENTS}
largest exponents are measured, driven by fresh inputs of the task, the mean over {INPUTS} sequences of {MEASURED} steps.

A training breaks where the mean loss between two measurements is above {BREAKS:g} times the least one before, and at
least halfway back to chance; the task is learnt where that is below {LEARNT:g}.
"""  # noqa: E501

EPILOG = f"""\
files in DIR:
  {PICTURE}   for each g: exponents, norm of the gradient, loss
  {RESULTS}  arguments, what was measured, and where each training broke
  metrics.jsonl  a line a step: losses and norms of the gradients
  checkpoints/   the networks at the end; python -m experiments.report DIR reports on them

Ctrl-C ends early; both files are written with what is there.
"""


class Course(NamedTuple):
    """What was measured of all networks, before the first step and after every so many."""

    steps: list[int]
    exponents: list[np.ndarray]  # (networks, EXPONENTS)
    losses: list[np.ndarray]  # (networks,) means since the measurement before
    norms: list[np.ndarray]  # (networks,) the largest since then


def add(subparsers: Subparsers) -> None:
    """Its parser."""
    parser = add_parser(subparsers, "training", "exponents, gradients and loss over training", DESCRIPTION, EPILOG)
    parser.add_argument("--hidden", type=_units, default=64, metavar="H", help="units (default: 64)")
    parser.add_argument("--steps", type=_run.positive, default=3000, metavar="N", help="of training (default: 3000)")
    parser.add_argument("--every", type=_run.positive, default=50, metavar="N", help="a divisor (default: 50)")
    parser.add_argument("--lr", type=_run.above_zero, default=0.03, metavar="R", help="Adam's (default: 0.03)")
    parser.add_argument("--seed", type=_run.seed, default=0, metavar="S", help="of all that is random (default: 0)")


def _units(text: str) -> int:
    value = _run.positive(text)
    if value < EXPONENTS:
        raise argparse.ArgumentTypeError(f"expected at least {EXPONENTS} units, got {_run.shown(text)}")
    return value


def check(arguments: argparse.Namespace) -> None:
    """An error if the interval divides nothing, or the trainings would not fit."""
    if arguments.steps % arguments.every:
        raise _run.UserError(f"--every must divide --steps ({arguments.steps}), got {arguments.every}")
    network = _network(arguments)

    def begin() -> Any:
        return initial(network, _keys(arguments)), None, _for_all(Batches(0, LENGTH, BATCH, BITS)(0, 1), first=True)

    _memory.check_training("--hidden", _gradient(network), optimizer(arguments.lr), begin)


def run(arguments: argparse.Namespace, folder: pathlib.Path) -> int:
    """Train, measure, draw; the exit status."""
    start = time.perf_counter()
    network, course = _network(arguments), Course([], [], [], [])
    params = initial(network, _keys(arguments))
    inputs = jnp.asarray(
        flip_flop.draw(np.random.default_rng((arguments.seed, 2**32)), WARMUP + MEASURED, INPUTS, BITS).xs
    )
    batches = Batches(arguments.seed, LENGTH, BATCH, BITS)

    def measure(rows: list[dict[str, Any]], state: training.TrainState) -> None:
        course.steps.append(int(state.step))
        course.exponents.append(np.asarray(_exponents(network, state.params, inputs)))
        course.losses.append(np.mean([row["losses"] for row in rows], axis=0))
        course.norms.append(np.max([row["norm"] for row in rows], axis=0))

    result = training.fit(
        _gradient(network),
        params,
        optimizer(arguments.lr),
        lambda start, stop: _for_all(batches(start, stop)),
        arguments.steps,
        chunk=arguments.every,
        on_chunk=measure,
        folder=training.RunFolder(
            folder, {"experiment": "dynamics training", "hidden": arguments.hidden, "lr": arguments.lr}
        ),
    )
    at_start = np.asarray(_exponents(network, params, inputs))
    findings = [_finding(course, at_start, index) for index in range(len(GAINS))]
    print(_table(course, at_start, findings))
    record = {"arguments": vars(arguments), "seconds": time.perf_counter() - start}
    _run.write_json(folder / RESULTS, record | _as_json(course, at_start, findings))
    with _run.replacing(folder / PICTURE) as path:
        training_picture.draw(path, GAINS, course, at_start, findings, verdict)
    print(f"\n{folder}: {PICTURE}, {RESULTS}")
    return _run.STATUS.get(result.ended, 0)


def _network(arguments: argparse.Namespace) -> Network:
    return network_of(arguments.hidden)


def network_of(hidden: int) -> Network:
    """What is trained."""
    return Network("rnn", hidden, BITS)


def _keys(arguments: argparse.Namespace) -> Array:
    """One, for all networks: they differ in gain alone."""
    return jax.random.key(arguments.seed)


@functools.partial(jax.jit, static_argnums=0)
def initial(network: Network, key: Array) -> Any:
    """Parameters of all networks, (networks, ...) per leaf."""
    key_params, key_weights = jax.random.split(key)
    params = network.init(key_params)
    normal = jax.random.normal(key_weights, params["cell"].weight_hh.shape) / network.hidden**0.5

    def with_gain(gain: Array) -> Any:
        return {**params, "cell": params["cell"]._replace(weight_hh=gain * normal)}

    return jax.vmap(with_gain)(jnp.array(GAINS))


@functools.cache
def _gradient(network: Network) -> training.StepGradient:
    return _ensemble.gradient(Gradient(network))


@functools.cache
def optimizer(rate: float) -> optax.GradientTransformation:
    """Adam for each network."""
    return _ensemble.optimizer(optax.adam(rate))


def _for_all(batches: flip_flop.Batch, *, first: bool = False) -> flip_flop.Batch:
    """The same (steps, ...) for all networks, (steps, networks, ...); `first`: of the first step alone."""
    wide = jax.tree.map(lambda a: np.repeat(a[:, None], len(GAINS), axis=1), batches)
    return jax.tree.map(lambda a: jnp.asarray(a[0]), wide) if first else wide


@functools.partial(jax.jit, static_argnums=0)
def _exponents(network: Network, params: Any, inputs: Array) -> Array:
    """(networks, EXPONENTS), the mean over the sequences of inputs (T, INPUTS, bits)."""

    def of_one(cell: Any, xs: Array) -> Array:
        state = network.cell.initial_state(cell)
        return dynamics.lyapunov_spectrum(network.cell, cell, state, xs, EXPONENTS, WARMUP)

    of_network = jax.vmap(of_one, (None, 1))
    return jnp.mean(jax.vmap(of_network, (0, None))(params["cell"], inputs), axis=1)


class Finding(NamedTuple):
    """Where a training broke, and what came before; steps, None for never."""

    broke: int | None  # the measurement that showed it
    least: float  # loss before, or at all
    chaotic: int | None  # the first measurement with a positive exponent, 0 for before the first step


def _finding(course: Course, at_start: np.ndarray, index: int) -> Finding:
    losses = np.array(course.losses)[:, index]
    largest = np.array([at_start, *course.exponents])[:, index, 0]
    least = np.minimum.accumulate(losses)
    breaks = losses[1:] > np.maximum(BREAKS * least[:-1], (least[:-1] + CHANCE) / 2)
    at = int(breaks.argmax()) + 1 if breaks.any() else None
    chaotic = int((largest > 0).argmax()) if (largest > 0).any() else None
    return Finding(
        None if at is None else course.steps[at],
        float(least[-1] if at is None else least[at - 1]),
        None if chaotic is None else [0, *course.steps][chaotic],
    )


def _table(course: Course, at_start: np.ndarray, findings: list[Finding]) -> str:
    heads = (
        "g",
        "exponent at first",
        "at last",
        "positive after",
        "largest gradient",
        "least loss",
        "last loss",
        "broke after",
    )
    lines = ["  ".join(f"{head:>{max(8, len(head))}}" for head in heads)]
    for index, (gain, finding) in enumerate(zip(GAINS, findings, strict=True)):
        cells = (
            f"{gain}",
            f"{at_start[index, 0]:.4f}",
            f"{course.exponents[-1][index, 0]:.4f}",
            _when(finding.chaotic),
            f"{max(norms[index] for norms in course.norms):.3g}",
            f"{min(losses[index] for losses in course.losses):.3g}",
            f"{course.losses[-1][index]:.3g}",
            _when(finding.broke),
        )
        lines.append("  ".join(f"{cell:>{max(8, len(head))}}" for cell, head in zip(cells, heads, strict=True)))
    return "\n".join(
        [*lines, "", *(f"g = {gain}: {verdict(finding)}" for gain, finding in zip(GAINS, findings, strict=True))]
    )


def _when(step: int | None) -> str:
    return "never" if step is None else f"{step:,}"


def verdict(finding: Finding) -> str:
    """Where it broke, and whether the spectrum had said so, in words."""
    exponent = "the largest exponent was never above 0"
    if finding.chaotic is not None:
        exponent = f"the largest exponent was first above 0 after {finding.chaotic:,} steps"
    if finding.broke is None:
        return f"{'learnt' if finding.least < LEARNT else 'did not learn, nor break'}; {exponent}"
    warned = finding.chaotic is not None and finding.chaotic < finding.broke
    return f"broke by step {finding.broke:,}; {exponent}: {'it said so before' if warned else 'it did not say so'}"


def _as_json(course: Course, at_start: np.ndarray, findings: list[Finding]) -> dict[str, Any]:
    def of(arrays: list[np.ndarray], index: int) -> list[Any]:
        return _run.rounded(np.array(arrays, float)[:, index].tolist())

    return {
        "after_steps": course.steps,
        "networks": [
            {
                "gain": gain,
                "exponents_before": _run.rounded(at_start[index].astype(float).tolist()),
                "largest_exponents": of([values[:, 0] for values in course.exponents], index),
                "losses": of(course.losses, index),
                "largest_gradients": of(course.norms, index),
                **findings[index]._asdict(),
            }
            for index, gain in enumerate(GAINS)
        ],
    }
