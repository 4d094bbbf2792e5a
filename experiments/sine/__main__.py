"""The command line: `python -m experiments.sine`."""

import argparse
import json
import pathlib
import sys
import threading
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file
from tqdm import tqdm

from .. import _run
from . import pictures, report
from .data import Series, Windows, read_series, series_windows, sine_windows
from .evaluate import evaluate_series, evaluate_waves
from .model import CELLS, Forecaster, torch_names
from .train import CHUNK, State, Trained, train

METRICS = "metrics.jsonl"
PICTURE = "forecast.png"
PARAMS = "params.safetensors"
STATE = "state.safetensors"
SUMMARY = "summary.json"

DESCRIPTION = """\
Train a small recurrent network to predict the next point of a series, then let it run on its own predictions.

Without --csv the series is sin(t) at 50 points of [k, k+10], k drawn from {0, 1, 2} at every step, the state carried
from step to step with its gradient cut, Adam with learning rate 0.01. Afterwards the network runs freely from the
first point alone. With --csv the series is yours: the network trains on the first 80% of the rows, normalised and in
order; the rest is held out and forecast from every row, beside the naive forecast that repeats the last value.
"""

EPILOG = f"""\
files in DIR:
  {PICTURE:19} truth and predictions, the loss curve, errors
  {METRICS:19} a line a step, with the loss of each seed
  {PARAMS:19} trained parameters, named as in a torch module with a `rnn` and a `linear`;
  {"":19} with several seeds they are the first axis
  {STATE:19} the state that training left, h_n (layers, H) and an LSTM's c_n
  {SUMMARY:19} arguments, how the run ended, errors, seconds

Ctrl-C ends the training early; all of the files are written for the steps done so far.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment; the exit status."""
    arguments = _parse(argv)
    return _run.exit_status("sine", lambda: _experiment(arguments))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.sine",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    network = parser.add_argument_group("network")
    network.add_argument("--cell", choices=CELLS, default="rnn", help="kind of cell (default: rnn)")
    network.add_argument("--hidden", type=_run.positive, default=16, metavar="H", help="hidden units (default: 16)")
    network.add_argument("--layers", type=_run.positive, default=1, metavar="L", help="layers of cells (default: 1)")
    training = parser.add_argument_group("training")
    training.add_argument("--steps", type=_run.positive, default=6000, metavar="N", help="Adam steps (default: 6000)")
    training.add_argument("--seed", type=_run.seed, default=0, metavar="S", help="the first seed (default: 0)")
    training.add_argument(
        "--seeds", type=_run.positive, default=1, metavar="N", help="train seeds S to S+N-1 at once (default: 1)"
    )
    data = parser.add_argument_group("your own series")
    data.add_argument("--csv", metavar="FILE", help="a CSV file with a header row, then one row a time step")
    data.add_argument("--column", metavar="NAME[,NAME]", help="the columns to forecast, together")
    data.add_argument("--horizon", type=_run.positive, metavar="N", help="steps ahead to forecast (default: 10)")
    _run.output_options(parser, "runs/sine")
    arguments = parser.parse_args(argv)
    if (arguments.csv is None) != (arguments.column is None):
        parser.error("--csv and --column go together")
    if arguments.horizon and arguments.csv is None:
        parser.error("--horizon goes with --csv")
    arguments.horizon = arguments.horizon or 10
    return arguments


def _experiment(arguments: argparse.Namespace) -> int:
    series = None
    if arguments.csv is not None:
        columns = tuple(name.strip() for name in arguments.column.split(","))
        series = read_series(arguments.csv, columns, arguments.horizon)
    windows = sine_windows() if series is None else series_windows(series)
    files = (METRICS, PICTURE, PARAMS, STATE, SUMMARY)
    folder = _run.prepare_folder(arguments.out, files, arguments.overwrite)
    model = Forecaster(arguments.cell, arguments.hidden, arguments.layers, windows.data.shape[-1])
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    with _run.interruptible() as interrupted:
        trained = _train(model, windows, seeds, arguments.steps, folder / METRICS, interrupted)
        if not len(trained.losses):
            raise _run.RunError(f"{trained.diverged}, before there was anything to keep")
        _save_arrays(folder, trained.state)
        title = _title(model, seeds)
        errors, table = _evaluate(folder / PICTURE, title, model, trained, windows, series, arguments.horizon)
        _save_summary(folder / SUMMARY, arguments, trained, errors)
    print(f"{title}: {_progress(trained, arguments.steps)}\n\n{table}\n\n{folder}: {', '.join(sorted(files))}")
    if trained.diverged:
        raise _run.RunError(f"{trained.diverged}; the files hold the {len(trained.losses)} steps before")
    return 0 if len(trained.losses) == arguments.steps else _run.INTERRUPTED


