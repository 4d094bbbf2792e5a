"""The command line: `python -m experiments.gradients`."""

import argparse
import sys
from collections.abc import Sequence

from .. import _run
from . import balance, compare, costs, derive, explode, longterm, online, sparse, variance
from .command import Command

COMMANDS: dict[str, Command] = {
    "explode": explode,
    "derive": derive,
    "compare": compare,
    "balance": balance,
    "longterm": longterm,
    "sparse": sparse,
    "online": online,
    "variance": variance,
    "costs": costs,
}

DESCRIPTION = """\
How gradients fare on their way back through time.

Each command prints what it finds and leaves a picture and a JSON file; `COMMAND --help` says what it does.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; the exit status."""
    return _run.exit_status("gradients", lambda: _command(argv))


def _command(argv: Sequence[str] | None) -> int:
    parser = _run.parser("gradients", DESCRIPTION)
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS.values():
        command.add(subparsers)
    arguments = parser.parse_args(argv)
    return _run.exit_status(f"gradients {arguments.command}", lambda: _do(COMMANDS[arguments.command], arguments))


def _do(command: Command, arguments: argparse.Namespace) -> int:
    command.check(arguments)
    with _run.output_folder(arguments.out, command.FILES, arguments.overwrite) as folder:
        return command.run(arguments, folder)


if __name__ == "__main__":
    sys.exit(main())
