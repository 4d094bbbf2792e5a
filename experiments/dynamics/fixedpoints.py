"""The subcommand `fixedpoints`: a network learns to hold bits, and the states with which it does so are found."""

import argparse
import dataclasses
import functools
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrnn import dynamics, training

from .. import _memory, _run
from .._command import Subparsers, add_parser
from . import flip_flop
from .flip_flop import CELLS, Batches, Gradient, Network

PICTURE = "fixedpoints.png"
RESULTS = "fixedpoints.json"
FILES = (PICTURE, RESULTS, "metrics.jsonl", "checkpoints")

BATCH, LENGTH = 32, 60
RATE, MAX_NORM = 3e-3, 1.0
CHUNK = 100
DRAWN = 16  # trajectories in the picture
NOISE = 0.3  # standard deviation of what is added to a state to make a candidate

DESCRIPTION = f"""\
Train a network to hold bits, find its fixed points, and draw them among its trajectories (Sussillo and Barak 2013).

Each input is silent but for pulses of 1 or -1, at a step in ten; each output is to say which pulse its input last
heard. So for b bits 2^b states have to be stable while no input comes. The network is trained from scratch: Adam
({RATE:g}, gradients clipped to a norm of {MAX_NORM:g}) on fresh batches of {BATCH} sequences of {LENGTH} steps. Then the states that a step without
input leaves where they are are sought from candidates: states of fresh sequences, with noise of {NOISE:g}.
"""  # noqa: E501

EPILOG = f"""\
files in DIR:
  {PICTURE}   trajectories on three principal axes, with stable points, other fixed points and the directions
                    in which they are left
  {RESULTS}  arguments, error, and of each point its kind, q, eigenvalues and what is read out there
  metrics.jsonl     a line a step of training: loss, norm of the gradient
  checkpoints/      the trained network; python -m experiments.report DIR reports on it

Ctrl-C in the training goes on with the network as it is.
"""


def add(subparsers: Subparsers) -> None:
    """Its parser."""
    parser = add_parser(subparsers, "fixedpoints", "fixed points of a network that holds bits", DESCRIPTION, EPILOG)
    parser.add_argument("--cell", choices=CELLS, default="rnn", help="default: rnn")
    parser.add_argument("--bits", type=_bits, default=3, metavar="B", help="from 1 to 8 (default: 3)")
    parser.add_argument("--hidden", type=_run.positive, default=64, metavar="H", help="units (default: 64)")
    parser.add_argument("--steps", type=_run.positive, default=3000, metavar="N", help="of training (default: 3000)")
    parser.add_argument("--candidates", type=_run.positive, default=1024, metavar="C", help="default: 1024")
    parser.add_argument("--seed", type=_run.seed, default=0, metavar="S", help="of all that is random (default: 0)")


def _bits(text: str) -> int:
    return _run.whole(text, 1, 8)


def check(arguments: argparse.Namespace) -> None:
    """An error if the training or the candidates would not fit."""
    network = _network(arguments)
    flip_flop.check_memory("--hidden", network, LENGTH, BATCH, optimizer())
    state = _memory.shapes("--hidden", lambda: network.cell.initial_state(network.init(jax.random.key(0))["cell"]))
    numbers = sum(a.size for a in jax.tree.leaves(state))
    _memory.check_bytes("--candidates or --hidden", 4 * numbers * (25 * arguments.candidates + 4 * 64 * numbers))


