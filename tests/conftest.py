"""Quick compilation, strict dtype promotion, no silent rank promotion, and processes that end with their test.

Compilation takes most of the time, so programs are compiled with few optimisations, by XLA:CPU's older code
generation, which takes half the time of the newer, and each in one piece: split for many cores, small ones take a fifth
longer. With JAXRNN_TESTS_COMPILE=as-users they are compiled as a user's are: .ci/run also runs so what may depend on
it, the tests of rounding, of memory and of resuming, and all examples.
"""

import contextlib
import gc
import itertools
import os
import pathlib
import signal
import subprocess
import sys

if os.environ.get("JAXRNN_TESTS_COMPILE") != "as-users":  # before JAX is imported, and for child processes too
    _FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}"
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ["JAX_TRACEBACK_FILTERING"] = "off"  # which takes longer than most calls that are refused

import jax
import pytest

pytest.register_assert_rewrite("tests.attacks", "tests.gradients.problems")

_STANDARD = ("experiments", "training", "README.md")  # Optax itself needs standard promotion
_MAPPINGS = 30_000
_TESTS = itertools.count()
_ROOT = pathlib.Path(__file__).parents[1]
_RESET_SIGINT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def pytest_collection_finish(session):
    """The garbage collector leaves modules and tests alone from now on: it took a fifteenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def _strict(request):
    path = pathlib.Path(request.node.path)
    if any(part in path.parts or part in path.name for part in _STANDARD):
        yield
    else:
        with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
            yield


@pytest.fixture(autouse=True)
def _room_for_programs():
    """Compiled programs are dropped between tests, before the process has too many mappings of memory.

    Linux allows 65,530, and each program takes some; two hundred tests may reach that, and the process dies. To count
    them takes 30 ms, so it is done after every twentieth test.
    """
    yield
    maps = pathlib.Path("/proc/self/maps")
    if next(_TESTS) % 20 == 0 and maps.exists() and maps.read_bytes().count(b"\n") > _MAPPINGS:
        jax.clear_caches()


@pytest.fixture
def x64():
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def start():
    """Start a process of this Python that Ctrl-C reaches; what still runs when the test ends is killed.

    A job that a shell script starts with `&` ignores SIGINT, and so do its children until one of them resets it.
    """
    with contextlib.ExitStack() as started:

        def start(*arguments, **options):
            command = [sys.executable, "-c", _RESET_SIGINT, sys.executable, *map(str, arguments)]
            process = started.enter_context(subprocess.Popen(command, cwd=_ROOT, text=True, **options))
            started.callback(process.kill)
            return process

        yield start


@pytest.fixture
def ctrl_c():
    """SIGINT interrupts this process, as in a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
