"""What every experiment's command line needs: errors for its user, an output folder, and an orderly Ctrl-C."""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator

from jaxrnn.training import CheckpointError, NonFiniteLossError, RunFolderError

INTERRUPTED = 128 + signal.SIGINT  # the exit status that a shell expects after Ctrl-C


class UserError(Exception):
    """Something that the person at the command line can put right: one line, exit status 2."""


class RunError(Exception):
    """A run that did not end as it should: one line, exit status 1."""


def exit_status(program: str, main: Callable[[], int]) -> int:
    """The exit status of main, its errors as one line on stderr."""
    try:
        return main()
    except (UserError, RunFolderError) as error:
        return _fail(program, error, 2)
    except (RunError, CheckpointError, NonFiniteLossError) as error:
        return _fail(program, error, 1)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED


def _fail(program: str, error: Exception, status: int) -> int:
    print(f"{program}: error: {error}", file=sys.stderr)
    return status


def positive(text: str) -> int:
    """An argparse type: an int of at least 1."""
    return _at_least(text, 1)


def natural(text: str) -> int:
    """An argparse type: an int of at least 0."""
    return _at_least(text, 0)


def _at_least(text: str, minimum: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = minimum - 1
    if value < minimum:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {minimum}, got {text!r}")
    return value


def prepare_folder(path: str, names: Iterable[str], overwrite: bool, keep: bool = False) -> pathlib.Path:
    """The folder for a run's files, made if need be; those of `names` there are an error, or removed, or kept."""
    folder = pathlib.Path(path)
    try:
        present = [folder / name for name in names if not keep and (folder / name).exists()]
        if present and not overwrite:
            raise UserError(f"{folder} already holds a run; name another folder with --out, or pass --overwrite")
        folder.mkdir(parents=True, exist_ok=True)
        for old in present:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error
    return folder


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path beside `path` to write to, moved there once all is written: never half a file."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
