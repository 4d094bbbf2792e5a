"""Attacks on the command lines: each flag of each command with values that nobody should give.

A value is refused with exit status 2 and one line that names the flag, before anything runs, or it stands in the tables
here. What it would then take of the memory is refused by the experiments themselves: test_attacks_memory.py.
"""

import argparse
import importlib
import itertools

import pytest

from experiments import _run

from ..marks import few_of

VALUES = (
    *("", " ", "0", "-0", "1", "-1", "+1", "100", "٣", "0x10", "2147483648", "4294967295", "4294967296"),
    *("1" + 22 * "0", 5000 * "9", "0.5", "1.5", "nan", "inf", "1e400", "1e-400", "nan/5/5", "data=" + 22 * "9"),
    *("host:65536", "x", "x,x", "猫", "-", "--", "a\0b", "\udcff"),
)

WHOLE = {"1", "+1", "100", "٣"}  # as int() reads them, and not too large to be tried
SMALL = {"0", "-0", "0.5", "1e-400"}  # from 0 to below 1, as float() reads them
ABOVE_0 = WHOLE | {"0.5", "1.5", "2147483648", "4294967295", "4294967296", "1" + 22 * "0"}
TEXTS = {*VALUES} - {"--", "\udcff"}

ACCEPTED = {
    "a choice": set(),
    "a switch": set(),
    "string": {"1", "+1"},  # of 1, 2, 4 or 8 symbols
    "positive": WHOLE,
    "natural": WHOLE | {"0", "-0"},
    "layers": WHOLE,  # at most 100
    "seed": WHOLE | {"0", "-0", "2147483648", "4294967295"},
    "hundreds": {"100"},
    "ten or more": {"100"},
    "one to eight": {"1", "+1", "٣"},
    "two or more": {"100", "٣"},
    "four or more": {"100"},
    "sixteen or more": {"100"},
    "fraction": SMALL,
    "probability": {"0.5", "1", "+1"},
    "above 0": ABOVE_0,
    "0 or more": ABOVE_0 | SMALL,
    "path": TEXTS - {"", "a\0b"},
    "text": TEXTS,
    "columns": {*VALUES} - {"", " ", "x,x", "--"},  # a name that no file has is told with the columns that it has
    "delimiter": {" ", "0", "1", "x", "٣", "猫", "-"},
    "split, mesh or address": set(),
}

