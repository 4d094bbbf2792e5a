"""Columns of numbers from a CSV file, or an error that says where it is none.

By Python's csv module, 0.15 s for 200,000 rows and 5 s for 6.5 million: NumPy's reader is 3 times as fast and polars 12
times, but neither says in which line of the file a cell is wrong, and polars takes 180 MB to install.
"""

import array
import csv
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator

import numpy as np

from .._run import UserError, check_file, printable, shown

DELIMITERS = ",;\t|"
_HEAD = 20  # rows in which the delimiter is looked for
_LISTED = 20  # columns in an error
LONGEST = 2**24  # characters of a line

_PROBLEMS = {  # in words for whoever wrote the file
    "field larger than field limit": f"a field is longer than {csv.field_size_limit():,} characters; is a quote open?",
    "unexpected end of data": "a quote is open at the end of the file",
}


@dataclasses.dataclass(frozen=True)
class Table:
    """A CSV file in UTF-8 whose first row names its columns."""

    path: str
    delimiter: str

    def only_column(self) -> str:
        """The name of the one column that there is.

        Raises:
          UserError: there are several; lists them.
        """
        header, _ = self._open()
        if len(header) > 1:
            raise UserError(f"--column is needed: {self.path} has {_listed(header)}")
        return header[0]

    def read(self, names: tuple[str, ...]) -> np.ndarray:
        """The named columns, (n, F) float64.

        Raises:
          UserError: there is no such column, a row is shorter or longer, or a cell is not a finite number.
        """
        header, rows = self._open()
        indices = [self._index(header, name) for name in names]
        values = array.array("d")
        for line, row in rows:
            if len(row) != len(header):
                raise UserError(f"{self.path}, line {line}: {len(row)} fields, where the header has {len(header)}")
            for index in indices:
                try:
                    value = float(row[index])
                except ValueError:
                    value = math.nan
                if not math.isfinite(value):
                    place = f"{self.path}, line {line}, column {shown(header[index])}"
                    raise UserError(f"{place}: {shown(row[index])} is not a finite number")
                values.append(value)
        return np.frombuffer(values).reshape(-1, len(names))

    def line(self, row: int) -> int:
        """The line in which a row ends, the first after the header being row 0."""
        return next(itertools.islice(self._open()[1], row, None))[0]

    def _open(self) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
        """The header, and the rows after it."""
        rows = _rows(self.path, self.delimiter)
        _, header = next(rows, (0, None))
        if header is None:
            raise UserError(f"{self.path} is empty, expected a row with the names of its columns")
        return [name.strip() for name in header], rows

    def _index(self, header: list[str], name: str) -> int:
        if header.count(name) == 1:
            return header.index(name)
        problem = f"has {header.count(name)} columns" if name in header else "has no column"
        raise UserError(f"{self.path} {problem} {shown(name)}: it has {_listed(header)}")


def find_delimiter(path: str) -> str:
    """The one that cuts the first rows into the most fields, into as many each; a comma where there is one column.

    Not by csv.Sniffer: it fails on files with one column, and takes minutes over some with many quotes.
    """
    head = list(itertools.islice(_lines(path), _HEAD))

    def score(delimiter: str) -> tuple[bool, int]:
        try:
            widths = [len(row) for row in csv.reader(head, delimiter=delimiter) if row]
        except csv.Error:  # told when the whole is read
            widths = []
        return len({*widths}) == 1 and widths[0] > 1, max(widths[:1], default=0)

    return max(DELIMITERS, key=score)


def _rows(path: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, each with the line in which it ends."""
    reader = csv.reader(_lines(path), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        problem = next((text for start, text in _PROBLEMS.items() if str(error).startswith(start)), str(error))
        raise UserError(f"{path}, line {reader.line_num}: {problem}") from error


def _lines(path: str) -> Iterator[str]:
    """The lines, checked to be text, and short enough to be lines."""
    check_file(path)
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            for number, line in enumerate(iter(functools.partial(file.readline, LONGEST), ""), start=1):
                if not line.isascii():
                    _check_text(f"{path}, line {number}", line)
                if len(line) == LONGEST:
                    raise UserError(f"{path}, line {number}: longer than {LONGEST:,} characters")
                yield line
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _check_text(place: str, line: str) -> None:
    """Bytes that are not UTF-8 were read as surrogates."""
    try:
        line.encode()
    except UnicodeEncodeError as error:
        byte = ord(error.object[error.start]) - 0xDC00
        raise UserError(f"{place} is not UTF-8: byte {byte:#04x} after {error.start} characters") from error


def _listed(names: list[str]) -> str:
    """The columns, as many as fit, written as --column takes them."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    count = f"{len(names)} column{'s' if len(names) > 1 else ''}"
    return f"{count}: {', '.join(map(_quoted, names[:_LISTED]))}{more}"


def _quoted(name: str) -> str:
    name = printable(name)
    return '"' + name.replace('"', '""') + '"' if "," in name or '"' in name or name != name.strip() else name
