"""The command line: `python -m experiments.digits`."""

import argparse
import itertools
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from jaxrnn import training

from .. import _run
from . import pictures
from .data import FORMS, load
from .model import CELLS, Classifier
from .train import Run, check_memory, train

PICTURE = "digits.png"
SUMMARY = "summary.json"
NAMES = [f"{form}-{cell}" for form in FORMS for cell in CELLS]
FILES = [PICTURE, SUMMARY, *(f"{name}/{file}" for name in NAMES for file in ("metrics.jsonl", "checkpoints"))]

DESCRIPTION = """\
Tell scikit-learn's 1,797 handwritten 8x8 digits apart, with a network that reads them in order.

With --form rows a digit is a sequence of 8 rows of 8 pixels, with --form pixels one of 64 single pixels. One layer of
cells reads it; a linear layer turns the last state into the ten classes' logits. All cells are trained alike: softmax
cross-entropy, batches of 32, gradients clipped to norm 1, Adam whose learning rate falls from 0.005 to 0 along a
cosine. A fifth of the images of each digit is held out to test on, the same fifth for every seed. The test accuracy
after each epoch is drawn and chooses nothing: the recipe was chosen on a part of the other images, and the last
epoch's parameters are the result.
"""

EPILOG = f"""\
files in DIR:
  {PICTURE:23} accuracy over the epochs; norm of the loss's derivative with respect to the state at each step,
  {"":23} at initialisation and after training, mean over 256 training images
  {SUMMARY:23} arguments, and of each run its accuracies, gradient norms and seconds
  FORM-CELL/metrics.jsonl loss, norm of the gradient and batch accuracy of each step, test accuracy of each epoch
  FORM-CELL/checkpoints   the trained parameters, for jaxrnn.training.RunFolder

Ctrl-C or SIGTERM ends the training early; all of the files are written for the epochs done so far.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment; the exit status."""
    return _run.exit_status("digits", lambda: _experiment(_parse(argv)))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _run.parser("digits", DESCRIPTION, EPILOG)
    network = parser.add_argument_group("network")
    network.add_argument("--form", choices=[*FORMS, "all"], default="all", help="how to read a digit (default: all)")
    network.add_argument("--cell", choices=[*CELLS, "all"], default="all", help="kind of cell (default: all)")
    network.add_argument("--hidden", type=_run.positive, default=128, metavar="H", help="hidden units (default: 128)")
    fitting = parser.add_argument_group("training")
    fitting.add_argument("--epochs", type=_run.positive, default=40, metavar="N", help="epochs (default: 40)")
    fitting.add_argument(
        "--seed", type=_run.seed, default=0, metavar="S", help="of initialisation and order (default: 0)"
    )
    _run.output_options(parser, "runs/digits")
    return parser.parse_args(argv)


def _experiment(arguments: argparse.Namespace) -> int:
    forms = FORMS if arguments.form == "all" else [arguments.form]
    cells = CELLS if arguments.cell == "all" else [arguments.cell]
    for form, cell in itertools.product(forms, cells):
        check_memory(_model(form, cell, arguments), load(form))
    with _run.output_folder(arguments.out, FILES, arguments.overwrite) as folder:
        runs: dict[tuple[str, str], Run] = {}
        for form, cell in itertools.product(forms, cells):
            run = runs[form, cell] = _train(form, cell, arguments, folder)
            print(f"{form}, {cell}: {_report(run)}", flush=True)
            if run.ended in _run.STATUS:
                break
        _write(folder, arguments, runs)
    return max(_run.STATUS.get(run.ended, 0) for run in runs.values())


def _write(folder: pathlib.Path, arguments: argparse.Namespace, runs: dict[tuple[str, str], Run]) -> None:
    outcomes = {f"{form}-{cell}": _outcome(run) for (form, cell), run in runs.items()}
    _run.write_json(folder / SUMMARY, {"arguments": vars(arguments), "runs": outcomes})
    with _run.replacing(folder / PICTURE) as path:
        pictures.draw(path, f"8x8 digits, {arguments.hidden} hidden units, seed {arguments.seed}", runs)
    print(f"\n{folder}: {', '.join([PICTURE, SUMMARY, *(f'{name}/' for name in outcomes)])}")


def _train(form: str, cell: str, arguments: argparse.Namespace, folder: pathlib.Path) -> Run:
    name = f"{form}-{cell}"
    with _run.one_of_several(name):
        config = {"experiment": "digits", "form": form, "cell": cell}
        config |= {name: getattr(arguments, name) for name in ("hidden", "epochs", "seed")}
        run = training.RunFolder(folder / name, config)
        return train(_model(form, cell, arguments), load(form), arguments.epochs, arguments.seed, run)


def _model(form: str, cell: str, arguments: argparse.Namespace) -> Classifier:
    return Classifier(cell, FORMS[form][1], arguments.hidden)


def _report(run: Run) -> str:
    first, last = run.norms_after["h"][[0, -1]]
    return (
        f"test accuracy {run.test_accuracy[-1]:.2%} after {len(run.test_accuracy)} epochs, {run.seconds:.1f} s; "
        f"gradient at the first step {first:.1e}, at the last {last:.1e}"
    )


def _outcome(run: Run) -> dict[str, Any]:
    """A run's part of the summary."""
    return {
        "ended": run.ended,
        "test_accuracy": run.test_accuracy.tolist(),
        "gradient_norms_at_initialisation": {name: norms.tolist() for name, norms in run.norms_before.items()},
        "gradient_norms_after_training": {name: norms.tolist() for name, norms in run.norms_after.items()},
        "seconds": run.seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