OUTPUT = {"--out": "path", "--overwrite": "a switch"}
FLAGS = {
    "sine": {
        **{"--cell": "a choice", "--hidden": "positive", "--layers": "layers", "--steps": "positive"},
        **{"--seed": "seed", "--seeds": "positive", "--csv": "path", "--column": "columns", "--horizon": "positive"},
        **{"--delimiter": "delimiter", "--checkpoint-every": "hundreds", "--resume": "a switch", **OUTPUT},
    },
    "hello": {
        **{"--source": "text", "--target": "text", "--form": "a choice", "--epochs": "positive", "--seed": "seed"},
        **OUTPUT,
    },
    "digits": {
        **{"--form": "a choice", "--cell": "a choice", "--hidden": "positive", "--epochs": "positive"},
        **{"--seed": "seed", **OUTPUT},
    },
    "charlm train": {
        **{"--text": "path", "--split": "split, mesh or address", "--preset": "a choice", "--cell": "a choice"},
        **{"--tied": "a switch", "--no-tied": "a switch", "--hidden": "positive", "--layers": "layers"},
        **{
            "--embedding": "natural",
            "--dropout": "fraction",
            "--dtype": "a choice",
            "--gradient": "a choice",
            "--steps": "positive",
        },
        **{"--batch": "positive", "--length": "positive", "--lr": "above 0", "--warmup": "natural"},
        **{"--weight-decay": "0 or more", "--clip": "above 0", "--accumulate": "positive", "--seed": "seed"},
        **{"--evaluate-every": "positive", "--patience": "positive", "--watch": "positive"},
        **{"--checkpoint-every": "positive", "--keep": "positive", "--resume": "a switch", **OUTPUT},
        **{"--mesh": "split, mesh or address", "--coordinator": "split, mesh or address"},
        **{"--processes": "positive", "--process-id": "natural", "--distributed": "a switch"},
    },
    "charlm sample": {
        **{"--run": "path", "--best": "a switch", "--prime": "text", "--length": "positive"},
        **{"--temperature": "0 or more", "--top-k": "positive", "--top-p": "probability", "--seed": "seed"},
    },
    "charlm eval": {
        **{"--run": "path", "--best": "a switch", "--text": "path", "--part": "a choice", "--unit": "natural"},
        **OUTPUT,
    },
    "gradients explode": {
        **{"--steps": "positive", "--hidden": "positive", "--distances": "positive", "--training-steps": "positive"},
        **{"--networks": "positive", "--seed": "seed", **OUTPUT},
    },
    "gradients derive": {
        **{"--steps": "positive", "--inputs": "positive", "--hidden": "positive", "--outputs": "positive"},
        **{"--seed": "seed", **OUTPUT},
    },
    "gradients compare": {
        **{"--cell": "a choice", "--hidden": "positive", "--steps": "positive", "--batch": "positive"},
        **{"--trained": "natural", "--repeats": "positive", "--seconds": "natural", "--seed": "seed", **OUTPUT},
    },
    "gradients balance": {
        **{"--truncations": "positive", "--steps": "positive", "--lr": "above 0", "--keys": "positive"},
        **{"--seed": "seed", **OUTPUT},
    },
    "gradients longterm": {
        **{"--tasks": "a choice", "--cells": "a choice", "--lengths": "ten or more", "--hidden": "positive"},
        **{"--all-four": "a switch", "--full": "a switch", "--steps": "positive", "--seeds": "positive"},
        **{"--seed": "seed", **OUTPUT},
    },
    "gradients sparse": {
        **{"--hidden": "positive", "--sparsity": "fraction", "--longest": "positive", "--batch": "positive"},
        **{"--updates": "positive", "--trained": "positive", "--seed": "seed", **OUTPUT},
    },
    "gradients online": {
        **{"--text": "path", "--cell": "a choice", "--hidden": "positive", "--batch": "positive"},
        **{"--seconds": "positive", "--lr": "above 0", "--seed": "seed", **OUTPUT},
    },
    "gradients variance": {
        **{"--cell": "a choice", "--hidden": "positive", "--longest": "string", "--trained": "positive"},
        **{"--draws": "positive", "--seed": "seed", **OUTPUT},
    },
    "gradients costs": {"--cell": "a choice", "--sizes": "positive", "--steps": "positive", **OUTPUT},
    "dynamics spectrum": {
        **{"--sizes": "sixteen or more", "--networks": "two or more", "--warmup": "positive", "--steps": "positive"},
        **{"--seed": "seed", **OUTPUT},
    },
    "dynamics training": {
        **{"--hidden": "four or more", "--steps": "positive", "--every": "positive", "--lr": "above 0"},
        **{"--seed": "seed", **OUTPUT},
    },
    "dynamics fixedpoints": {
        **{"--cell": "a choice", "--bits": "one to eight", "--hidden": "positive", "--steps": "positive"},
        **{"--candidates": "positive", "--seed": "seed", **OUTPUT},
    },
    "report": {"--seed": "seed", **OUTPUT},
    "dynamics remedies": {
        **{"--tasks": "a choice", "--remedies": "a choice", "--cells": "a choice", "--delay": "two or more"},
        **{"--length": "positive", "--hidden": "positive", "--batch": "positive", "--steps": "positive"},
        **{"--lr": "above 0", "--clip": "above 0", "--seeds": "positive", "--seed": "seed", **OUTPUT},
    },
    "speed": {
        **{"--sections": "a choice", "--cells": "a choice", "--peers": "a choice", "--device": "a choice"},
        **{
            "--dtype": "a choice",
            "--quick": "a switch",
            "--seconds": "positive",
            "--compare": "path",
            "--median": "path",
            **OUTPUT,
        },
    },
}
PARTS = range(3)
BESIDE = {"--column": ["--csv=a.csv"], "--delimiter": ["--csv=a.csv"], "--horizon": ["--csv=a.csv"]}
PLACES = {"report": ["a.py"]}  # what comes without a flag
RUNS = {  # what a command does once its flags are read
    "charlm": "experiments.charlm.__main__._run_command",
    "dynamics": "experiments._command.do",
    "gradients": "experiments._command.do",
}


@pytest.fixture
def main(monkeypatch):
    """A command's exit status, nothing being run but its parser."""

    def main(command, *options):
        experiment, *subcommand = command.split()
        module = importlib.import_module(f"experiments.{experiment}.__main__")
        runs = RUNS.get(experiment, f"experiments.{experiment}.__main__._experiment")
        monkeypatch.setattr(runs, lambda *arguments: 0)
        try:
            return module.main([*subcommand, *options])
        except SystemExit as exit_:
            return exit_.code

    return main


def test_the_table_has_every_flag(main, monkeypatch):
    """And it is as long as was said: 730 values were tried before there was a table."""
    found = {}

    def walk(parser):
        command = parser.prog.removeprefix("python -m experiments.")
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for subparser in action.choices.values():
                    walk(subparser)
            elif action.dest != "help":
                found.setdefault(command, set()).update(action.option_strings)

    monkeypatch.setattr(_run._Parser, "parse_args", lambda parser, argv: walk(parser) or parser.exit())
    for experiment in {command.split()[0] for command in FLAGS}:
        main(experiment)
    assert found == {command: {*flags} for command, flags in FLAGS.items()}
    assert sum(map(len, FLAGS.values())) * len(VALUES) >= 730


@pytest.mark.parametrize(("command", "part"), few_of(zip(FLAGS, itertools.cycle(PARTS)), FLAGS, PARTS))
def test_absurd_values_are_one_line(command, part, main, capsys):
    """Of a command's flags and values each third of the pairs by itself."""
    wrong = {}
    for index, (flag, kind) in enumerate(FLAGS[command].items()):
        for value in VALUES[(index + part) % len(PARTS) :: len(PARTS)]:
            status = main(command, *PLACES.get(command, []), *BESIDE.get(flag, []), f"{flag}={value}")
            out, error = capsys.readouterr()
            if value in ACCEPTED[kind]:
                right = status == 0 and not error
            else:
                right = status == 2 and not out and error.count("\n") == 1 and flag in error
            if not right:
                wrong[flag, value] = status, error
    assert not wrong, "\n".join(f"{key!r:.60} {value!r:.200}" for key, value in wrong.items())
