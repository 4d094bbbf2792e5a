"""Layers over sequences: every implementation, forward and forward+backward, beside the matrix products alone."""

import functools
from collections.abc import Callable
from typing import Any

from . import roofline
from .clock import Budget, Spread, interleaved, paired, spread
from .grid import BOTH, FORWARD, GRID, HEADS_GRID, MODES, QUICK, STACKED, Task
from .peers import OURS, Peer, build
from .section import Settings, Step

Key = tuple[str, str]  # mode and name, or "roofline" and name
REFERENCE = "scan"


def grid_steps(settings: Settings) -> list[Step]:
    """One layer of each shape and cell."""
    shapes = (QUICK,) if settings.quick else GRID + HEADS_GRID if settings.device == "gpu" else GRID
    tasks = [Task(cell, shape, settings.dtype, settings.device) for cell in settings.cells for shape in shapes]
    return [_step("grid", settings, task) for task in tasks]


def stacked_steps(settings: Settings) -> list[Step]:
    """Two layers in both directions, of each cell."""
    shape = QUICK if settings.quick else STACKED
    tasks = [Task(cell, shape, settings.dtype, settings.device, 2, bidirectional=True) for cell in settings.cells]
    return [_step("stacked", settings, task) for task in tasks]


def _step(part: str, settings: Settings, task: Task) -> Step:
    measure = functools.partial(measure_task, settings.peers, task, settings.budget, bounded=part == "grid")
    return Step(part, f"{part}: {task.cell} {task.shape.label}", measure)


def measure_task(peers: dict[str, Peer], task: Task, budget: Budget, bounded: bool) -> dict[str, Any]:
    """Times of all that can do the task, and the roofline's if `bounded`, all in the same rounds."""
    programs, left_out = build(peers, task)
    runs: dict[Key, Callable[[], Any]] = {}
    for name, program in programs.items():
        runs[FORWARD, name] = program.forward
        runs[BOTH, name] = program.gradient
    if bounded:
        runs |= {("roofline", name): run for name, run in roofline.programs(task).items()}
    samples = interleaved(runs, budget)
    record = {
        "cell": task.cell,
        "label": task.shape.label,
        "milliseconds": {mode: _times(samples, mode) for mode in MODES},
        "over_scan": {mode: _ours_over(samples, mode, (mode, REFERENCE))._asdict() for mode in MODES}
        if REFERENCE in programs
        else {},
        "left_out": left_out,
    }
    return record | (_bound(samples) if bounded else {})


def _bound(samples: dict[Key, list[float]]) -> dict[str, Any]:
    """The roofline's times, and ours over it."""
    times = _times(samples, "roofline")
    fastest = min(times, key=lambda name: times[name]["median"])
    over = {mode: _ours_over(samples, mode, ("roofline", fastest)) for mode in MODES}
    over[BOTH] = _scaled(over[BOTH], 1 / roofline.BACKWARD)
    return {
        "roofline_milliseconds": times,
        "roofline": fastest,
        "over_roofline": {mode: value._asdict() for mode, value in over.items()},
    }


def _times(samples: dict[Key, list[float]], mode: str) -> dict[str, Any]:
    """Milliseconds of every name measured in a mode."""
    return {name: _scaled(spread(values), 1e3)._asdict() for (kind, name), values in samples.items() if kind == mode}


def _ours_over(samples: dict[Key, list[float]], mode: str, other: Key) -> Spread:
    return paired(samples[mode, OURS], samples[other])


def _scaled(value: Spread, factor: float) -> Spread:
    return Spread(value.low * factor, value.median * factor, value.high * factor, value.rounds)
