"""The subcommand `explode`: gradients that vanish and explode, and what cannot be learnt with them."""

import argparse
import pathlib
from typing import Any

import numpy as np

from .. import _run
from .._command import Subparsers, add_parser
from . import networks, pictures, powers, recall

PICTURE = "explode.png"
RESULTS = "explode.json"
FILES = (PICTURE, RESULTS)

CHANCE = f"{1 / recall.LABELS:.0%}"

DESCRIPTION = f"""\
Show gradients that vanish and explode, and what a network cannot learn because of it.

  powers     h_t = w h_{{t-1}} over {powers.STEPS} steps, w = 1.01 and 0.99: dh_T/dh_0 by jax.grad is w to that
             power. The same for {powers.UNITS} linear units whose weights are w times an orthogonal matrix
  networks   ‖dL/dh_t‖ against t in untrained rnn, gru and lstm (there of h and c), with several initialisations, beside
             what theory has for it, a factor a step: for the rnn the largest singular value (a bound) or the spectral
             radius of the recurrent weights; for gru and lstm σ(bias) of the gate that keeps the state, as if all else
             were cut off. L is a random direction of h_T, the inputs are noise
  recall     which of {recall.LABELS} tokens came first? Others that do not matter follow, as many as the distance.
             Accuracy after training of rnn, lstm, and lstm with forget gates that start open (chrono
             initialisation, arXiv:1804.11188); chance is {CHANCE}
"""

EPILOG = f"""\
files in DIR:
  {PICTURE}   all three
  {RESULTS}  arguments, and the numbers in the picture

Ctrl-C ends early; both files are written with what is there.
"""


def add(subparsers: Subparsers) -> None:
    """Its parser."""
    parser = add_parser(
        subparsers, "explode", "why gradients vanish and explode, and what follows", DESCRIPTION, EPILOG
    )
    untrained = parser.add_argument_group("networks")
    untrained.add_argument("--steps", type=_run.positive, default=100, metavar="T", help="steps (default: 100)")
    untrained.add_argument("--hidden", type=_run.positive, default=64, metavar="H", help="hidden units (default: 64)")
    task = parser.add_argument_group("recall")
    task.add_argument(
        "--distances",
        type=_run.positive,
        nargs="+",
        default=[5, 10, 20, 40, 60],
        metavar="D",
        help="how far back the token is (default: 5 10 20 40 60)",
    )
    task.add_argument(
        "--training-steps", type=_run.positive, default=400, metavar="N", help="for each network (default: 400)"
    )
    task.add_argument(
        "--networks", type=_run.positive, default=5, metavar="N", help="of each kind and distance (default: 5)"
    )
    parser.add_argument("--seed", type=_run.seed, default=0, metavar="S", help="of all that is random (default: 0)")


def check(arguments: argparse.Namespace) -> None:
    """An error if the networks would not fit."""
    networks.check_memory(arguments.steps, arguments.hidden)
    recall.check_memory(max(arguments.distances), arguments.networks)


def run(arguments: argparse.Namespace, folder: pathlib.Path) -> int:
    """Measure, print, draw; the exit status."""
    found = pictures.Found({}, {}, {})
    with _run.until_interrupted("\ninterrupted") as ending:
        _measure(arguments, found)
    _run.write_json(folder / RESULTS, {"arguments": vars(arguments), **_as_json(found)})
    with _run.replacing(folder / PICTURE) as path:
        pictures.draw(path, found)
    print(f"\n{folder}: {PICTURE}, {RESULTS}")
    return ending.status


def _measure(arguments: argparse.Namespace, found: pictures.Found) -> None:
    """Fill in what is found, and tell it."""
    for factor in powers.FACTORS:
        found.powers[factor] = _powers(factor, arguments.seed)
    print(f"\n‖dL/dh_t‖ over {arguments.steps} steps, {arguments.hidden} units: at the first; a step; by theory a step")
    for name, initialisation in networks.INITIALISATIONS.items():
        curve = networks.curve(name, arguments.steps, arguments.hidden, arguments.seed)
        found.networks[name] = curve
        title = f"{initialisation.cell}, {initialisation.label}"
        print(f"  {title:24} {curve.norms[0]:9.1e} {_per_step(curve):8.3f} {curve.factor:8.3f}", flush=True)
    distances = sorted(set(arguments.distances))
    print(f"\naccuracy at a distance of {'':>6}" + "".join(f"{distance:>7}" for distance in distances))
    for name, network in recall.NETWORKS.items():
        print(f"  {network.label:30}", end="", flush=True)
        found.recall[name] = {}
        for distance in distances:
            reached = recall.accuracies(
                name, distance, distances[-1], arguments.training_steps, arguments.networks, arguments.seed
            )
            found.recall[name][distance] = reached
            print(f" {reached.mean():6.1%}", end="", flush=True)
        print()


def _powers(factor: float, seed: int) -> dict[str, np.ndarray]:
    curves = {"one unit": powers.norms(factor, 1, seed), "orthogonal": powers.norms(factor, powers.UNITS, seed)}
    print(
        f"{factor}^{powers.STEPS} = {factor**powers.STEPS:.14g}, dh_T/dh_0 by jax.grad {curves['one unit'][0]:.14g}, "
        f"‖dL/dh_0‖ of {powers.UNITS} units {curves['orthogonal'][0]:.14g}"
    )
    return curves


def _per_step(curve: networks.Curve) -> float:
    """The mean factor a step, over all but the last, where the gradient has not found its way into every state yet."""
    steps = len(curve.norms) - 2
    return float((curve.norms[0] / curve.norms[-2]) ** (1 / steps)) if steps > 0 else float("nan")


def _as_json(found: pictures.Found) -> dict[str, Any]:
    return {
        "powers": {
            str(factor): {"steps": powers.STEPS, "expected": factor**powers.STEPS, "norms_from_h_0": _lists(curves)}
            for factor, curves in found.powers.items()
        },
        "networks": {
            name: {
                "label": f"{networks.INITIALISATIONS[name].cell}, {networks.INITIALISATIONS[name].label}",
                "norms_from_h_1": curve.norms.tolist(),
                "theory_per_step": curve.factor,
            }
            for name, curve in found.networks.items()
        },
        "recall": {
            name: {
                "label": recall.NETWORKS[name].label,
                "accuracies": {str(distance): reached.tolist() for distance, reached in by_distance.items()},
            }
            for name, by_distance in found.recall.items()
        },
    }


def _lists(curves: dict[str, np.ndarray]) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in curves.items()}
