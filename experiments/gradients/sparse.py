"""The subcommand `sparse`: SnAp where it comes from, on a network few of whose weights are there."""

import argparse
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from tqdm import tqdm

from jaxrnn import gradients, training

from .. import _memory, _run
from .._command import Subparsers, add_parser
from . import sparse_picture
from .compare import Curve
from .sparse_copy import FEATURES, Network, copies

LEARNING_RATE = 3e-3
OPTIMIZER = optax.adam(LEARNING_RATE)
CHUNK = 50  # updates a compiled call
HELD_OUT = 256  # sequences of each length
_DRAWN = 9  # bytes that a recurrent weight takes while it is decided which are there

PICTURE, RESULTS = "sparse.png", "sparse.json"
FILES = (PICTURE, RESULTS)

LEARNING: dict[str, Callable[..., gradients.Gradient]] = {
    "bptt": gradients.bptt,
    "snap 1": functools.partial(gradients.snap, order=1),
    "snap 2": functools.partial(gradients.snap, order=2),
}
QUALITY = {**LEARNING, "snap 3": functools.partial(gradients.snap, order=3), "rtrl": gradients.rtrl}

DESCRIPTION = f"""\
Train a GRU with few recurrent weights, at random places, by SnAp-1, SnAp-2 and back-propagation (arXiv:2006.07232).

The task is to copy: bits are heard, 1 to L of them, and said again in the same order; the loss is how many bits are
missing of each bit to be said, 1 for knowing nothing. Adam at {LEARNING_RATE:g}, the same batches for all.

  pattern    which numbers of ∂h'/∂h and of the influence ∂h/∂θ SnAp-1 and SnAp-2 keep: of a dense GRU, 2 keeps all
  quality    jaxrnn.gradients.compare on one sequence of L bits, after some updates by back-propagation: the table
  learning   loss against updates and seconds; at the end, on fresh sequences, for each length
"""

EPILOG = f"""\
files in DIR:
  {PICTURE}    the pattern, the quality, the learning
  {RESULTS}   arguments, what is kept, the table, the curves, bits missing by length

Ctrl-C ends early; the files are written with what is there.
"""


class Learnt(NamedTuple):
    """What became of a training."""

    curve: Curve
    bits: list[float]  # missing at lengths 1 ... L


def add(subparsers: Subparsers) -> None:
    """Its parser."""
    parser = add_parser(subparsers, "sparse", "a sparse GRU by SnAp-1, SnAp-2 and BPTT", DESCRIPTION, EPILOG)
    network = parser.add_argument_group("network and data")
    network.add_argument("--hidden", type=_run.positive, default=64, metavar="H", help="hidden units (default: 64)")
    network.add_argument(
        "--sparsity", type=_run.fraction, default=0.95, metavar="S", help="of recurrent weights missing (default: 0.95)"
    )
    network.add_argument("--longest", type=_run.positive, default=4, metavar="L", help="bits, at most (default: 4)")
    network.add_argument("--batch", type=_run.positive, default=16, metavar="B", help="sequences (default: 16)")
    parser.add_argument("--updates", type=_run.positive, default=2000, metavar="N", help="default: 2000")
    parser.add_argument(
        "--trained", type=_run.positive, default=300, metavar="N", help="updates before the quality (default: 300)"
    )
    parser.add_argument("--seed", type=_run.seed, default=0, metavar="S", help="of all that is random (default: 0)")


def check(arguments: argparse.Namespace) -> None:
    """An error if no weight is left, or the network, a batch, RTRL or what is held out would not fit."""
    flags, key = "--hidden, --longest or --batch", jax.random.key(0)
    inputs = (HELD_OUT * arguments.longest + arguments.batch) * 2 * arguments.longest * FEATURES
    _memory.check_bytes(flags, 4 * inputs + 3 * arguments.hidden**2 * _DRAWN)  # what fits is counted in int32
    network = _network(arguments)
    if not len(network.places[0]):
        raise _run.UserError(f"with --sparsity {arguments.sparsity:g} no recurrent weight is left; take a lower one")

    def initial(sequences: int) -> Any:
        return network.init(key), None, copies(key, jnp.ones(sequences, int), arguments.longest)

    def exactly(params: Any, _: None, batch: Any) -> Any:
        one = jax.tree.map(lambda a: a[0], batch)
        return gradients.rtrl(network.problem, params, jnp.zeros(network.hidden), *one)

    _memory.check(flags, lambda: _batches(key, CHUNK, arguments.batch, arguments.longest))
    gradient = training.over_sequences(network.problem, gradients.bptt)
    _memory.check_training(flags, gradient, OPTIMIZER, functools.partial(initial, arguments.batch))
    params, _, held_out = _memory.shapes(flags, functools.partial(initial, HELD_OUT * arguments.longest))
    _memory.check(flags, network.bits, params, *held_out)
    with _memory.own_limits():
        _memory.check(flags, exactly, params, None, held_out)


def _network(arguments: argparse.Namespace) -> Network:
    return Network(arguments.hidden, arguments.sparsity, arguments.seed)


