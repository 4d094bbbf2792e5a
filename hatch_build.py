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
_AVX2 = "-mavx2 -mfma"
_AVX512 = "-mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma -mprefer-vector-width=512"


class CustomBuildHook(BuildHookInterface):
    """Adds `_kernels.so` to wheels, and to the tree that an editable install uses."""

    def initialize(self, version: str, build_data: dict) -> None:
        """As hatchling calls it before it builds a wheel, `version` "standard" or "editable"."""
        folder = pathlib.Path(self.root, _FOLDER)
        library = folder / _LIBRARY if version == "editable" else pathlib.Path(tempfile.mkdtemp(), _LIBRARY)
        library.unlink(missing_ok=True)
        if reason := _compile(folder / "source", library):
            self.app.display_warning(f"jaxrnn is installed without compiled kernels, all of it runs: {reason}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform(library.read_bytes())}"
        if version != "editable":
            build_data["force_include"][str(library)] = (_FOLDER / _LIBRARY).as_posix()

    def finalize(self, version: str, build_data: dict, artifact_path: str) -> None:
        """As hatchling calls it afterwards."""
        del artifact_path
        for library in build_data["force_include"] if version != "editable" else ():
            if library.endswith(_LIBRARY):
                shutil.rmtree(pathlib.Path(library).parent)


def _platform(library: bytes) -> str:
    """manylinux_2_17_x86_64 and the like if all that it needs is glibc from such a version on; else linux_x86_64."""
    versions = [int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", library)]
    is_alone = versions and b"libstdc++.so" not in library
    return f"{f'manylinux_2_{max(versions)}' if is_alone else 'linux'}_x86_64"


def _compile(source: pathlib.Path, library: pathlib.Path) -> str | None:
    """Why there is no library, or None."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return f"they are written for Linux on x86-64, this is {sys.platform} on {platform.machine()}"
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    if not compiler or shutil.which(compiler[0]) is None:
        return f"there is no C++ compiler {compiler[0] if compiler else ''!r}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            _build(compiler, source, pathlib.Path(folder), library)
        except subprocess.CalledProcessError as error:
            lines = (error.stderr or str(error)).strip().splitlines()
            return f"{compiler[0]} failed: {next((line for line in lines if 'error' in line), lines[0])}"
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{compiler[0]} failed: {error}"
    return None


def _build(compiler: list[str], source: pathlib.Path, folder: pathlib.Path, library: pathlib.Path) -> None:
    """Compile one object for each instruction set and type, and XLA's side, and link them."""
    compile_one = [*compiler, *_FLAGS.split(), f"-I{source / 'third_party'}"]
    kernels = {
        f"{isa}_{real}": ["kernels.cc", *flags.split(), f"-DJAXRNN_REAL={real}", f"-DJAXRNN_NAMESPACE={isa}_{real}"]
        for isa, flags in (("avx2", _AVX2), ("avx512", _AVX512))
        for real in ("float", "double")
    }
    parts = {**kernels, "dispatch": ["dispatch.cc"], "binding": ["binding.cc"]}
    extra = shlex.split(os.environ.get("CXXFLAGS", ""))

    def build(name: str) -> str:
        file, *flags = parts[name]
        output = str(folder / f"{name}.o")
        _run([*compile_one, *flags, *extra, "-c", str(source / file), "-o", output])
        return output

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(build, parts))
    exports = f"-Wl,--version-script={source / 'exports.map'}"  # symbols stay away from those of other libraries
    link = [*compiler, "-shared", *([] if extra else ["-s"]), *extra, *objects, exports, "-lpthread"]
    link += shlex.split(os.environ.get("LDFLAGS", ""))
    finished = folder / library.name
    try:  # without the C++ runtime of this machine, where it comes as a static library
        _run([*link, "-static-libstdc++", "-static-libgcc", "-o", str(finished)])
    except subprocess.CalledProcessError:
        _run([*link, "-o", str(finished)])
    shutil.copyfile(finished, library)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
