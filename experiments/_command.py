"""What every subcommand is: a module with `add`, which makes its parser, `check`, and `run`, the exit status."""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

from .. import _run

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
    _run.output_options(parser, f"runs/gradients/{name}")
    return parser