def _train(
    model: Forecaster, windows: Windows, seeds: range, steps: int, metrics: pathlib.Path, interrupted: threading.Event
) -> Trained:
    """Train with a progress bar where there is a terminal; write each chunk's losses as soon as they are known."""
    with metrics.open("w", encoding="utf-8") as file, tqdm(total=steps, unit="step", disable=None) as bar:

        def on_chunk(start: int, losses: np.ndarray) -> bool:
            for step, row in enumerate(losses, start=start + 1):
                file.write(json.dumps({"step": step, "loss": row.tolist()}) + "\n")
            file.flush()
            bar.set_postfix(loss=f"{np.median(losses[-1]):.2e}", refresh=False)
            bar.update(len(losses))
            return interrupted.is_set()

        return train(model, windows, seeds, steps, on_chunk)


def _save_arrays(folder: pathlib.Path, state: State) -> None:
    """Parameters and state; one seed alone has no axis of seeds."""
    layers = jax.tree.map(lambda *states: np.stack(states, axis=1), *state.h)
    states = dict(zip(("h_n", "c_n"), jax.tree.leaves(layers), strict=False))
    for name, arrays in ((PARAMS, torch_names(state.params)), (STATE, states)):
        with _run.replacing(folder / name) as path:
            save_file({key: np.asarray(a[0] if len(a) == 1 else a) for key, a in arrays.items()}, path)


def _evaluate(
    picture: pathlib.Path,
    title: str,
    model: Forecaster,
    trained: Trained,
    windows: Windows,
    series: Series | None,
    horizon: int,
) -> tuple[dict[str, Any], str]:
    """Draw the picture; the errors for the summary file, and their table for the terminal."""
    with _run.replacing(picture) as path:
        if series is None:
            waves = evaluate_waves(model, trained.state, windows)
            pictures.draw_waves(path, f"sine: {title}", waves, trained.losses)
            return report.wave_errors(waves), report.wave_table(waves)
        result = evaluate_series(model, trained.state, series, horizon)
        pictures.draw_series(path, f"{', '.join(series.names)}: {title}", series, result, trained.losses)
        return report.series_errors(series, result), report.series_table(series, result)


def _save_summary(file: pathlib.Path, arguments: argparse.Namespace, trained: Trained, errors: dict[str, Any]) -> None:
    summary = {
        "arguments": vars(arguments),
        "steps_done": len(trained.losses),
        "diverged": trained.diverged,
        "loss": _last_losses(trained).tolist(),
        **errors,
        "compile_seconds": trained.compile_seconds,
        "train_seconds": trained.train_seconds,
    }
    _run.write_json(file, summary)


def _last_losses(trained: Trained) -> np.ndarray:
    """(seeds,), the mean over the last chunk's steps."""
    return trained.losses[-CHUNK:].mean(axis=0)


def _title(model: Forecaster, seeds: range) -> str:
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]}-{seeds[-1]}"
    return f"{model.kind}, hidden {model.hidden_size}, layers {model.num_layers}, {which}"


def _progress(trained: Trained, steps: int) -> str:
    done = len(trained.losses)
    of_all = "" if done == steps else f" of {steps}"
    times = f"{trained.train_seconds:.2f} s, after {trained.compile_seconds:.2f} s of compilation"
    return f"{done}{of_all} steps in {times}; loss {np.median(_last_losses(trained)):.2e}"


if __name__ == "__main__":
    sys.exit(main())
