"""What every experiment's command line needs: errors for its user, an output folder, and an orderly Ctrl-C."""

import argparse
import contextlib
import functools
import json
import os
import pathlib
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax

from jaxrnn.training import CheckpointError, NonFiniteLossError, RunFolderError

INTERRUPTED = 128 + signal.SIGINT  # the exit status that a shell expects after Ctrl-C
BROKEN_PIPE = 128 + 13  # and after SIGPIPE

_LINE = 120  # characters


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
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at exit
        return BROKEN_PIPE


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
    output.add_argument("--out", default=default, metavar="DIR", help=f"folder for the files (default: {default})")
    output.add_argument("--overwrite", action="store_true", help="replace an earlier run's files in DIR")


def _fail(program: str, error: Exception, status: int) -> int:
    print(f"{program}: error: {error}", file=sys.stderr)
    return status


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


def write_json(path: pathlib.Path, value: Any) -> None:
    """The value as a JSON file, whole or not at all; a list of numbers, and all else that is short, is one line."""
    with replacing(path) as unfinished:
        unfinished.write_text(_json(value, 0) + "\n", encoding="utf-8")


def rounded(value: Any) -> Any:
    """The value with its floats to five significant digits, more than any measurement of time has."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _json(value: Any, indent: int) -> str:
    line = json.dumps(value, ensure_ascii=False)
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
