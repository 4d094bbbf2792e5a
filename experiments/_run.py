"""What every experiment's command line needs: errors for its user, an output folder, and an orderly Ctrl-C."""

import argparse
import contextlib
import dataclasses
import functools
import io
import json
import math
import os
import pathlib
import re
import shutil
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import jax
from jax.experimental import multihost_utils

from jaxrnn._core.files import replacing as replacing
from jaxrnn.training import CheckpointError, NonFiniteLossError, RunFolder, RunFolderError

STATUS = {"interrupted": 128 + signal.SIGINT, "terminated": 128 + signal.SIGTERM}  # as a shell expects, by how it ended
BROKEN_PIPE = 128 + 13

_LINE = 120  # characters
_SHOWN = 40  # characters of what somebody wrote, in an error
_LARGEST = 2**31 - 1
_MOST_LAYERS = 100


class UserError(Exception):
    """Something that the person at the command line can put right: one line, exit status 2."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


class RunError(Exception):
    """A run that did not end as it should: one line, exit status 1."""


def exit_status(program: str, main: Callable[[], int]) -> int:
    """The exit status of main, its errors as one line on stderr."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what a terminal's encoding lacks is shown as its escape
    try:
        with _sigterm_raises():
            try:
                return main()
            finally:
                print(end="", flush=True)  # a full disk is to be told of here, not at exit
    except (UserError, RunFolderError) as error:
        return _fail(program, error, 2)
    except (RunError, CheckpointError, NonFiniteLossError) as error:
        return _fail(program, error, 1)
    except KeyboardInterrupt as error:
        print(f"{program}: {'terminated' if isinstance(error, Terminated) else 'interrupted'}", file=sys.stderr)
        return status_of(error)
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        _drop_output()
        return BROKEN_PIPE
    except OSError as error:
        if error.filename:
            return _fail(program, f"cannot use {error.filename}: {_why(error)}", 1)
        _drop_output()
        return _fail(program, f"cannot write: {_why(error)}", 1)
    except MemoryError as error:
        return _fail(program, f"out of memory: {error}", 1)
    except jax.errors.JaxRuntimeError as error:
        if not (problem := re.search(r"(?i)out of memory.*", str(error))):
            raise
        return _fail(program, problem[0], 1)


def _drop_output() -> None:
    """What is flushed at exit goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _why(error: OSError) -> str:
    return error.strerror or str(error)


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


@dataclasses.dataclass
class Ending:
    """How something came to its end."""

    status: int = 0


@contextlib.contextmanager
def until_interrupted(told: str | None = "interrupted") -> Iterator[Ending]:
    """What stands within ends early at Ctrl-C or SIGTERM, which is told and noted; the program goes on after it."""
    ending = Ending()
    try:
        yield ending
    except KeyboardInterrupt as error:
        if told is not None:
            print(told)
        ending.status = status_of(error)


def raise_if_asked(ended: str) -> None:
    """Ctrl-C and SIGTERM that `training.fit` took."""
    if ended in STATUS:
        raise Terminated if ended == "terminated" else KeyboardInterrupt


def parser(name: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """The parser of `python -m experiments.NAME`, with its texts as they are written."""
    return _Parser(
        prog=f"python -m experiments.{name}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


class _Parser(argparse.ArgumentParser):
    """Its errors are one line, and what is no text is one of them."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As argparse's, for text alone: bytes that are not UTF-8 arrive as surrogates, which no file could hold."""
        for argument in sys.argv[1:] if args is None else args:
            if argument.startswith("--") and argument.count("=") == 1 and argument.endswith("=--"):
                self.error(f"argument {argument[:-3]}: expected a value, got '--'")  # argparse takes it for none
        arguments = super().parse_args(args, namespace)
        for name, values in vars(arguments).items():
            for value in values if isinstance(values, list) else [values]:
                if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
                    self.error(f"argument --{name.replace('_', '-')}: expected text in UTF-8, got {shown(value)}")
        return arguments

    def error(self, message: str) -> NoReturn:
        """Without the usage, which is longer than a screen for some."""
        self.exit(2, f"{self.prog}: error: {printable(message)} (--help lists all options)\n")


