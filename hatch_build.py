"""Compiles the kernels of `jaxrnn/_scan/native` where there is a C++ compiler; without one the package is pure Python.

`CXX`, `CXXFLAGS` and `LDFLAGS` mean what they do to make. What is compiled needs no Python headers, so that one wheel
fits every Python.
"""

import os
import pathlib
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FOLDER, _LIBRARY = pathlib.Path("jaxrnn", "_scan", "native"), "_kernels.so"
_FLAGS = "-O3 -std=c++17 -fPIC -fvisibility=hidden -ffp-contract=fast -fno-math-errno -fno-trapping-math -Wno-psabi"
_AVX2 = "-mavx2 -mfma -mno-avx512f"  # whatever CXXFLAGS has
_AVX512 = "-mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma -mprefer-vector-width=512"
_GLIBC = {b"libc.so.6", b"libm.so.6", b"libpthread.so.0", b"ld-linux-x86-64.so.2"}


class CustomBuildHook(BuildHookInterface):
    """Adds `_kernels.so` to wheels, and to the tree that an editable install uses."""

    def initialize(self, version: str, build_data: dict) -> None:
        """As hatchling calls it before it builds a wheel, `version` "standard" or "editable"."""
        folder = pathlib.Path(self.root, _FOLDER)
        self._made = tempfile.TemporaryDirectory()  # until `finalize`, or this process ends
        library = (folder if version == "editable" else pathlib.Path(self._made.name)) / _LIBRARY
        if reason := _compile(folder / "source", library):
            self.app.display_warning(f"jaxrnn is installed without compiled kernels, all of it runs: {reason}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform(library.read_bytes(), _words('CXX')[1:] + _words('CXXFLAGS'))}"
        if version != "editable":
            build_data["force_include"][str(library)] = (_FOLDER / _LIBRARY).as_posix()

    def finalize(self, version: str, build_data: dict, artifact_path: str) -> None:
        """As hatchling calls it afterwards."""
        del version, build_data, artifact_path
        self._made.cleanup()


def _words(variable: str) -> list[str]:
    """Of an environment variable, as a shell splits it."""
    try:
        return shlex.split(os.environ.get(variable, "c++" if variable == "CXX" else ""))
    except ValueError as error:
        raise ValueError(f"{variable}={os.environ[variable]}: {error}") from error


def _platform(library: bytes, flags: list[str]) -> str:
    """manylinux_2_17_x86_64 and the like if glibc from such a version on is all that it needs; else linux_x86_64.

    With flags of one's own it may need this machine's processor.
    """
    needed = set(re.findall(rb"\0([\w./+-]+\.so[\w.]*)(?=\0)", library))
    versions = [int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", library)]
    is_portable = not flags and versions and needed <= _GLIBC and b".relr.dyn" not in library
    return f"{f'manylinux_2_{max(17, *versions)}' if is_portable else 'linux'}_x86_64"  # before 17 it has other names


def _compile(source: pathlib.Path, library: pathlib.Path) -> str | None:
    """Why there is no library, or None."""
    try:
        library.unlink(missing_ok=True)  # one of another source
        if sys.platform != "linux" or platform.machine() != "x86_64":
            return f"they are written for Linux on x86-64, this is {sys.platform} on {platform.machine()}"
        compiler = _words("CXX")
        if not compiler or shutil.which(compiler[0]) is None:
            return f"there is no C++ compiler {compiler[0] if compiler else ''!r}"
        with tempfile.TemporaryDirectory() as folder:
            _build(compiler, source, pathlib.Path(folder), library)
    except subprocess.CalledProcessError as error:
        return f"{error.cmd[0]} failed: {_complaint(error)}"
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None


def _complaint(error: subprocess.CalledProcessError) -> str:
    """The first line of what the compiler says that names an error."""
    lines = [line for line in error.stderr.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else f"exit status {error.returncode}")


def _build(compiler: list[str], source: pathlib.Path, folder: pathlib.Path, library: pathlib.Path) -> None:
    """Compile one object for each instruction set and type, and XLA's side, and link them."""
    extra = _words("CXXFLAGS")
    compile_one = [*compiler, *_FLAGS.split(), f"-I{source / 'third_party'}", *extra]
    kernels = {
        f"{isa}_{real}": ["kernels.cc", *flags.split(), f"-DJAXRNN_REAL={real}", f"-DJAXRNN_NAMESPACE={isa}_{real}"]
        for isa, flags in (("avx2", _AVX2), ("avx512", _AVX512))
        for real in ("float", "double")
    }
    parts = {**kernels, "dispatch": ["dispatch.cc"], "binding": ["binding.cc"]}

    def build(name: str) -> str:
        file, *flags = parts[name]
        output = str(folder / f"{name}.o")
        _run([*compile_one, *flags, "-c", str(source / file), "-o", output])
        return output

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(build, parts))
    exports = f"-Wl,--version-script={source / 'exports.map'}"  # symbols stay away from those of other libraries
    link = [
        *compiler,
        "-shared",
        *([] if extra else ["-s"]),
        *extra,
        *objects,
        exports,
        "-lpthread",
        *_words("LDFLAGS"),
    ]
    finished = folder / library.name
    try:  # without the C++ runtime of this machine, where it comes as a static library
        _run([*link, "-static-libstdc++", "-static-libgcc", "-o", str(finished)])
    except subprocess.CalledProcessError:
        _run([*link, "-o", str(finished)])
    shutil.copyfile(finished, library)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, errors="replace", timeout=600)
