"""`python -m experiments.gradients longterm`: which networks learn what lies far back."""

import argparse
import functools
import itertools
import multiprocessing
import os
import pathlib
import signal
import statistics
import time
from typing import Any, NamedTuple

import jax
from tqdm import tqdm

from .. import _run
from .._command import Subparsers, add_parser
from . import longterm_pictures
from .longterm_tasks import SHORTEST, TASKS
from .longterm_training import CELLS, HELD_OUT, LEARNING_RATES, MAX_NORM, Recipe, Run, Setting, check_memory, train

PICTURE = "longterm.png"
RESULTS = "longterm.json"
FILES = (PICTURE, RESULTS)
CHECK_EVERY = 100  # steps


class Sizes(NamedTuple):
    """What --full changes."""

    lengths: tuple[int, ...]
    hidden: int
    batch: int
    steps: int


DEFAULT = Sizes((50, 100), hidden=32, batch=16, steps=800)
FULL = Sizes((50, 100, 200), hidden=50, batch=20, steps=2000)
ALL_FOUR = tuple(itertools.product((False, True), repeat=2))  # clipped or not, orthogonal or not
NEITHER = ((False, False),)

DESCRIPTION = f"""\
Train an RNN, a GRU and an LSTM on two tasks whose answer depends on what stood far back, with and without clipped
gradients and orthogonal recurrent weights, and count the seeds that learn it.

tasks, sequences of T steps, the answer after the last (Hochreiter and Schmidhuber 1997; Pascanu et al. 2012):
  order    A or B at a step in [T/10, 2T/10), A or B at a step in [4T/10, 5T/10), distractors c, d, e, f elsewhere: was
           it AA, AB, BA or BB? Solved: fewer than 1% of sequences wrong.
  adding   numbers from U(0, 1), one of the first tenth and one of [T/10, T/2) marked: their sum. Solved: mean squared
           error below 0.01 (to know one of the two numbers gives 1/12).
All sequences of a run are T steps long; in the papers' adding problem they are up to a tenth longer.

One layer of {DEFAULT.hidden} units, a linear read-out of its last state; Adam on fresh batches of {DEFAULT.batch}, at most {DEFAULT.steps} steps,
learning rate {LEARNING_RATES["rnn"]} (rnn) or {LEARNING_RATES["gru"]} (gru, lstm). "clip" is to a gradient norm of {MAX_NORM:g}. gru and lstm begin with
gates that keep what they hold for 1 to T-1 steps ("chrono", Tallec and Ollivier 2018). Every {CHECK_EVERY} steps each seed meets
{HELD_OUT:,} fresh sequences; a run ends once every seed has solved the task at some check. The rnn is trained with all four
combinations of clipping and initialisation; gru and lstm with neither, unless --all-four is given. Each core trains
one kind of network on one task at a time.
"""  # noqa: E501

EPILOG = f"""\
files in DIR:
  {PICTURE}    the fraction of seeds that solved each task, and how many steps half of those took
  {RESULTS}   arguments, sizes, wall time, and of each run every seed's steps until solved and last error

{RESULTS} is written anew as runs are done: Ctrl-C ends early and loses none of those that have been told.

--full takes T = 50, 100 and 200, 50 units as Pascanu et al. do, batches of {FULL.batch}, {FULL.steps:,} steps at most.
What is cut, so that it ends within half an hour: the papers go on for up to millions of steps and check on 10,000
sequences, and Hochreiter and Schmidhuber add up at T = 500 and 1,000 too.
"""


def add(subparsers: Subparsers) -> None:
    """Its parser."""
    parser = add_parser(
        subparsers,
        "longterm",
        "temporal order and the adding problem: which cells learn what lies far back",
        DESCRIPTION,
        EPILOG,
    )
    what = parser.add_argument_group("what to train")
    what.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="default: both")
    what.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS), help="default: all")
    what.add_argument("--lengths", nargs="+", type=_length, metavar="T", help="steps of a sequence (default: 50 100)")
    what.add_argument("--hidden", type=_run.positive, metavar="H", help=f"units (default: {DEFAULT.hidden})")
    what.add_argument("--all-four", action="store_true", help="of the combinations, for gru and lstm as well")
    what.add_argument("--full", action="store_true", help="longer sequences, more units and steps: see below")
    fit = parser.add_argument_group("training")
    fit.add_argument(
        "--steps",
        type=_run.positive,
        metavar="N",
        help=f"at most, below {CHECK_EVERY} or a multiple of it (default: {DEFAULT.steps})",
    )
    fit.add_argument("--seeds", type=_run.positive, default=8, metavar="N", help="trained at once (default: 8)")
    fit.add_argument("--seed", type=_run.seed, default=0, metavar="S", help="that all of them come from (default: 0)")


def _length(text: str) -> int:
    value = _run.positive(text)
    if value < SHORTEST:
        raise argparse.ArgumentTypeError(f"expected at least {SHORTEST} steps, got {_run.shown(text)}")
    return value


def check(arguments: argparse.Namespace) -> None:
    """An error if the steps cannot be divided, or the networks would not fit."""
    recipe, groups = _plan(arguments)
    for setting, *_ in groups:
        check_memory(setting, recipe, arguments.seeds, min(_cores(), len(groups)))