def printable(text: str) -> str:
    """The text on one line: characters that cannot be shown as their escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(text: str) -> str:
    """The beginning of what somebody wrote, in quotes, for one line of an error."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


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


def _fail(program: str, error: Exception | str, status: int) -> int:
    print(f"{program}: error: {printable(str(error))}", file=sys.stderr)
    return status


def positive(text: str) -> int:
    """An argparse type: an int of at least 1, as large as those that JAX counts with."""
    return whole(text, 1, _LARGEST)


def natural(text: str) -> int:
    """An argparse type: an int of at least 0, as large as those that JAX counts with."""
    return whole(text, 0, _LARGEST)


def layers(text: str) -> int:
    """An argparse type: a number of layers, each of which is compiled by itself."""
    return whole(text, 1, _MOST_LAYERS)


def seed(text: str) -> int:
    """An argparse type: what `jax.random.key` tells apart, an int of 32 bits."""
    return whole(text, 0, 2**32 - 1)


def folder_name(text: str) -> str:
    """An argparse type: a path of a folder, which a variable that is not set would leave empty."""
    return _name(text, "the name of a folder")


def path(text: str) -> str:
    """An argparse type: a path of what is to be read."""
    return _name(text, "a path")


def _name(text: str, what: str) -> str:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected {what}, got {shown(text)}")
    return text


def whole(text: str, least: int, most: int) -> int:
    """The int that a text is.

    Raises:
      ArgumentTypeError: it is none, or not from least to most.
    """
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, got {shown(text)}")
    return value


def _number(least: float, most: float, what: str, *, above: bool = False, below: bool = True) -> Callable[[str], float]:
    """An argparse type: a number from least, or above it, to most, or below it."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not ((least < value if above else least <= value) and (value < most if below else value <= most)):
            raise argparse.ArgumentTypeError(f"expected {what}, got {shown(text)}")
        return value

    return parse


fraction = _number(0, 1, "a number from 0 to below 1")
probability = _number(0, 1, "a number above 0, up to 1", above=True, below=False)
above_zero = _number(0, math.inf, "a number above 0", above=True)
not_negative = _number(0, math.inf, "a number of at least 0")


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def check_file(path: pathlib.Path | str) -> None:
    """What is to be read must be a file: a pipe may keep its reader waiting for ever, a device may have no end.

    Raises:
      UserError: it is something else, or not there.
    """
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except OSError as error:
        raise UserError(f"cannot read {path}: {_why(error)}") from error
    if kind != stat.S_IFREG:
        raise UserError(f"cannot read {path}: it is {_KINDS.get(kind, 'something else')}, expected a file")


@contextlib.contextmanager
def output_folder(
    path: str, names: Iterable[str], overwrite: bool, resume: bool | None = None
) -> Iterator[pathlib.Path]:
    """The folder for a run's files, made if need be, and this run's alone until it ends.

    Those of `names` that are there are an error, or removed, or kept to be resumed; None for what cannot be.
    """
    folder = pathlib.Path(path)
    is_new = not os.path.exists(folder)  # pathlib's raises for names that are too long
    try:
        with RunFolder(folder).locked():
            present = [] if resume else [name for name in names if (folder / name).exists()]
            check_absent(folder, present, overwrite, "" if resume is None else "go on with --resume, ")
            multihost_utils.sync_global_devices("all processes have looked at the output folder")
            if jax.process_index() == 0:
                _remove([folder / name for name in present])
            multihost_utils.sync_global_devices("the output folder is ready")
            yield folder
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # it holds something
                folder.rmdir()


def check_absent(folder: pathlib.Path, names: Iterable[str], overwrite: bool, ways: str = "") -> None:
    """None of the names is there in the folder, or they may be replaced; `ways` is what else a person can do."""
    present = [name for name in names if (folder / name).exists()]
    if present and not overwrite:
        shown = ", ".join(pathlib.Path(name).name for name in present)
        raise UserError(
            f"{folder} already holds a run ({shown}): {ways}replace it with --overwrite, or name another folder "
            "with --out"
        )


def _remove(paths: list[pathlib.Path]) -> None:
    for path in paths:
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError as error:
            raise UserError(f"cannot remove {path}: {error.strerror}") from error


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
