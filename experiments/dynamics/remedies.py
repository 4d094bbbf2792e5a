"""The subcommand `remedies`: which remedies let which cells learn what lies some steps back, and what they cost."""

import argparse
import pathlib
import statistics
import time
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from .. import _run
from .._command import Subparsers, add_parser
from . import remedies_picture
from .delays import CopyMemory, Delayed, Task
from .remedies_training import (
    AGAIN_EVERY,
    AGAIN_UNTIL,
    CELLS,
    CHECK_EVERY,
    DECAY,
    FLOSS_AGAIN,
    FLOSS_BEFORE,
    FLOSS_STEPS,
    HELD_OUT,
    LEARNING_RATES,
    REMEDIES,
    SOLVED,
    Recipe,
    Run,
    Setting,
    check_memory,
    cost,
    train,
)

PICTURE = "remedies.png"
CURVES = "losses.png"
RESULTS = "remedies.json"
FILES = (PICTURE, CURVES, RESULTS)

TASKS = ("delayed", "xor", "copy")

DESCRIPTION = f"""\
Train networks with and without remedies against vanishing and exploding gradients on three tasks that ask what was
heard some steps ago; count the seeds that learn it, and measure what a step costs.

tasks:
  delayed  random bits x: say x_t-d at every step (Engelken 2023)
  xor      the same: say x_t-d/2 xor x_t-d
  copy     ten symbols of eight, T - 1 blanks, a sign to go: say the ten symbols (Hochreiter and Schmidhuber 1997). Who
           says nothing but blanks and guesses has a loss of 10 ln 8 / (T + 20).

One layer of cells and a linear read-out. Parameters begin as torch's, but inputs weigh N(0, 1), and recurrent weights of
rnn are N(0, 1/H), as in Engelken's networks; then the remedy changes them. Adam (β₂ = {DECAY}, {LEARNING_RATES["rnn"]:g}; of gru and lstm and their
kin {LEARNING_RATES["lstm"]:g}) on fresh batches. Every {CHECK_EVERY} steps each seed meets {HELD_OUT} fresh sequences: a task is solved where fewer than {SOLVED:.0%} of the
answers are wrong (of copy, of the ten symbols); a run ends once all seeds have solved it. A seed whose loss or gradient is
no longer finite has diverged, stays as it is and is told as such.

Flossing is of all H exponents, over {FLOSS_STEPS} steps of random bits: {FLOSS_BEFORE} updates before training, and {FLOSS_AGAIN} after every {AGAIN_EVERY} steps up
to {AGAIN_UNTIL:,} where it is during training too. The cost of a step is in those of the plain cell (rnn, gru or lstm) without remedy,
with all flossing spread over the steps: medians, measured in turns.
"""  # noqa: E501

EPILOG = f"""\
files in DIR:
  {PICTURE}   the seeds that solved each task, the steps that half of those took, and the cost of a step
  {CURVES}     held-out losses against steps, mean and standard error over seeds that have not diverged
  {RESULTS}  arguments, sizes, time, and of each run cost, steps until solved and losses of each seed

{RESULTS} is written anew as runs are done: Ctrl-C ends early and loses none of those that have been told.

Chrono initialisation against a forget-gate bias of 1 (Tallec and Ollivier 2018):
  remedies --tasks copy --length 500 --cells lstm --remedies forget_bias chrono --hidden 64 --clip 1 --steps 5000 --seeds 3
"""  # noqa: E501


def add(subparsers: Subparsers) -> None:
    """Its parser."""
    parser = add_parser(
        subparsers, "remedies", "remedies, cells and tasks: who learns, at what cost", DESCRIPTION, EPILOG
    )
    what = parser.add_argument_group("what to train")
    what.add_argument("--tasks", nargs="+", choices=TASKS, default=["xor"], help="default: xor")
    what.add_argument(
        "--remedies",
        nargs="+",
        choices=REMEDIES,
        default=list(REMEDIES),
        help="default: all, each with the cells that it is for",
    )
    what.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS), help="default: all")
    what.add_argument("--delay", type=_delay, default=20, metavar="D", help="of delayed and xor (default: 20)")
    what.add_argument("--length", type=_run.positive, default=30, metavar="T", help="of copy (default: 30)")
    what.add_argument("--hidden", type=_run.positive, default=32, metavar="H", help="units (default: 32)")
    fit = parser.add_argument_group("training")
    fit.add_argument("--batch", type=_run.positive, default=16, metavar="B", help="sequences (default: 16)")
    fit.add_argument(
        "--steps",
        type=_run.positive,
        default=1000,
        metavar="N",
        help=f"at most, below {CHECK_EVERY} or a multiple of it (default: 1000)",
    )
    fit.add_argument("--lr", type=_run.above_zero, metavar="R", help="Adam's, of all cells (default: as above)")
    fit.add_argument(
        "--clip", type=_run.above_zero, metavar="C", help="norm of all gradients (default: 1, of clip alone)"
    )
    fit.add_argument("--seeds", type=_run.positive, default=10, metavar="N", help="trained at once (default: 10)")
    fit.add_argument("--seed", type=_run.seed, default=0, metavar="S", help="that all of them come from (default: 0)")


def _delay(text: str) -> int:
    value = _run.positive(text)
    if value < 2:
        raise argparse.ArgumentTypeError(f"expected a delay of at least 2, got {_run.shown(text)}")
    return value