def run(arguments: argparse.Namespace, folder: pathlib.Path) -> int:
    """Train, search, print, draw; the exit status."""
    start = time.perf_counter()
    network = _network(arguments)
    result = training.fit(
        training.StepGradient(Gradient(network)),
        _run.init(network, jax.random.key(arguments.seed)),
        optimizer(),
        Batches(arguments.seed, LENGTH, BATCH, arguments.bits),
        arguments.steps,
        chunk=min(CHUNK, arguments.steps),
        folder=training.RunFolder(folder, {"experiment": "dynamics fixedpoints", **dataclasses.asdict(network)}),
    )
    params = result.state.params
    held_out = flip_flop.draw(np.random.default_rng((arguments.seed, 2**32)), LENGTH, 64 * BATCH, arguments.bits)
    error = float(flip_flop.error(network, params, held_out))
    print(f"{network.kind} of {network.hidden} units after {result.state.step:,} steps: mean squared error {error:.2g}")
    states = flip_flop.states(network, params, held_out.xs)
    found = dynamics.fixed_points(
        network.cell,
        params["cell"],
        jnp.zeros(arguments.bits),
        _candidates(states, arguments.candidates, arguments.seed),
    )
    outputs = np.asarray(network.read(params, jax.tree.map(jnp.asarray, found.points)))
    print(found)
    print(_kinds(found))
    held = {tuple(np.sign(output).astype(int)) for output in outputs[found.stable]}
    print(f"{len(held)} of the {2**arguments.bits} combinations of bits are held by a stable point")
    record = {"arguments": vars(arguments), "error": error, "seconds": time.perf_counter() - start}
    record |= {"held": len(held), **_as_json(found, outputs)}
    _run.write_json(folder / RESULTS, record)
    with _run.replacing(folder / PICTURE) as path:
        found.plot(_flat(states)[:, :DRAWN].swapaxes(0, 1)).savefig(path, format="png", dpi=100)
    print(f"\n{folder}: {PICTURE}, {RESULTS}")
    return _run.STATUS.get(result.ended, 0)


def _network(arguments: argparse.Namespace) -> Network:
    return Network(arguments.cell, arguments.hidden, arguments.bits)


@functools.cache
def optimizer() -> optax.GradientTransformation:
    """Adam, gradients clipped."""
    return optax.chain(training.log_clipping(optax.clip_by_global_norm(MAX_NORM)), optax.adam(RATE))


def _candidates(states: Any, count: int, seed: int) -> Any:
    """So many of the states (T, B, ...), with noise."""
    rng = np.random.default_rng((seed, 1))
    steps, batch = jax.tree.leaves(states)[0].shape[:2]
    times, sequences = rng.integers(steps, size=count), rng.integers(batch, size=count)
    return jax.tree.map(
        lambda a: jnp.asarray(a[times, sequences] + NOISE * rng.normal(size=(count, *a.shape[2:])), a.dtype), states
    )


def _flat(states: Any) -> np.ndarray:
    """(T, B, n) as `fixed_points` flattens a state."""
    return np.concatenate([np.asarray(a).reshape(*a.shape[:2], -1) for a in jax.tree.leaves(states)], axis=-1)


def _kinds(found: dynamics.FixedPoints) -> str:
    """How many fixed points there are by the number of directions that grow."""
    unstable = found.unstable[found.is_fixed]
    parts = [
        f"{number} with {count} growing directions" for count, number in enumerate(np.bincount(unstable)) if number
    ]
    return f"fixed points: {', '.join(parts) or 'none'}"


def _as_json(found: dynamics.FixedPoints, outputs: np.ndarray) -> dict[str, Any]:
    points = [
        {
            "kind": "stable" if stable else "fixed" if fixed else "slow",
            "q": float(speed),
            "candidates": int(count),
            "output": [round(float(value), 4) for value in output],
            "growing": int(unstable),
            "eigenvalues": [[round(float(value.real), 5), round(float(value.imag), 5)] for value in eigenvalues[:8]],
        }
        for stable, fixed, speed, count, output, unstable, eigenvalues in zip(
            found.stable,
            found.is_fixed,
            found.speeds,
            found.counts,
            outputs,
            found.unstable,
            found.eigenvalues,
            strict=True,
        )
    ]
    return {"did_not_converge": int(np.sum(found.of_candidates < 0)), "points": points}
