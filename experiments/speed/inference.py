"""Streaming: one step of one sequence at a time, each waited for, the state going from step to step."""

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxrnn as jr

from .clock import interleaved, paired, spread
from .grid import Shape, Task
from .peers import OURS, plain_scan
from .peers.jaxrnn_layers import CELLS
from .section import Settings, Step

SIZES = (64, 256)
STEPS = 100  # a sample
OUR_STEP, REFERENCE = f"{OURS}'s step", "scan's step"


def steps(settings: Settings) -> list[Step]:
    """Every cell in every size."""
    tasks = [
        Task(cell, Shape(1, 1, size, size), settings.dtype, settings.device)
        for cell in settings.cells
        for size in (SIZES[:1] if settings.quick else SIZES)
    ]
    measure = [functools.partial(_measure, settings, task) for task in tasks]
    titles = [f"inference: {task.cell} I{task.shape.inputs} H{task.shape.hidden}" for task in tasks]
    return [Step("inference", title, run) for title, run in zip(titles, measure, strict=True)]


def _measure(settings: Settings, task: Task) -> dict[str, Any]:
    """Microseconds a step."""
    runs = _programs(task)
    if "torch" in settings.peers and importlib.util.find_spec("torch"):
        runs |= importlib.import_module(f"{__package__}.inference_torch").programs(task, STEPS)
    samples = interleaved(runs, settings.budget)
    times = {name: [1e6 * seconds / STEPS for seconds in values] for name, values in samples.items()}
    return {
        "cell": task.cell,
        "label": f"I{task.shape.inputs} H{task.shape.hidden}",
        "microseconds": {name: spread(values)._asdict() for name, values in times.items()},
        "over_scan": paired(times[OURS], times[REFERENCE])._asdict(),
    }


def _programs(task: Task) -> dict[str, Callable[[], Any]]:
    """Ours by `unroll` of one step, and by `cell.step`, and the plain equations, under jit, the state donated."""
    cell, shape = CELLS[task.cell], task.shape
    params = cell.init(jax.random.key(0), shape.inputs, shape.hidden, dtype=jnp.dtype(task.dtype))
    x = jnp.asarray(task.inputs()[0], task.dtype)
    plain = jax.jit(plain_scan.STEPS[task.cell], donate_argnums=1)
    unroll = jax.jit(lambda params, state, x: jr.unroll(cell, params, x[None], state)[0], donate_argnums=1)
    step = jax.jit(cell.step, donate_argnums=1)
    return {
        OURS: _stream(unroll, params, cell.initial_state(params, (1,)), x),
        OUR_STEP: _stream(step, params, cell.initial_state(params, (1,)), x),
        REFERENCE: _stream(plain, params._asdict(), plain_scan.zeros(task.cell, x, shape.hidden), x),
    }


def _stream(step: Callable[[Any, Any, Any], Any], params: Any, state: Any, x: Any) -> Callable[[], None]:
    """Takes the next steps of an endless stream."""

    def run() -> None:
        nonlocal state
        for _ in range(STEPS):
            state = jax.block_until_ready(step(params, state, x))

    return run