def run(arguments: argparse.Namespace, folder: pathlib.Path) -> int:
    """Train all settings; the exit status."""
    recipe, groups = _plan(arguments)
    records: list[dict[str, Any]] = []
    with _run.until_interrupted(told=None) as ending:
        _measure(groups, recipe, arguments, folder / RESULTS, records)
    if records:
        with _run.replacing(folder / PICTURE) as path:
            longterm_pictures.draw(path, _title(arguments, recipe), records)
        print(f"\n{folder}: {PICTURE}, {RESULTS}")
    if ending.status:
        print(f"interrupted after {len(records)} of {sum(map(len, groups))} runs")
    return ending.status


def _plan(arguments: argparse.Namespace) -> tuple[Recipe, list[list[Setting]]]:
    sizes = FULL if arguments.full else DEFAULT
    return _recipe(arguments, sizes), _groups(arguments, sizes)


def _recipe(arguments: argparse.Namespace, sizes: Sizes) -> Recipe:
    steps = arguments.steps or sizes.steps
    check_every = min(CHECK_EVERY, steps)
    if steps % check_every:
        raise _run.UserError(f"--steps must be below {CHECK_EVERY} or a multiple of it, got {steps}")
    return Recipe(arguments.hidden or sizes.hidden, sizes.batch, steps, check_every)


def _groups(arguments: argparse.Namespace, sizes: Sizes) -> list[list[Setting]]:
    """The settings, together those that differ in clipping and initialisation alone."""
    lengths = arguments.lengths or sizes.lengths
    networks = itertools.product(dict.fromkeys(arguments.tasks), dict.fromkeys(lengths), dict.fromkeys(arguments.cells))
    return [
        [
            Setting(task, length, cell, *extras)
            for extras in (ALL_FOUR if arguments.all_four or cell == "rnn" else NEITHER)
        ]
        for task, length, cell in networks
    ]


def _title(arguments: argparse.Namespace, recipe: Recipe) -> str:
    network = f"{recipe.hidden} units, {arguments.seeds} seeds"
    return f"{network}, at most {recipe.steps:,} steps of Adam on {recipe.batch} sequences"


def _measure(
    groups: list[list[Setting]],
    recipe: Recipe,
    arguments: argparse.Namespace,
    path: pathlib.Path,
    records: list[dict[str, Any]],
) -> None:
    """Train the groups, as many at a time as there are cores; each is told and written down when it is done."""
    start = time.perf_counter()
    head = {
        "arguments": vars(arguments),
        "recipe": recipe._asdict(),
        "learning_rates": LEARNING_RATES,
        "cores": _cores(),
    }
    train_group = functools.partial(_train_group, recipe, arguments.seed, arguments.seeds)
    print(_HEADER, flush=True)
    with (
        tqdm(total=sum(map(len, groups)), unit="run", disable=None, dynamic_ncols=True, leave=False) as bar,
        multiprocessing.get_context("spawn").Pool(min(_cores(), len(groups)), _prepare_worker) as pool,
    ):
        for found in pool.imap(train_group, groups):
            records += found
            measured = _run.rounded({"wall_seconds": time.perf_counter() - start, "runs": records})
            _run.write_json(path, {**head, **measured})
            tqdm.write("\n".join(map(_row, found)))
            bar.update(len(found))


def _cores() -> int:
    return os.cpu_count() or 1


def _prepare_worker() -> None:
    """Ctrl-C is for the parent to see; on a GPU, processes would be in each other's way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jax.config.update("jax_platforms", "cpu")


def _train_group(recipe: Recipe, seed: int, seeds: int, group: list[Setting]) -> list[dict[str, Any]]:
    """Train settings that share their programs, one after the other."""
    keys = jax.random.split(jax.random.key(seed), seeds)
    return [_record(setting, recipe, keys) for setting in group]


def _record(setting: Setting, recipe: Recipe, keys: jax.Array) -> dict[str, Any]:
    start = time.perf_counter()
    outcome = train(setting, recipe, keys)
    return {**setting._asdict(), **_outcome(outcome), "seconds": time.perf_counter() - start}


def _outcome(outcome: Run) -> dict[str, Any]:
    steps = [after for after in outcome.solved_after if after is not None]
    return {
        "solved": len(steps),
        "seeds": len(outcome.solved_after),
        "median_steps": statistics.median(steps) if steps else None,
        "solved_after": outcome.solved_after,
        "steps": outcome.steps,
        "last_errors": outcome.errors[-1],
    }


_HEADER = f"{'task':8} {'T':>4}  {'cell':5} {'clip':5} {'orthogonal':11} {'solved':>7}  median steps  seconds"


def _row(record: dict[str, Any]) -> str:
    clip, orthogonal = ("yes" if record[name] else "no" for name in ("clip", "orthogonal"))
    solved, steps = f"{record['solved']}/{record['seeds']}", record["median_steps"]
    return (
        f"{record['task']:8} {record['length']:4}  {record['cell']:5} {clip:5} {orthogonal:11} {solved:>7}  "
        f"{'-' if steps is None else f'{steps:g}':>12}  {record['seconds']:7.1f}"
    )
