"""The command line: `python -m experiments.sine`."""

import argparse
import csv
import functools
import hashlib
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors.numpy import save_file

from jaxrnn import training

from .. import _run
from . import pictures, report
from .data import Series, Windows, read_series, series_windows, sine_windows
from .evaluate import evaluate_series, evaluate_waves, naive_rmse
from .model import CELLS, Forecaster, torch_names
from .train import CHUNK, RECIPES, Forecasters, Trained, check_memory, train

PICTURE = "forecast.png"
PARAMS = "params.safetensors"
STATE = "state.safetensors"
SUMMARY = "summary.json"
FILES = ("metrics.jsonl", "checkpoints", PICTURE, SUMMARY, *RECIPES)

DESCRIPTION = """\
Train a small recurrent network to predict the next point of a series, then let it run on its own predictions.

Two recipes are trained at once, from the same parameters on the same data: "notes", Adam with learning rate 0.01, and
"cosine", the same with the learning rate falling to 0 along half a cosine.

Without --csv the series is sin(t) at 50 points of [k, k+10], k drawn from {0, 1, 2} at every step, the state carried
from step to step with its gradient cut. Afterwards the network runs freely from the first point alone, and for 200
steps after reading 10 points. With --csv the series is yours: the network trains on the first 80% of the rows,
normalised and in order; the rest is held out and forecast from every row, beside the naive forecast that repeats the
last value.
"""

EPILOG = f"""\
files in DIR:
  {PICTURE:19} truth and predictions, the loss curve, errors
  metrics.jsonl       a line a step, with the loss of each seed by each recipe
  checkpoints/        what --resume goes on from
  {SUMMARY:19} arguments, how the run ended, errors of each recipe, seconds
  and in the folders {" and ".join(f"{name}/" for name in RECIPES)}
  {PARAMS:19} trained parameters, named as in a torch module with a `rnn` and a `linear`;
  {"":19} with several seeds they are the first axis
  {STATE:19} the state that training left, h_n (layers, H) and an LSTM's c_n

Ctrl-C or SIGTERM ends the training early; all of the files are written for the steps done so far. A run that was
stopped or killed goes on when its command is given again with --resume, and ends as if nothing had happened.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment; the exit status."""
    return _run.exit_status("sine", lambda: _experiment(_parse(argv)))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _run.parser("sine", DESCRIPTION, EPILOG)
    network = parser.add_argument_group("network")
    network.add_argument("--cell", choices=CELLS, default="rnn", help="kind of cell (default: rnn)")
    network.add_argument("--hidden", type=_run.positive, default=16, metavar="H", help="hidden units (default: 16)")
    network.add_argument("--layers", type=_run.layers, default=1, metavar="L", help="layers of cells (default: 1)")
    training = parser.add_argument_group("training")
    training.add_argument("--steps", type=_run.positive, default=6000, metavar="N", help="Adam steps (default: 6000)")
    training.add_argument("--seed", type=_run.seed, default=0, metavar="S", help="the first seed (default: 0)")
    training.add_argument(
        "--seeds", type=_run.positive, default=1, metavar="N", help="train seeds S to S+N-1 at once (default: 1)"
    )
    data = parser.add_argument_group("your own series")
    data.add_argument(
        "--csv", type=_run.path, metavar="FILE", help="a CSV file with a header row, then one row a time step"
    )
    data.add_argument(
        "--column",
        type=_columns,
        metavar="NAME[,NAME]",
        help="the columns to forecast, together; quote a name that holds a comma: '\"wind, m/s\",temperature'",
    )
    data.add_argument(
        "--delimiter",
        type=_delimiter,
        metavar="C",
        help="between fields, such as ; or tab (default: found in the file)",
    )
    data.add_argument("--horizon", type=_run.positive, metavar="N", help="steps ahead to forecast (default: 10)")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out",
        type=_run.folder_name,
        default="runs/sine",
        metavar="DIR",
        help="folder for the files (default: runs/sine)",
    )
    output.add_argument("--checkpoint-every", type=_run.positive, metavar="N", help=f"a multiple of {CHUNK} steps")
    again = output.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the run in DIR, begin if there is none")
    again.add_argument("--overwrite", action="store_true", help="replace an earlier run's files in DIR")
    arguments = parser.parse_args(argv)
    for name in ("column", "delimiter", "horizon"):
        if getattr(arguments, name) is not None and arguments.csv is None:
            parser.error(f"--{name} goes with --csv")
    if arguments.seed + arguments.seeds > 2**32:
        parser.error(f"--seeds: the last seed would be {arguments.seed + arguments.seeds - 1}, expected below 2**32")
    if arguments.checkpoint_every and arguments.checkpoint_every % CHUNK:
        parser.error(f"--checkpoint-every must be a multiple of {CHUNK}, got {arguments.checkpoint_every}")
    arguments.horizon = arguments.horizon or 10
    return arguments


def _columns(text: str) -> tuple[str, ...]:
    """An argparse type: names as a row of a CSV file has them."""
    try:
        names = tuple(name.strip() for name in next(csv.reader([text], skipinitialspace=True, strict=True), ()))
    except csv.Error:
        names = ()
    if not names or not all(names) or len({*names}) < len(names):
        raise argparse.ArgumentTypeError(f"expected names of different columns, got {_run.shown(text)}")
    return names


def _delimiter(text: str) -> str:
    """An argparse type: a character, the tab by its name too, which is hard to type in a shell."""
    character = "\t" if text in ("tab", r"\t") else text
    if len(character) != 1 or character in '"\r\n':
        raise argparse.ArgumentTypeError(f"expected one character, or tab, got {_run.shown(text)}")
    return character