def check(arguments: argparse.Namespace) -> None:
    """An error if nothing is left to train, the steps cannot be divided, or the networks would not fit."""
    settings, recipe = _settings(arguments), _recipe(arguments)
    if recipe.steps > CHECK_EVERY and recipe.steps % CHECK_EVERY:
        raise _run.UserError(f"--steps must be below {CHECK_EVERY} or a multiple of it, got {recipe.steps}")
    if not settings:
        raise _run.UserError("none of --remedies is for any of --cells")
    for setting in {(setting.task, setting.plain): setting for setting in settings}.values():  # the last remedy of each
        check_memory(setting, recipe, arguments.seeds)


def run(arguments: argparse.Namespace, folder: pathlib.Path) -> int:
    """Train all settings; the exit status."""
    records: list[dict[str, Any]] = []
    with _run.until_interrupted(told=None) as ending:
        _measure(arguments, folder / RESULTS, records)
    if records:
        title = f"{arguments.hidden} units, {arguments.seeds} seeds, at most {arguments.steps:,} steps"
        for name, draw in ((PICTURE, remedies_picture.draw), (CURVES, remedies_picture.draw_losses)):
            with _run.replacing(folder / name) as path:
                draw(path, title, records)
        print(f"\n{folder}: {', '.join(FILES)}")
    if ending.status:
        print(f"interrupted after {len(records)} of {len(_settings(arguments))} runs")
    return ending.status


def _settings(arguments: argparse.Namespace) -> list[Setting]:
    return [
        Setting(_task(name, arguments), remedy, cell)
        for name in dict.fromkeys(arguments.tasks)
        for remedy in dict.fromkeys(arguments.remedies)
        for cell in REMEDIES[remedy].cells
        if cell in arguments.cells
    ]


def _task(name: str, arguments: argparse.Namespace) -> Task:
    return CopyMemory(arguments.length) if name == "copy" else Delayed(arguments.delay, name == "xor")


def _recipe(arguments: argparse.Namespace) -> Recipe:
    return Recipe(arguments.hidden, arguments.batch, arguments.steps, arguments.lr, arguments.clip)


def _measure(arguments: argparse.Namespace, path: pathlib.Path, records: list[dict[str, Any]]) -> None:
    """Train one setting after the other; each is told and written down when it is done."""
    start, settings = time.perf_counter(), _settings(arguments)
    keys = jax.random.split(jax.random.key(arguments.seed), arguments.seeds)
    print(_HEADER, flush=True)
    for setting in tqdm(settings, unit="run", disable=None, dynamic_ncols=True, leave=False):
        records.append(_record(setting, _recipe(arguments), keys))
        measured = _run.rounded({"seconds": time.perf_counter() - start, "runs": records})
        _run.write_json(path, {"arguments": vars(arguments), **measured})
        tqdm.write(_row(records[-1]))


def _record(setting: Setting, recipe: Recipe, keys: jax.Array) -> dict[str, Any]:
    start = time.perf_counter()
    ratio = cost(setting, recipe, keys)
    outcome = train(setting, recipe, keys)
    return {
        "task": setting.task.name,
        "delay": setting.task.delay,
        "remedy": setting.remedy,
        "cell": setting.cell,
        **_outcome(outcome),
        "cost": ratio,
        "seconds": time.perf_counter() - start,
    }


def _outcome(outcome: Run) -> dict[str, Any]:
    steps = [after for after in outcome.solved_after if after is not None]
    means, errors = zip(*map(_mean, outcome.losses), strict=True)
    return {
        "solved": len(steps),
        "diverged": int(np.isnan(outcome.losses[-1]).sum()),
        "seeds": len(outcome.solved_after),
        "median_steps": statistics.median(steps) if steps else None,
        "solved_after": outcome.solved_after,
        "last_errors": outcome.errors[-1].astype(float).tolist(),
        "last_losses": outcome.losses[-1].astype(float).tolist(),
        "steps": outcome.steps,
        "losses": list(means),
        "standard_errors": list(errors),
    }


def _mean(losses: np.ndarray) -> tuple[float, float]:
    """Over the seeds that have not diverged, with its standard error; nan where there are too few."""
    finite = losses[np.isfinite(losses)].astype(float)
    mean = float(np.mean(finite)) if len(finite) else float("nan")
    return mean, float(np.std(finite, ddof=1)) / len(finite) ** 0.5 if len(finite) > 1 else float("nan")


_HEADER = f"{'task':8} {'delay':>5}  {'remedy':20} {'cell':17} {'solved':>7} {'diverged':>8}  {'median steps':>12}  {'loss':>18}  {'cost':>5}"  # noqa: E501


def _row(record: dict[str, Any]) -> str:
    solved, steps = f"{record['solved']}/{record['seeds']}", record["median_steps"]
    mean, error = record["losses"][-1], record["standard_errors"][-1]
    return (
        f"{record['task']:8} {record['delay']:5}  {record['remedy']:20} {record['cell']:17} {solved:>7} "
        f"{record['diverged'] or '-':>8}  {'-' if steps is None else f'{steps:g}':>12}  "
        f"{_shown(mean):>8} ± {_shown(error):<7}  {record['cost']:5.2f}"
    )


def _shown(value: float) -> str:
    return f"{value:.4f}" if np.isfinite(value) else "-"