def run(arguments: argparse.Namespace, folder: pathlib.Path) -> int:
    """Measure, print, draw; the exit status."""
    network = _network(arguments)
    key_init, key_data, key_held_out = jax.random.split(jax.random.key(arguments.seed), 3)
    params = network.init(key_init)
    kept = _kept(network, params)
    learnt: dict[str, Learnt] = {}
    report = None
    with _run.until_interrupted() as ending:
        trained, _ = _train(arguments, network, "bptt", params, key_data, arguments.trained)
        report = _quality(arguments, network, trained, key_held_out)
        print(f"\n{report}", flush=True)
        for name in tqdm(LEARNING, disable=None, leave=False):
            result, curve = _train(arguments, network, name, params, key_data, arguments.updates)
            learnt[name] = Learnt(curve, _bits_by_length(arguments, network, result, key_held_out))
    _tell(arguments, learnt)
    _write(folder, arguments, kept, report, learnt)
    return ending.status


def _kept(network: Network, params: Any) -> dict[str, np.ndarray]:
    """Which numbers of ∂h'/∂h are other than zero, and which of the influence are kept; told."""
    pattern = gradients.sparsity_pattern(network.problem, params, jnp.zeros(network.hidden), jnp.zeros(3))
    snap1 = pattern.params.toarray()
    snap2 = snap1 | (pattern.state @ pattern.params).toarray()
    found = {"∂h'/∂h": pattern.state.toarray(), "snap 1": snap1, "snap 2": snap2}
    print(f"{network.hidden} units, {len(network.places[0]):,} recurrent weights, {snap1.shape[1]:,} parameters")
    for name, mask in found.items():
        print(f"{name:10} keeps {mask.sum():9,} of {mask.size:9,} numbers, {mask.mean():6.1%}")
    return found


def _train(
    arguments: argparse.Namespace, network: Network, name: str, params: Any, key: Array, updates: int
) -> tuple[Any, Curve]:
    """Parameters, and the losses on the way."""
    curve = Curve([], [])

    def batches(start: int, stop: int) -> Any:
        return _batches(jax.random.fold_in(key, start), stop - start, arguments.batch, arguments.longest)

    def note(rows: list[dict[str, Any]], state: training.TrainState) -> None:
        del state
        curve.losses.extend(row["loss"] for row in rows)
        curve.seconds.extend(row["seconds"] for row in rows)

    gradient = training.over_sequences(network.problem, LEARNING[name])
    options = {"key": key, "chunk": min(CHUNK, updates), "progress": False}
    training.fit(gradient, params, OPTIMIZER, batches, options["chunk"], **options)  # compiles
    result = training.fit(gradient, params, OPTIMIZER, batches, updates, on_chunk=note, **options)
    _run.raise_if_asked(result.ended)
    return result.state.params, curve


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _batches(key: Array, updates: int, batch: int, longest: int) -> Any:
    """Of sequences of all lengths alike."""
    key_lengths, key_bits = jax.random.split(key)
    lengths = jax.random.randint(key_lengths, (updates * batch,), 1, longest + 1)
    return jax.tree.map(lambda a: a.reshape(updates, batch, *a.shape[1:]), copies(key_bits, lengths, longest))


def _bits_by_length(arguments: argparse.Namespace, network: Network, params: Any, key: Array) -> list[float]:
    lengths = jnp.repeat(jnp.arange(1, arguments.longest + 1), HELD_OUT)
    bits = network.bits(params, *copies(key, lengths, arguments.longest))
    return np.asarray(bits).reshape(arguments.longest, HELD_OUT).mean(axis=1).tolist()


def _quality(arguments: argparse.Namespace, network: Network, params: Any, key: Array) -> gradients.Comparison:
    xs, ys = jax.tree.map(lambda a: a[0], copies(key, jnp.array([arguments.longest]), arguments.longest))
    return gradients.compare(network.problem, params, jnp.zeros(network.hidden), xs, ys, QUALITY)


def _tell(arguments: argparse.Namespace, learnt: dict[str, Learnt]) -> None:
    if not learnt:
        return
    lengths = range(1, arguments.longest + 1)
    print(
        f"\n{'learning':14}{'updates':>9}{'seconds':>9}   bits missing at length {' '.join(f'{n:6}' for n in lengths)}"
    )
    for name, (curve, bits) in learnt.items():
        row = " ".join(f"{missing:6.3f}" for missing in bits)
        print(f"{name:14}{len(curve.losses):9,}{curve.seconds[-1]:9.1f}{'':26}{row}")


def _write(
    folder: pathlib.Path,
    arguments: argparse.Namespace,
    kept: dict[str, np.ndarray],
    report: gradients.Comparison | None,
    learnt: dict[str, Learnt],
) -> None:
    points = {name: found.curve.points() for name, found in learnt.items()}
    learning = {name: {**curve._asdict(), "bits_by_length": learnt[name].bits} for name, curve in points.items()}
    numbers = {name: {"kept": int(mask.sum()), "of": mask.size} for name, mask in kept.items()}
    quality = None if report is None else report.to_dict()
    measured = _run.rounded({"numbers": numbers, "quality": quality, "learning": learning})
    _run.write_json(folder / RESULTS, {"arguments": vars(arguments), **measured})
    title = (
        f"GRU, {arguments.hidden} units, {arguments.sparsity:.0%} of recurrent weights missing, "
        f"copy of 1 to {arguments.longest} bits, seed {arguments.seed}; "
        f"quality after {arguments.trained} updates"
    )
    with _run.replacing(folder / PICTURE) as path:
        sparse_picture.draw(path, title, kept, report, points)
    print(f"\n{folder}: {PICTURE}, {RESULTS}")
