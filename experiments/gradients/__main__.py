"""The command line: `python -m experiments.gradients`."""

import sys
from collections.abc import Sequence

from .. import _command
from . import balance, compare, costs, derive, explode, longterm, online, sparse, variance

COMMANDS: dict[str, _command.Command] = {
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
    return _command.main("gradients", DESCRIPTION, COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
