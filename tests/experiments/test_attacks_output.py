"""Attacks on where results go: folders that cannot be written, full disks, terminals without the letters."""

import os
import pathlib
import subprocess
import sys

import pytest

from experiments.hello.__main__ import main

ROOT = pathlib.Path(__file__).parents[2]
RUN = ["--form", "cell", "--epochs", "100"]
FULL = pathlib.Path("/dev/full")

# name: --out, from a folder with a file in it, and what the one line says
NO_FOLDERS = {
    "a file": ("file.txt", "cannot write to file.txt: File exists"),
    "below a file": ("file.txt/run", "cannot write to file.txt/run: Not a directory"),
    "a device": ("/dev/null", "cannot write to /dev/null: File exists"),
    "below a device": ("/dev/null/run", "cannot write to /dev/null/run: Not a directory"),
    "what no system allows": ("/proc/run", "cannot write to /proc/run: No such file or directory"),
    "a name too long": ("x" * 300, "x: File name too long"),
    "a path too long": ("x/" * 3000, "x: File name too long"),
}


@pytest.mark.parametrize(("out", "message"), NO_FOLDERS.values(), ids=NO_FOLDERS)
def test_what_can_be_no_folder_is_one_line(tmp_path, monkeypatch, capsys, out, message):
    (tmp_path / "file.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert main([*RUN, "--out", out]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("absolute", [False, True])
def test_what_is_there_is_kept(tmp_path, monkeypatch, capsys, absolute):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text("mine")
    assert main([*RUN, "--out", str(tmp_path / "run") if absolute else "run"]) == 2
    assert "run already holds a run (summary.json): replace it with --overwrite" in capsys.readouterr().err
    assert (tmp_path / "run" / "summary.json").read_text() == "mine"


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_that_is_read_only_is_one_line(tmp_path, monkeypatch, unprivileged, capsys, exists):
    monkeypatch.chdir(tmp_path)
    if exists:
        pathlib.Path("run").mkdir(0o555)
    with unprivileged():
        assert main([*RUN, "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("hello: error: cannot write to run")
    assert error.endswith(": Permission denied\n")
    assert error.count("\n") == 1


def command(*arguments, **options):
    """The exit status and what is on stderr, and on stdout if that is not elsewhere."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 100} | options
    done = subprocess.run(arguments, cwd=ROOT, **options)
    return done.returncode, (done.stdout or b"").decode(), done.stderr.decode()


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="no such device")
@pytest.mark.parametrize("options", [["--help"], RUN])
def test_a_full_device_is_one_line(tmp_path, options):
    """Python itself tells of it at exit in two lines, with status 120."""
    hello = [sys.executable, "-m", "experiments.hello", *options, "--out", str(tmp_path / "run")]
    with FULL.open("w") as stdout:
        status, _, error = command(*hello, stdout=stdout)
    assert (status, error) == (1, "hello: error: cannot write: No space left on device\n")


@pytest.mark.slow
def test_a_disk_without_room_is_one_line(tmp_path):
    """No file may be longer than 1 kB."""
    hello = [sys.executable, "-m", "experiments.hello", *RUN, "--out", str(tmp_path / "run")]
    status, _, error = command("bash", "-c", 'ulimit -f 1 && exec "$@"', "bash", *hello)
    assert status in (1, 2)
    assert error.startswith("hello: error: cannot write ")
    assert error.endswith("metrics.jsonl: File too large\n")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_terminal_without_the_letters_shows_their_escapes(tmp_path):
    hello = [sys.executable, "-m", "experiments.hello", *RUN, "--source", "猫é", "--out", str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    status, out, error = command(*hello, "--target", "é猫", env=environment)
    assert (status, error) == (0, "")
    assert r"last prediction \xe9\u732b" in out
    status, out, error = command(*hello, "--target", "é", env=environment)
    assert (status, out) == (2, "")
    assert error.endswith("got 2 and 1 characters ('\\u732b\\xe9', '\\xe9')\n")
