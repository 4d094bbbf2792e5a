"""The command line: `python -m experiments.hello`."""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from jaxrnn import training

from .. import _run
from . import pictures
from .model import FORMS
from .train import Run, check_memory, train
from .words import Words, check_words

PICTURE = "hello.png"
SUMMARY = "summary.json"
FILES = [PICTURE, SUMMARY, *(f"{form}/{name}" for form in FORMS for name in ("metrics.jsonl", "checkpoints"))]

DESCRIPTION = """\
Teach a small recurrent network to read a word and to spell another, a character a step: hello -> ohlol.

Each epoch is one step of Adam on the softmax cross-entropy of the one pair of words, and prints what the network
spelled before that step. The vocabulary is the characters of both words. V below is their number.

forms:
  cell       RNN cell, V one-hot inputs, V units that are the logits, step by step, loss summed, learning rate 0.1
  rnn        RNN over the whole sequence, sizes as above, learning rate 0.05
  embedding  embedding of 10, two-layer RNN of 8 units, linear layer, batch first, learning rate 0.05
  lstm, gru  as embedding, with an LSTM or a GRU in the RNN's place
  all        one after the other

The forms cell and rnn decay their weights (AdamW, 0.5): without it one seed in seven never spells the word.
"""

EPILOG = f"""\
files in DIR:
  {PICTURE:22} loss of each form, and when it spells how much of the word
  {SUMMARY:22} arguments, vocabulary, and of each form the first epoch that spells the target
  FORM/metrics.jsonl     a line an epoch: loss, norm of the gradient, the predicted characters' places in the vocabulary
  FORM/checkpoints       the trained parameters, for jaxrnn.training.RunFolder

Ctrl-C or SIGTERM ends the training early; all of the files are written for the epochs done so far.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment; the exit status."""
    return _run.exit_status("hello", lambda: _experiment(_parse(argv)))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _run.parser("hello", DESCRIPTION, EPILOG)
    words = parser.add_argument_group("words")
    words.add_argument("--source", default="hello", metavar="WORD", help="the word to read (default: hello)")
    words.add_argument(
        "--target", default="ohlol", metavar="WORD", help="the word to spell, as long as the source (default: ohlol)"
    )
    fitting = parser.add_argument_group("training")
    fitting.add_argument("--form", choices=[*FORMS, "all"], default="all", help="which model (default: all)")
    fitting.add_argument("--epochs", type=_run.positive, default=100, metavar="N", help="epochs (default: 100)")
    fitting.add_argument("--seed", type=_run.seed, default=0, metavar="S", help="of the initialisation (default: 0)")
    _run.output_options(parser, "runs/hello")
    return parser.parse_args(argv)


def _experiment(arguments: argparse.Namespace) -> int:
    words = check_words(arguments.source, arguments.target)
    forms = list(FORMS) if arguments.form == "all" else [arguments.form]
    for form in forms:
        check_memory(form, words)
    with _run.output_folder(arguments.out, FILES, arguments.overwrite) as folder:
        runs: dict[str, Run] = {}
        for form in forms:
            runs[form] = _train(form, words, arguments, folder)
            if runs[form].ended in _run.STATUS:
                break
        _write(folder, words, arguments, runs)
    return max(_run.STATUS.get(run.ended, 0) for run in runs.values())


def _write(folder: pathlib.Path, words: Words, arguments: argparse.Namespace, runs: dict[str, Run]) -> None:
    forms = {form: _outcome(words, run) for form, run in runs.items()}
    _run.write_json(folder / SUMMARY, {"arguments": vars(arguments), "vocabulary": words.vocabulary, "forms": forms})
    with _run.replacing(folder / PICTURE) as path:
        pictures.draw(path, words, runs, arguments.seed)
    _report(words, forms)
    print(f"\n{folder}: {', '.join([PICTURE, SUMMARY, *(f'{form}/' for form in runs)])}")


def _train(form: str, words: Words, arguments: argparse.Namespace, folder: pathlib.Path) -> Run:
    """Train a form, printing each epoch."""

    def say(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            epoch = f"Epoch [{row['step']}/{arguments.epochs}]"
            print(_run.printable(f"Predicted: {words.spell(row['predicted'][0])}, {epoch} loss = {row['loss']:.4f}"))

    print(f"{form}:")
    with _run.one_of_several(form):
        return train(
            form,
            words,
            arguments.epochs,
            arguments.seed,
            training.RunFolder(folder / form, {"experiment": "hello", "form": form, **words._asdict()}),
            say,
        )


def _outcome(words: Words, run: Run) -> dict[str, Any]:
    """A form's part of the summary."""
    return {
        "epochs_done": len(run.losses),
        "ended": run.ended,
        "first_epoch": run.first_epoch(words),
        "predicted": words.spell(run.predictions[-1]),
        "loss_per_character": float(run.losses[-1]),
    }


def _report(words: Words, forms: dict[str, dict[str, Any]]) -> None:
    print()
    for form, outcome in forms.items():
        first = outcome["first_epoch"]
        when = f"first spells {words.target} in epoch {first}" if first else f"never spells {words.target}"
        print(_run.printable(f"{form:10} {when}; last prediction {outcome['predicted']}"))


if __name__ == "__main__":
    sys.exit(main())
