"""Attacks on `charlm --text`: what is no text, folders that hold more than text, and characters that no font has."""

import os
import pathlib
import socket
import warnings

import matplotlib.image
import numpy as np
import pytest

from experiments import _glyphs
from experiments._corpus import make_corpus, read_text
from experiments.charlm import pictures
from experiments.charlm.__main__ import main


def link(target):
    return lambda path: path.symlink_to(target)


def listen(path):
    """A socket, whose name may be no longer than 100 characters."""
    before = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


# name: what lies in a folder, what of it is given as --text, and what the one line says
REFUSED = {
    "missing": ({}, "none.txt", "none.txt: No such file or directory"),
    "empty": ({"a.txt": ""}, "a.txt", "a.txt holds no text"),
    "a byte-order mark alone": ({"a.txt": "\ufeff"}, "a.txt", "a.txt holds no text"),
    "an empty folder": ({}, ".", "holds no text"),
    "hidden files alone": ({".a.txt": "x", ".git/b": "x"}, ".", "holds no text"),
    "Latin-1": ({"a.txt": "naïve".encode("latin-1")}, "a.txt", "a.txt is not UTF-8: byte 0xef at position 2"),
    "UTF-16": ({"a.txt": "text".encode("utf-16")}, "a.txt", "a.txt is not UTF-8: byte 0xff at position 0"),
    "cut off": ({"a.txt": "naï".encode()[:-1]}, "a.txt", "a.txt is not UTF-8: byte 0xc3 at position 2"),
    "surrogates": ({"a.txt": "\ud800".encode(errors="surrogatepass")}, "a.txt", "a.txt is not UTF-8: byte 0xed"),
    "a picture among texts": ({"a.txt": "x", "b.png": b"\x89PNG"}, ".", "b.png is not UTF-8: byte 0x89 at position 0"),
    "an endless device": ({}, "/dev/zero", "cannot read /dev/zero: it is a device, expected a file"),
    "an empty device": ({}, "/dev/null", "cannot read /dev/null: it is a device, expected a file"),
    "a pipe": ({"a": os.mkfifo}, "a", "a: it is a pipe, expected a file"),
    "a pipe among texts": ({"a.txt": "x", "b": os.mkfifo}, ".", "b: it is a pipe, expected a file"),
    "a socket": ({"a": listen}, "a", "a: it is a socket, expected a file"),
    "a link to a device": ({"a.txt": link("/dev/zero")}, "a.txt", "a.txt: it is a device, expected a file"),
    "a link to itself": ({"a.txt": link("a.txt")}, "a.txt", "a.txt: Too many levels of symbolic links"),
    "a link to nothing": ({"a.txt": "x", "b.txt": link("none")}, ".", "b.txt: No such file or directory"),
    "a name too long": ({}, "x" * 300, "x: File name too long"),
    "a file as a folder": ({"a.txt": "x"}, "a.txt/b.txt", "b.txt: Not a directory"),
    "too short to train on": ({"a.txt": "short"}, "a.txt", "the training part has 4 characters, 32 streams of 64 need"),
}

# name: what lies in a folder, what of it is given, and the text
READ = {
    "a byte-order mark": ({"a.txt": "\ufefftext"}, "a.txt", "text"),
    "a byte-order mark in each": ({"a": "\ufeff1", "b": "\ufeff2"}, ".", "12"),
    "a byte-order mark within": ({"a": "1\ufeff2"}, ".", "1\ufeff2"),
    "hidden files": ({"a": "1", ".b": "2", "c/.d": "3"}, ".", "1"),
    "hidden folders": ({"a": "1", ".git/config": "2", "c/.cache/d": "3"}, ".", "1"),
    "a hidden file that is named": ({".a": "1"}, ".a", "1"),
    "a hidden folder that is named": ({".a/b": "1"}, ".a", "1"),
    "a link within": ({"a": "1", "b": link("a")}, ".", "11"),
    "a link out": ({"a": "1", "b": link("/etc/passwd"), "c": link("../../a")}, ".", "1"),
    "a link out that is named": ({"a/b": "1", "c": link("a/b")}, "c", "1"),
    "a link to the folder": ({"a/b": "1", "c": link("a")}, "c", "1"),
    "a folder linked to within": ({"a/b": "1", "c": link("a")}, ".", "1"),
    "a folder that holds itself": ({"a": "1", "b": link(".")}, ".", "1"),
    "an empty file beside": ({"a": "", "b": "1"}, ".", "1"),
    "Windows lines": ({"a": "1\r\n2"}, "a", "1\r\n2"),
    "NUL and controls": ({"a": "\0\x1b\u2028\u202e"}, "a", "\0\x1b\u2028\u202e"),
    "a name with a line break": ({"a\nb": "1"}, "a\nb", "1"),
    "a name of no script": ({os.fsdecode(b"\xff"): "1"}, ".", "1"),
}


