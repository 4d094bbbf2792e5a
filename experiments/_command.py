"""Experiments of several commands, each a module with `add`, which makes its parser, `check`, and `run`."""

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from . import _run

# What argparse's add_subparsers returns has no public name.
Subparsers = Any


class Command(Protocol):
    """A subcommand's module."""

    @property
    def FILES(self) -> Sequence[str]:  # noqa: N802, a constant
        """The names of what it leaves."""
        ...

    def add(self, subparsers: Subparsers) -> None:
        """Add its parser, under the name in `__main__.COMMANDS`."""
        ...

    def check(self, arguments: argparse.Namespace) -> None:
        """An error if the arguments do not go together, or ask for more memory than there is."""
        ...

    def run(self, arguments: argparse.Namespace, folder: pathlib.Path) -> int:
        """Do it; the exit status."""
        ...


def add_parser(
    subparsers: Subparsers, name: str, summary: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    """A subcommand's parser, with --out and --overwrite; its further options are for the caller to add."""
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _run.output_options(parser, "runs/" + parser.prog.rpartition(".")[2].replace(" ", "/"))
    return parser


def main(name: str, description: str, commands: Mapping[str, Command], argv: Sequence[str] | None) -> int:
    """Run the command that is asked for of `python -m experiments.NAME`; the exit status."""
    return _run.exit_status(name, lambda: _main(name, description, commands, argv))


def _main(name: str, description: str, commands: Mapping[str, Command], argv: Sequence[str] | None) -> int:
    parser = _run.parser(name, description)
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for command in commands.values():
        command.add(subparsers)
    arguments = parser.parse_args(argv)
    return _run.exit_status(f"{name} {arguments.command}", lambda: do(commands[arguments.command], arguments))


def do(command: Command, arguments: argparse.Namespace) -> int:
    """What a command does once its flags are read."""
    command.check(arguments)
    with _run.output_folder(arguments.out, command.FILES, arguments.overwrite) as folder:
        return command.run(arguments, folder)
