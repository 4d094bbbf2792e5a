"""Where a kernel's time goes at a large point, and what large pages of memory save.

The products are told apart by leaving parts out: with one feature there is hardly a product of the inputs, and with a
projection to one unit hardly one of h, so that what is left is the gates.
"""

import functools
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

import jaxrnn as jr

from .clock import Budget, interleaved, paired, spread
from .grid import BOTH, FORWARD, LARGEST, MODES, QUICK, Shape
from .section import Settings, Step

GATES, RECURRENT = "gates alone", "without inputs"
SQUARE = 2048  # rows and columns of a product that is as fast as products are
TUNABLE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
PAIRS = 3


def steps(settings: Settings) -> list[Step]:
    """The LSTM's largest point, then large pages at both of the largest."""
    if settings.device != "cpu" or "lstm" not in settings.cells:
        return []
    shape, largest = (QUICK, [QUICK]) if settings.quick else (LARGEST[-1], LARGEST)
    pairs = 1 if settings.quick else PAIRS
    return [
        Step("profile", f"profile: lstm {shape.label}", functools.partial(_profile, shape, settings.budget)),
        *(
            Step("pages", f"large pages: lstm {s.label}", functools.partial(_pages, s, settings.budget, pairs))
            for s in largest
        ),
    ]


def _profile(shape: Shape, budget: Budget) -> dict[str, Any]:
    """Speeds of the products and the gates, and page faults."""
    alone = shape._replace(inputs=1)
    square = jnp.ones((SQUARE, SQUARE))
    multiply = jax.jit(jnp.matmul)
    runs = {
        **_programs(shape),
        RECURRENT: _programs(alone)[FORWARD],
        GATES: _programs(alone, proj_size=1)[FORWARD],
        "square": lambda: jax.block_until_ready(multiply(square, square)),
    }
    seconds = {name: spread(values).median for name, values in interleaved(runs, budget).items()}
    units = shape.steps * shape.batch * shape.hidden
    weights = 4 * (shape.inputs + shape.hidden)  # of a unit
    return {
        "cell": "lstm",
        "label": shape.label,
        "milliseconds": {name: 1e3 * value for name, value in seconds.items()},
        "gigaflops": {
            "recurrent product": _speed(2 * units * 4 * shape.hidden, seconds[RECURRENT] - seconds[GATES]),
            "inputs' product": _speed(2 * units * 4 * shape.inputs, seconds[FORWARD] - seconds[RECURRENT]),
            "backward pass": _speed(4 * units * weights, seconds[BOTH] - seconds[FORWARD]),
            f"product of {SQUARE} by {SQUARE}": _speed(2 * SQUARE**3, seconds["square"]),
        },
        "gates_nanoseconds": 1e9 * seconds[GATES] / units,
        "page_faults": {mode: _page_faults(runs[mode]) for mode in MODES},
    }


def _programs(shape: Shape, proj_size: int = 0) -> dict[str, Callable[[], Any]]:
    """Forward, and forward and backward."""
    params = jr.lstm.init(jax.random.key(0), shape.inputs, shape.hidden, proj_size=proj_size)
    xs = jnp.ones((shape.steps, shape.batch, shape.inputs))

    def outputs(params: Any, xs: Array) -> Array:
        return jr.unroll(jr.lstm, params, xs)[1]

    forward, both = jax.jit(outputs), jax.jit(jax.grad(lambda params, xs: jnp.sum(outputs(params, xs) ** 2)))
    return {
        FORWARD: lambda: jax.block_until_ready(forward(params, xs)),
        BOTH: lambda: jax.block_until_ready(both(params, xs)),
    }


def _speed(operations: float, seconds: float) -> float | None:
    """In GFLOP/s; None where the clock cannot tell."""
    return 1e-9 * operations / seconds if seconds > 0 else None


def _page_faults(run: Callable[[], Any], calls: int = 3) -> float:
    """A call's."""
    run()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(calls):
        run()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / calls


def _pages(shape: Shape, budget: Budget, pairs: int) -> dict[str, Any]:
    """Time with large pages over that without, each in processes of its own, in turn."""
    samples = [(_child(shape, budget, TUNABLE), _child(shape, budget, {})) for _ in range(pairs)]
    over = {mode: paired([a[mode] for a, _ in samples], [b[mode] for _, b in samples]) for mode in MODES}
    return {"cell": "lstm", "label": shape.label, "over_usual": {mode: s._asdict() for mode, s in over.items()}}


def _child(shape: Shape, budget: Budget, environment: dict[str, str]) -> dict[str, float]:
    """Median seconds."""
    command = [sys.executable, "-m", __name__, json.dumps([*shape]), json.dumps([*budget])]
    found = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=900, env={**os.environ, **environment}
    )
    return json.loads(found.stdout)


if __name__ == "__main__":
    samples = interleaved(_programs(Shape(*json.loads(sys.argv[1]))), Budget(*json.loads(sys.argv[2])))
    print(json.dumps({mode: spread(values).median for mode, values in samples.items()}))