def build(folder, content):
    for name, made in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(made):
            made(path)
        else:
            path.write_bytes(made if isinstance(made, bytes) else made.encode())


def test_the_tables_are_as_long_as_was_said():
    assert len(REFUSED) + len(READ) >= 19


@pytest.mark.parametrize(("content", "name", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_text_is_one_line(tmp_path, monkeypatch, capsys, content, name, message):
    build(tmp_path, content)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--text", name, "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_closed_folder_is_one_line(tmp_path, monkeypatch, unprivileged, capsys):
    build(tmp_path, {"a/b.txt": "x", "c/d.txt": "x"})
    monkeypatch.chdir(tmp_path)
    pathlib.Path("c").chmod(0)
    with unprivileged():
        assert main(["train", "--text", "."]) == 2
    assert capsys.readouterr().err == "charlm: error: cannot read ./c: Permission denied\n"


@pytest.mark.parametrize(("content", "name", "text"), READ.values(), ids=READ)
def test_odd_texts_are_read(tmp_path, monkeypatch, content, name, text):
    build(tmp_path / "deep" / "folder", content)
    (tmp_path / "a").write_text("outside")
    monkeypatch.chdir(tmp_path / "deep" / "folder")
    assert read_text(name) == text
    assert make_corpus(text, (100.0, 0.0, 0.0)).vocabulary == "".join(sorted(set(text)))


# Characters that fonts lack

ODD = "naïve 猫🙂𐎀 $x_1$ \\frac \0\x07\u200b\u202e\ufffe\U000f0000\t\n"


@pytest.fixture
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.usefixtures("no_warnings")
def test_a_text_of_any_characters_is_drawn(tmp_path):
    """matplotlib warned once for each character that its font lacks, and drew a box."""
    losses = np.linspace(0, 9, len(ODD))
    pictures.draw_heat_map(tmp_path / "heatmap.png", ODD, losses, 3, np.linspace(-1, 1, len(ODD)))
    assert np.std(matplotlib.image.imread(tmp_path / "heatmap.png")) > 0.1


def test_characters_of_no_font_are_drawn_as_their_code_points(monkeypatch):
    monkeypatch.setattr(_glyphs, "_others", lambda: [])  # whatever this machine has
    assert pictures._code("猫") == ("73\n2B", 5)
    assert pictures._code("\U000f0000") == ("0F0\n000", pytest.approx(10 / 3))
    label = _glyphs.label("naïve 猫\U000f0000 $x$\n")
    assert label.text == "naïve \\u732b\\U000f0000 $x$\\n"
    assert label.options == {"family": ["DejaVu Sans"], "parse_math": False}


def test_a_font_that_has_the_characters_is_found(monkeypatch):
    has = {"base": {*map(ord, "ab")}, "other": {*map(ord, "xyz")}, "cat": {ord("猫")}}
    monkeypatch.setattr(_glyphs, "_others", lambda: list(zip(has, has, strict=True)))
    monkeypatch.setattr(_glyphs, "_code_points", lambda file: has.get(pathlib.Path(file).name, has["base"]))
    assert _glyphs.fonts_of("abab", "DejaVu Sans") == (["DejaVu Sans"], set())
    assert _glyphs.fonts_of("a猫🙂", "DejaVu Sans") == (["DejaVu Sans", "cat"], {"🙂"})


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("losses", [[0.0, 0.0, 0.0], [4.0, 2.0, 1.0]], ids=["constant text", "any"])
def test_the_learning_curve_shows_its_beginning(tmp_path, monkeypatch, losses):
    """A text of one character has a loss of 0 throughout, to which the axis was cut; so was the first loss of any."""
    shown = []
    monkeypatch.setattr(pictures.Figure, "savefig", lambda figure, *args, **options: shown.append(figure.axes[0]))
    history = [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]
    pictures.draw_learning(tmp_path / "learning.png", "title", history, [{"step": 3, "validation_loss": losses[-1]}])
    low, high = shown[0].get_ylim()
    assert low < min(losses)
    assert high > max(losses)
