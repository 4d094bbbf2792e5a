"""Attacks on `sine --csv`: files that are no table of numbers, and odd ones that are."""

import numpy as np
import pytest

from experiments.sine.__main__ import main
from experiments.sine.data import read_series

WAVE = [round(np.sin(row / 5), 3) for row in range(100)]
ROWS = "\n".join(map(str, WAVE))
PAIRS = "\n".join(f"{value},{-value}" for value in WAVE)


def with_row(row, cell):
    """A column c of a wave, one of its cells another one."""
    return "c\n" + "\n".join(str(cell if index == row else value) for index, value in enumerate(WAVE))


# name: the file, --column, and what the one line says
REFUSED = {
    "empty": ("", "c", "is empty, expected a row with the names of its columns"),
    "blank lines alone": ("\n\n\r\n", "c", "is empty"),
    "a header alone": ("c\n", "c", "has 0 rows; forecasts of 10 steps need at least 63"),
    "one row too few": ("c\n" + "1\n2\n" * 31, "c", "has 62 rows; forecasts of 10 steps need at least 63"),
    "no header": (ROWS, "c", "has no column 'c': it has 1 column: 0.0"),
    "no such column": ("a,b\n" + PAIRS, "c", "has no column 'c': it has 2 columns: a, b"),
    "another case": ("C\n" + ROWS, "c", "has no column 'c': it has 1 column: C"),
    "the column twice": ("c,c\n" + PAIRS, "c", "has 2 columns 'c'"),
    "no column named": ("a,b\n" + PAIRS, None, "--column is needed: "),
    "25 columns": (",".join(f"c{i}" for i in range(25)) + "\n", None, "25 columns: c0, c1, "),
    "too many to list": (",".join(f"c{i}" for i in range(25)) + "\n", None, "c19 and 5 more"),
    "a name with a comma": ('"a, b",c\n' + PAIRS, "d", '2 columns: "a, b", c'),
    "a name of two lines": ('"a\nb",c\n' + PAIRS, "d", r"2 columns: a\nb, c"),
    "an escape in a name": ("\x1b[31m,c\n" + PAIRS, "d", r"2 columns: \x1b[31m, c"),
    "the other delimiter": ("a|b\n" + PAIRS.replace(",", "|"), "c", "2 columns: a, b"),
    "text": (with_row(70, "n/a"), "c", "line 72, column 'c': 'n/a' is not a finite number"),
    "an empty cell": ("b,c\n" + PAIRS + "\n1,\n", "c", "line 102, column 'c': '' is not a finite number"),
    "nan": (with_row(3, "nan"), "c", "line 5, column 'c': 'nan' is not a finite number"),
    "inf": (with_row(3, "-Infinity"), "c", "'-Infinity' is not a finite number"),
    "1e400": (with_row(3, "1e400"), "c", "'1e400' is not a finite number"),
    "a decimal comma": ("c;d\n" + "1,5;2\n" * 100, "c", "line 2, column 'c': '1,5' is not a finite number"),
    "hexadecimal": (with_row(3, "0x10"), "c", "'0x10' is not a finite number"),
    "a cell of 1 MB": (with_row(3, "x" * 10**6), "c", "line 5: a field is longer than 131,072 characters"),
    "a number of 5000 digits": (with_row(3, "9" * 5000), "c", f"'{'9' * 40}…' is not a finite number"),
    "an open quote": (with_row(3, '"0.1'), "c", "a quote is open at the end of the file"),
    "text after a quote": (with_row(3, '"0.1"2'), "c", "line 5: ',' expected after '\"'"),
    "a short row": ("b,c\n" + "1,2\n" * 5 + "1\n", "c", "line 7: 1 fields, where the header has 2"),
    "a long row": ("b,c\n" + "1,2\n" * 5 + "1,2,3\n", "c", "line 7: 3 fields, where the header has 2"),
    "NUL": (with_row(3, "\0"), "c", r"'\x00' is not a finite number"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "c", "line 1 is not UTF-8: byte 0x89 after 0 characters"),
    "Latin-1": ("température\n1\n".encode("latin-1"), "c", "line 1 is not UTF-8: byte 0xe9 after 4 characters"),
    "Latin-1 further on": (with_row(70, "é").encode("latin-1"), "c", "line 72 is not UTF-8: byte 0xe9"),
    "UTF-16": (("c\n" + ROWS).encode("utf-16"), "c", "line 1 is not UTF-8"),
    "constant": ("c\n" + "1\n" * 100, "c", "column 'c' is constant over the first 80 rows, the training part"),
    "constant in training": ("c\n" + "1\n" * 80 + "1\n2\n" * 10, "c", "column 'c' is constant over the first 80 rows"),
    "1e300 in training": (with_row(7, 1e300), "c", "line 9, column 'c': 1e+300 is so far from the other values that"),
    "1e300 held out": (with_row(90, 1e300), "c", "line 92, column 'c': 1e+300 is too many standard deviations from"),
    "1e20 in training": (with_row(7, -1e20), "c", "line 9, column 'c': -1e+20 is so far from the other values that"),
    "1e30 held out": (with_row(90, 1e30), "c", "line 92, column 'c': 1e+30 is too many standard deviations"),
}

