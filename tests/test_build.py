"""What compiles the kernels when jaxrnn is installed: with which flags, for which machines, and how it fails."""

import pathlib
import platform
import sys
import tempfile

import pytest

pytest.importorskip("hatchling")
from hatchling.bridge.app import Application

import hatch_build

ROOT = pathlib.Path(__file__).parents[1]
SOURCE = ROOT / "jaxrnn" / "_scan" / "native" / "source"


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """One that kernels are compiled for, with the usual flags."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for name in ("CXX", "CXXFLAGS", "LDFLAGS"):
        monkeypatch.delenv(name, raising=False)


def elf(*strings):
    """The strings that a library has, as they lie in it."""
    return b"\x7fELF\0" + b"".join(string.encode() + b"\0" for string in strings)


PLATFORMS = {
    "an old glibc": (elf("libc.so.6", "GLIBC_2.2.5", "GLIBC_2.4"), [], "manylinux_2_17"),
    "a newer one": (elf("libm.so.6", "libc.so.6", "ld-linux-x86-64.so.2", "GLIBC_2.34"), [], "manylinux_2_34"),
    "flags": (elf("libc.so.6", "GLIBC_2.34"), ["-march=native"], "linux"),
    "the C++ runtime": (elf("libstdc++.so.6", "libc.so.6", "GLIBC_2.34"), [], "linux"),
    "another library": (elf("libc.so.6", "libjemalloc.so", "GLIBC_2.34"), [], "linux"),
    "a path": (elf("/opt/lib/libother.so.1", "libc.so.6", "GLIBC_2.34"), [], "linux"),
    "musl": (elf("libc.musl-x86_64.so.1"), [], "linux"),
    "packed relocations": (elf("libc.so.6", "GLIBC_2.36", ".relr.dyn"), [], "linux"),
}


@pytest.mark.parametrize("case", PLATFORMS)
def test_the_tag_of_a_wheel(case):
    library, flags, expected = PLATFORMS[case]
    assert hatch_build._platform(library, flags) == f"{expected}_x86_64"


def test_flags_do_not_change_the_instruction_sets(monkeypatch, tmp_path):
    """The last of two that contradict each other holds."""
    commands = []

    def run(command):
        commands.append(command)
        pathlib.Path(command[command.index("-o") + 1]).touch()

    monkeypatch.setattr(hatch_build, "_run", run)
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setenv("CXXFLAGS", "-march=native")
    assert hatch_build._compile(SOURCE, tmp_path / "_kernels.so") is None
    for first in ("-mavx2", "-mavx512f"):
        matching = [command for command in commands if first in command]
        assert [command.index("-march=native") < command.index(first) for command in matching] == [True, True]
    assert all(("-mno-avx512f" in command) == ("-mavx2" in command) for command in commands)


FAILURES = {  # what the compiler does, and the reason
    "says why": ("echo 'In file' >&2; echo 'x.cc: error: no' >&2; exit 1", "failed: x.cc: error: no"),
    "says nothing": ("exit 3", "failed: exit status 3"),
    "ends a line": ("echo >&2; exit 3", "failed: exit status 3"),
    "in another encoding": (r"printf '\377 error\n' >&2; exit 1", "failed: \N{REPLACEMENT CHARACTER} error"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_compiler_that_fails(case, monkeypatch, tmp_path):
    script, expected = FAILURES[case]
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert hatch_build._compile(SOURCE, tmp_path / "_kernels.so") == f"{compiler} {expected}"


@pytest.mark.parametrize("variable", ["CXX", "CXXFLAGS", "LDFLAGS"])
def test_a_variable_that_no_shell_reads(variable, monkeypatch, tmp_path):
    monkeypatch.setattr(hatch_build, "_run", lambda command: None)
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setenv(variable, "c++ '")
    assert hatch_build._compile(SOURCE, tmp_path / "_kernels.so") == f"{variable}=c++ ': No closing quotation"


def build(root, version):
    """What hatchling is told to put into a wheel, when all is done."""
    hook = hatch_build.CustomBuildHook(str(root), {}, None, None, "", "wheel", Application())
    data = {"force_include": {}}
    hook.initialize(version, data)
    hook.finalize(version, data, "")
    return data


def test_a_tree_that_cannot_be_written(tmp_path, capsys):
    library = tmp_path / hatch_build._FOLDER / hatch_build._LIBRARY
    library.mkdir(parents=True)  # root may write into any folder, but not over one
    assert build(tmp_path, "editable") == {"force_include": {}}
    assert str(library) in capsys.readouterr().err


def test_what_fails_leaves_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("CXX", "/nonexistent")
    assert build(ROOT, "standard") == {"force_include": {}}
    assert not list(tmp_path.iterdir())
    assert "installed without compiled kernels" in capsys.readouterr().err
