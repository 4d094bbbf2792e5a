"""What every experiment's command line needs: errors for its user, an output folder, and an orderly Ctrl-C."""

import argparse
import contextlib
import functools
import json
import math
import os
import pathlib
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils

from jaxrnn.training import CheckpointError, NonFiniteLossError, RunFolder, RunFolderError

STATUS = {"interrupted": 128 + signal.SIGINT, "terminated": 128 + signal.SIGTERM}  # as a shell expects, by how it ended
BROKEN_PIPE = 128 + 13

_LINE = 120  # characters


class UserError(Exception):
    """Something that the person at the command line can put right: one line, exit status 2."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


class RunError(Exception):
    """A run that did not end as it should: one line, exit status 1."""


def exit_status(program: str, main: Callable[[], int]) -> int:
    """The exit status of main, its errors as one line on stderr."""
    try:
        with _sigterm_raises():
            return main()
    except (UserError, RunFolderError) as error:
        return _fail(program, error, 2)
    except (RunError, CheckpointError, NonFiniteLossError) as error:
        return _fail(program, error, 1)
    except KeyboardInterrupt as error:
        print(f"{program}: {'terminated' if isinstance(error, Terminated) else 'interrupted'}", file=sys.stderr)
        return status_of(error)
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at exit
        return BROKEN_PIPE


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    def handle(signum: int, frame: object) -> None:
        raise Terminated

    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_DFL or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def status_of(error: KeyboardInterrupt) -> int:
    """What a shell expects after Ctrl-C, or after SIGTERM."""
    return STATUS["terminated" if isinstance(error, Terminated) else "interrupted"]


def raise_if_asked(ended: str) -> None:
    """Ctrl-C and SIGTERM that `training.fit` took."""
    if ended in STATUS:
        raise Terminated if ended == "terminated" else KeyboardInterrupt


def parser(name: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """The parser of `python -m experiments.NAME`, with its texts as they are written."""
    return argparse.ArgumentParser(
        prog=f"python -m experiments.{name}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


@functools.partial(jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
def init(model: Any, key: jax.Array) -> Any:
    """`model.init(key)`, as one program, compiled in a hurry because it runs once: half the time of op by op."""
    return model.init(key)


@contextlib.contextmanager
def one_of_several(name: str) -> Iterator[None]:
    """A training that did not end as it should is told with its name."""
    try:
        yield
    except NonFiniteLossError as error:
        raise RunError(f"{name}: {error}") from error


def output_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --out and --overwrite."""
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", type=folder_name, default=default, metavar="DIR", help=f"folder for the files (default: {default})"
    )
    output.add_argument("--overwrite", action="store_true", help="replace an earlier run's files in DIR")


def _fail(program: str, error: Exception, status: int) -> int:
    print(f"{program}: error: {error}", file=sys.stderr)
    return status


def folder_name(text: str) -> str:
    """An argparse type: a path that names something."""
    if not text:
        raise argparse.ArgumentTypeError("expected the name of a folder, got ''")
    return text


def positive(text: str) -> int:
    """An argparse type: an int of at least 1."""
    return _at_least(text, 1)


def natural(text: str) -> int:
    """An argparse type: an int of at least 0."""
    return _at_least(text, 0)


def seed(text: str) -> int:
    """An argparse type: what `jax.random.key` tells apart, an int of 32 bits."""
    value = _at_least(text, 0)
    if value >= 2**32:
        raise argparse.ArgumentTypeError(f"expected a whole number below 2**32, got {text!r}")
    return value


def _at_least(text: str, minimum: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = minimum - 1
    if value < minimum:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {minimum}, got {text!r}")
    return value


@contextlib.contextmanager
def output_folder(
    path: str, names: Iterable[str], overwrite: bool, resume: bool | None = None
) -> Iterator[pathlib.Path]:
    """The folder for a run's files, made if need be, and this run's alone until it ends.

    Those of `names` that are there are an error, or removed, or kept to be resumed; None for what cannot be.
    """
    folder = pathlib.Path(path)
    is_new = not folder.exists()
    try:
        with RunFolder(folder).locked():
            present = [] if resume else [folder / name for name in names if (folder / name).exists()]
            check_absent(folder, present, overwrite, "" if resume is None else "go on with --resume, ")
            multihost_utils.sync_global_devices("all processes have looked at the output folder")
            if jax.process_index() == 0:
                _remove(present)
            multihost_utils.sync_global_devices("the output folder is ready")
            yield folder
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # it holds something
                folder.rmdir()


def check_absent(folder: pathlib.Path, paths: Iterable[pathlib.Path | str], overwrite: bool, ways: str = "") -> None:
    """None of the paths in the folder is there, or they may be replaced; `ways` is what else a person can do."""
    present = [path for path in paths if (folder / path).exists()]
    if present and not overwrite:
        names = ", ".join(pathlib.Path(path).name for path in present)
        raise UserError(
            f"{folder} already holds a run ({names}): {ways}replace it with --overwrite, or name another folder "
            "with --out"
        )


def _remove(paths: list[pathlib.Path]) -> None:
    for path in paths:
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError as error:
            raise UserError(f"cannot remove {path}: {error.strerror}") from error


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path beside `path` to write to, moved there once all is written: never half a file."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path: pathlib.Path, value: Any) -> None:
    """The value as a JSON file, whole or not at all; null for what is not finite.

    A list of numbers, and all else that is short, is one line.
    """
    with replacing(path) as unfinished:
        unfinished.write_text(_json(finite(value), 0) + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """None for floats that JSON has no number for."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def rounded(value: Any) -> Any:
    """The value with its floats to five significant digits, more than any measurement of time has."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _json(value: Any, indent: int) -> str:
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    is_flat = isinstance(value, list | tuple) and not any(isinstance(part, dict | list | tuple | str) for part in value)
    if not isinstance(value, dict | list | tuple) or is_flat or indent + len(line) <= _LINE:
        return line
    if isinstance(value, dict):
        brackets = "{}"
        parts = [
            f"{json.dumps(str(name), ensure_ascii=False)}: {_json(part, indent + 2)}" for name, part in value.items()
        ]
    else:
        brackets, parts = "[]", [_json(part, indent + 2) for part in value]
    joined = ",\n".join(" " * (indent + 2) + part for part in parts)
    return f"{brackets[0]}\n{joined}\n{' ' * indent}{brackets[1]}"
