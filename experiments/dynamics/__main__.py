"""The command line: `python -m experiments.dynamics`."""

import sys
from collections.abc import Sequence

from .. import _command
from . import fixedpoints, remedies, spectrum, training

COMMANDS: dict[str, _command.Command] = {
    "spectrum": spectrum,
    "training": training,
    "fixedpoints": fixedpoints,
    "remedies": remedies,
}

DESCRIPTION = """\
What becomes of small changes in recurrent networks.

Each command prints what it finds and leaves a picture and a JSON file; `COMMAND --help` says what it does.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; the exit status."""
    return _command.main("dynamics", DESCRIPTION, COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