# name: the file, and --column and --delimiter, for what is that wave, or that and its negative
READ = {
    "one column, unnamed": ("c\n" + ROWS, None, None),
    "a byte-order mark": ("\ufeffc\n" + ROWS, "c", None),
    "Windows lines": ("c\r\n" + ROWS.replace("\n", "\r\n") + "\r\n", "c", None),
    "old Macintosh lines": ("c\r" + ROWS.replace("\n", "\r"), "c", None),
    "blank lines": ("\n\nc\n\n" + ROWS.replace("\n", "\n\n") + "\n\n", "c", None),
    "spaces": (" c , d\n" + PAIRS.replace(",", " ,\t "), "c", ","),
    "quoted": ('"c"\n' + "\n".join(f'"{value}"' for value in WAVE), "c", None),
    "exponents": ("c\n" + "\n".join(f"{value:+e}" for value in WAVE), "c", None),
    "semicolons": ("c;d\n" + PAIRS.replace(",", ";"), "c,d", None),
    "tabs": ("c\td\n" + PAIRS.replace(",", "\t"), "c,d", None),
    "bars": ("c|d\n" + PAIRS.replace(",", "|"), "c,d", None),
    "a delimiter that is given": ("c d\n" + PAIRS.replace(",", " "), "c,d", " "),
    "commas in a name": ('"c, of ""x""",d\n' + PAIRS, '"c, of ""x""",d', None),
    "commas in names, semicolons between": ("c, m/s;d, m/s\n" + PAIRS.replace(",", ";"), '"c, m/s","d, m/s"', None),
    "one name of many words": ("c of x; of y\n" + ROWS, "c of x; of y", ","),
    "names of all scripts": ("猫🙂,é\n" + PAIRS, "猫🙂,é", None),
    "text beside": ("d,c\n" + "\n".join(f"x,{value}" for value in WAVE), "c", None),
    "100 columns": (
        ",".join(["c", *map(str, range(99))]) + "\n" + "\n".join(f"{v}{',0' * 99}" for v in WAVE),
        "c",
        None,
    ),
}


def options_of(column, delimiter=None):
    options = {"--column": column, "--delimiter": delimiter}
    return [f"{name}={value}" for name, value in options.items() if value is not None]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_the_tables_are_as_long_as_was_said():
    assert len(REFUSED) + len(READ) >= 37


@pytest.mark.parametrize(("content", "column", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_table_of_numbers_is_one_line(tmp_path, capsys, content, column, message):
    file = write(tmp_path / "data.csv", content)
    assert main(["--csv", file, *options_of(column), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "data.csv" in error
    assert error.count("\n") == 1
    assert len(error) < 600 + len(file)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("content", "column", "delimiter"), READ.values(), ids=READ)
def test_odd_tables_are_read(tmp_path, monkeypatch, content, column, delimiter):
    """All of the command line's way to the values."""
    found = []

    def read(*arguments):
        found.append(read_series(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.sine.__main__.read_series", read)
    assert main(["--csv", write(tmp_path / "data.csv", content), *options_of(column, delimiter)]) == 130
    expected = np.array([WAVE, np.negative(WAVE)]).T[:, : found[0].values.shape[1]]
    np.testing.assert_array_equal(found[0].values, expected)
