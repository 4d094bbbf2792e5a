"""Text as character indices: reading, vocabulary, split by position, and the streams to train on."""

import hashlib
import os
import pathlib
import sysconfig
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ._run import UserError, check_file

PARTS = ("train", "validation", "test")


class Corpus(NamedTuple):
    """A text, whole and in parts."""

    vocabulary: str  # its characters, sorted
    ids: np.ndarray  # (N,) indices into the vocabulary
    bounds: tuple[int, int]  # where the validation and the test part begin
    digest: str  # SHA-256 of the text

    def part(self, name: str) -> np.ndarray:
        """The ids of a part."""
        index = PARTS.index(name)
        edges = (0, *self.bounds, len(self.ids))
        return self.ids[edges[index] : edges[index + 1]]


def read_text(path: str | None) -> str:
    """A file's text; of a folder, that of the files below it in order; by default, the standard library's modules.

    Of a folder's files, hidden ones, those in hidden folders and links that lead out of it are not part of the text.

    Raises:
      UserError: something cannot be read, is no file, is not UTF-8, or there is nothing.
    """
    if path is None:
        files = sorted(pathlib.Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    elif os.path.isdir(path):
        files = sorted(_files_below(pathlib.Path(path)))
    else:
        files = [pathlib.Path(path)]
    text = "".join(map(_read, files))
    if not text:
        raise UserError(f"{path} holds no text")
    return text


def _files_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    inside = os.path.realpath(folder)
    for path, folders, names in os.walk(folder, onerror=_cannot_read):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = (pathlib.Path(path, name) for name in names if not name.startswith("."))
        yield from (file for file in files if not file.is_symlink() or _target(file).is_relative_to(inside))


def _target(link: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(os.path.realpath(link))


def make_corpus(text: str, split: tuple[float, ...], vocabulary: str | None = None) -> Corpus:
    """The text under its own vocabulary, or under a model's, its parts in the given percentages.

    Raises:
      UserError: characters that the vocabulary does not have.
    """
    codes = _codes(text)
    vocabulary = "".join(map(chr, np.unique(codes))) if vocabulary is None else vocabulary
    bounds = (round(len(codes) * split[0] / 100), round(len(codes) * (split[0] + split[1]) / 100))
    return Corpus(vocabulary, encode(text, vocabulary), bounds, hashlib.sha256(text.encode()).hexdigest())


def encode(text: str, vocabulary: str) -> np.ndarray:
    """The characters' indices in a sorted vocabulary.

    Raises:
      UserError: names the characters that are not in it.
    """
    codes, known = _codes(text), _codes(vocabulary)
    ids = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    unknown = np.unique(codes[known[ids] != codes])
    if len(unknown):
        named = ", ".join(f"{chr(code)!r} (U+{code:04X})" for code in unknown[:10])
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        raise UserError(f"the model's vocabulary of {len(vocabulary)} characters does not have {named}{more}")
    return ids.astype(np.uint8 if len(known) <= 256 else np.int32)


def streams(ids: np.ndarray, batch: int, length: int, seed: int) -> Callable[[int, int], dict[str, Any]]:
    """Batches of `batch` streams that go through the text side by side, `length` characters a step.

    Stream b reads its own stretch of the text in order, so that the state of one step is right for the next. With each
    epoch the streams begin anew, from a place a little further on or back, so that no stretch is always left out.

    Returns:
      A batch source for `training.fit`: "ids" (steps, B, length + 1), inputs and, one further on, targets, and
      "begins" (steps, B), where the state must be reset.

    Raises:
      UserError: the text is too short for one step.
    """
    steps = (len(ids) - 1) // (batch * length)
    if steps == 0:
        needed = batch * length + 1
        raise UserError(f"the training part has {len(ids)} characters, {batch} streams of {length} need {needed}")
    slack = len(ids) - 1 - batch * length * steps
    rows = length * steps * np.arange(batch)[:, None] + np.arange(length + 1)

    def batches(start: int, stop: int) -> dict[str, Any]:
        epochs, indices = np.divmod(np.arange(start, stop), steps)
        offsets = np.array([np.random.default_rng((seed, epoch)).integers(slack + 1) for epoch in epochs])
        begins = np.broadcast_to((indices == 0)[:, None], (stop - start, batch))
        return {"ids": ids[rows + (offsets + length * indices)[:, None, None]], "begins": begins}

    return batches


def _read(file: pathlib.Path) -> str:
    check_file(file)
    try:
        return file.read_bytes().decode("utf-8").removeprefix("\ufeff")  # what Windows marks UTF-8 with
    except OSError as error:
        _cannot_read(error)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} is not UTF-8: byte {error.object[error.start]:#04x} at position {error.start}"
        ) from error


def _cannot_read(error: OSError) -> NoReturn:
    raise UserError(f"cannot read {error.filename}: {error.strerror}") from error


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
