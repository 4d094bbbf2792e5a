"""Time to trace and compile forward and backward, and to import jaxrnn."""

import contextlib
import functools
import os
import pathlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax

from .clock import paired, spread
from .grid import Shape, Task
from .peers import OURS, build
from .section import Settings, Step

OTHER = "linen"
SHORT, LONG = Shape(128, 32, 128, 128), Shape(1024, 32, 128, 128)
IMPORTS = """\
import time
began = time.perf_counter()
import jax
middle = time.perf_counter()
import jaxrnn
print(middle - began, time.perf_counter() - middle)
"""
_ROOT = pathlib.Path(__file__).parents[2]


def steps(settings: Settings) -> list[Step]:
    """Compilation of every cell, then the import."""
    repeats = 1 if settings.quick else 7
    compilations = [
        Step("compile", f"compile: {cell}", functools.partial(_compile, settings, cell, repeats))
        for cell in settings.cells
    ]
    return [*compilations, Step("import", "import", functools.partial(_import, repeats))]


def _compile(settings: Settings, cell: str, repeats: int) -> dict[str, Any]:
    """Ours and linen's at T=128, and ours at T=1024, each from nothing, in turn."""
    tasks = [Task(cell, shape, settings.dtype, settings.device) for shape in (SHORT, LONG)]
    peers = {name: peer for name, peer in settings.peers.items() if name in (OURS, OTHER)}
    programs, _ = build(peers, tasks[0], lambda program, _: program)
    programs["long"] = settings.peers[OURS].build(tasks[1])
    samples: dict[str, list[float]] = {name: [] for name in programs}
    order, shuffle = list(programs), random.Random(0).shuffle
    with _no_cache_on_disk():
        programs[OURS].compile_gradient()  # loads what compiling needs
        for _ in range(repeats):
            shuffle(order)
            for name in order:
                samples[name].append(_seconds(programs[name]))
    return {
        "cell": cell,
        "label": SHORT.label,
        "seconds": {name: spread(values)._asdict() for name, values in samples.items()},
        "long_over_short": paired(samples["long"], samples[OURS])._asdict(),
        "over_linen": paired(samples[OURS], samples[OTHER])._asdict() if OTHER in samples else None,
    }


def _seconds(program: Any) -> float:
    jax.clear_caches()
    began = time.perf_counter()
    program.compile_gradient()
    return time.perf_counter() - began


@contextlib.contextmanager
def _no_cache_on_disk() -> Iterator[None]:
    enabled = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)


def _import(repeats: int) -> dict[str, Any]:
    """Seconds of `import jax`, and of `import jaxrnn` after it, each pair in a process of its own."""
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    pairs = []
    for _ in range(repeats + 1):  # the first fills the disk's cache
        process = subprocess.run(
            [sys.executable, "-c", IMPORTS],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            timeout=300,
        )
        pairs.append([float(seconds) for seconds in process.stdout.split()])
    jax_seconds, our_seconds = zip(*pairs[1:], strict=True)
    return {
        "jax_seconds": spread(jax_seconds)._asdict(),
        "jaxrnn_seconds": spread(our_seconds)._asdict(),
        "over_jax": paired(our_seconds, jax_seconds)._asdict(),
    }