def _experiment(arguments: argparse.Namespace) -> int:
    series = None
    if arguments.csv is not None:
        series = read_series(arguments.csv, arguments.column, arguments.horizon, arguments.delimiter)
    windows = sine_windows() if series is None else series_windows(series)
    model = Forecaster(arguments.cell, arguments.hidden, arguments.layers, windows.data.shape[-1])
    check_memory(model, arguments.seeds)
    with _run.output_folder(arguments.out, FILES, arguments.overwrite, arguments.resume) as folder:
        return _train(folder, model, arguments, windows, series)


def _train(
    folder: pathlib.Path, model: Forecaster, arguments: argparse.Namespace, windows: Windows, series: Series | None
) -> int:
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    trained = train(model, windows, seeds, arguments.steps, _run_folder(folder, arguments, series))
    if not trained.steps:
        raise _run.RunError(f"{trained.diverged}, before there was anything to keep")
    for name, forecasters in trained.recipes.items():
        _save_arrays(folder / name, forecasters)
    title = _title(model, seeds)
    if series is None:
        found = _of_waves(title, model, trained, windows)
    else:
        found = _of_series(title, model, trained, series, arguments.horizon)
    _save_summary(folder / SUMMARY, arguments, trained, found.errors)
    with _run.replacing(folder / PICTURE) as path:
        found.draw(path)
    print(f"{title}: {_progress(trained, arguments.steps)}\n\n{found.table}\n\n{folder}: {', '.join(sorted(FILES))}")
    if trained.diverged:
        raise _run.RunError(f"{trained.diverged}; the files hold the {trained.steps} steps before")
    return _run.STATUS.get(trained.ended, 0)


class Report(NamedTuple):
    """What became of a training."""

    errors: dict[str, Any]  # for the summary file
    table: str  # for the terminal
    draw: Callable[[pathlib.Path], None]


def _run_folder(folder: pathlib.Path, arguments: argparse.Namespace, series: Series | None) -> training.RunFolder:
    """Metrics and checkpoints; a run resumes with the arguments, and the series, that it began with."""
    names = ("cell", "hidden", "layers", "steps", "seed", "seeds")
    config: dict[str, Any] = {"experiment": "sine"} | {name: getattr(arguments, name) for name in names}
    if series is not None:
        config |= {"column": series.names, "values_sha256": hashlib.sha256(series.values.data).hexdigest()}
    notes = {name: getattr(arguments, name) for name in ("csv", "horizon", "delimiter")}
    return training.RunFolder(folder, config, every=arguments.checkpoint_every, resume=arguments.resume, notes=notes)


def _save_arrays(folder: pathlib.Path, forecasters: Forecasters) -> None:
    """Parameters and state; one seed alone has no axis of seeds."""
    folder.mkdir(exist_ok=True)
    layers = jax.tree.map(lambda *states: np.stack(states, axis=1), *forecasters.h)
    states = dict(zip(("h_n", "c_n"), jax.tree.leaves(layers), strict=False))
    for name, arrays in ((PARAMS, torch_names(forecasters.params)), (STATE, states)):
        with _run.replacing(folder / name) as path:
            save_file({key: np.asarray(a[0] if len(a) == 1 else a) for key, a in arrays.items()}, path)


def _of_waves(title: str, model: Forecaster, trained: Trained, windows: Windows) -> Report:
    results = {name: evaluate_waves(model, made.params, made.h, windows) for name, made in trained.recipes.items()}
    draw = functools.partial(pictures.draw_waves, title=f"sine: {title}", results=results, losses=trained.losses)
    return Report(_by_recipe(report.wave_errors, results, trained), report.wave_table(results), draw)


def _of_series(title: str, model: Forecaster, trained: Trained, series: Series, horizon: int) -> Report:
    results = {name: evaluate_series(model, made.params, series, horizon) for name, made in trained.recipes.items()}
    naive = naive_rmse(series, horizon)
    draw = functools.partial(
        pictures.draw_series, title=title, series=series, results=results, naive=naive, losses=trained.losses
    )
    errors = report.series_facts(series, naive) | _by_recipe(report.series_errors, results, trained)
    return Report(errors, report.series_table(series, results, naive), draw)


def _by_recipe(errors: Callable[[Any], dict[str, Any]], results: dict[str, Any], trained: Trained) -> dict[str, Any]:
    """Each recipe's last loss and errors."""
    losses = {name: _last_losses(values).tolist() for name, values in trained.losses.items()}
    return {name: {"loss": losses[name], **errors(result)} for name, result in results.items()}


def _save_summary(file: pathlib.Path, arguments: argparse.Namespace, trained: Trained, errors: dict[str, Any]) -> None:
    summary = {
        "arguments": vars(arguments),
        "steps_done": trained.steps,
        "diverged": trained.diverged,
        **errors,
        "first_chunk_seconds": trained.first_chunk_seconds,
        "seconds": trained.seconds,
    }
    _run.write_json(file, summary)


def _last_losses(losses: np.ndarray) -> np.ndarray:
    """(seeds,), the mean over the last chunk's steps."""
    return losses[-CHUNK:].mean(axis=0)


def _title(model: Forecaster, seeds: range) -> str:
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]}-{seeds[-1]}"
    return f"{model.kind}, hidden {model.hidden_size}, layers {model.num_layers}, {which}"


def _progress(trained: Trained, steps: int) -> str:
    of_all = "" if trained.steps == steps else f" of {steps}"
    times = f"{trained.seconds:.2f} s, {trained.first_chunk_seconds:.2f} s of them compilation and the first {CHUNK}"
    losses = ", ".join(f"{name} {np.median(_last_losses(values)):.2e}" for name, values in trained.losses.items())
    return f"{trained.steps}{of_all} steps in {times}; loss: {losses}"


if __name__ == "__main__":
    sys.exit(main())
