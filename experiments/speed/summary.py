"""What the measurements say: ratios to each peer, their geometric means, and the targets beside them."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from .grid import BOTH, CELLS, FORWARD, GRID, LARGEST, MODES
from .inference import OUR_STEP
from .memory import FINAL_STATE, PLAIN, SQRT
from .peers import OURS, OURS_IN_XLA

Results = dict[str, list[dict[str, Any]]]  # the records of each part

BEST = "best peer"
LOWEST = 1.0  # of the best peer's time over ours, at any point


class Target(NamedTuple):
    """A figure beside what it should reach."""

    what: str
    where: str  # the point that decides, if it is one
    value: float
    limit: float
    least: bool  # the limit is the least that will do, rather than the most

    @property
    def met(self) -> bool:
        """Whether the figure is on the right side of its limit."""
        return self.value >= self.limit if self.least else self.value <= self.limit


class Lag(NamedTuple):
    """A point at which a peer is faster than it should be."""

    point: str
    peer: str
    ratio: float


def point_name(record: dict[str, Any]) -> str:
    """Cell and shape."""
    return f"{record['cell']} {record['label']}"


def ratios(record: dict[str, Any], mode: str) -> dict[str, float]:
    """Each peer's median time over ours: above 1, ours is faster."""
    times = record["milliseconds"][mode]
    return {name: time["median"] / times[OURS]["median"] for name, time in times.items() if name != OURS}


def best(record: dict[str, Any], mode: str) -> tuple[str, float] | None:
    """The fastest peer and its ratio; None without peers. Ours without kernels is none."""
    found = {name: ratio for name, ratio in ratios(record, mode).items() if name != OURS_IN_XLA}
    return min(found.items(), key=lambda item: item[1]) if found else None


def geometric_means(records: Iterable[dict[str, Any]], mode: str) -> dict[str, float]:
    """Against the best peer at each point, and against each peer at the points where it was measured."""
    against: dict[str, list[float]] = {}
    for record in records:
        if fastest := best(record, mode):
            against.setdefault(BEST, []).append(fastest[1])
        for name, ratio in ratios(record, mode).items():
            against.setdefault(name, []).append(ratio)
    return {name: float(np.exp(np.mean(np.log(values)))) for name, values in against.items()}


def lags(records: Iterable[dict[str, Any]]) -> list[Lag]:
    """Where the best peer's time over ours is below 1, the worst first."""
    found = [
        Lag(f"{point_name(record)} {mode}", *fastest)
        for record in records
        for mode in MODES
        if (fastest := best(record, mode)) and fastest[1] < LOWEST
    ]
    return sorted(found, key=lambda lag: lag.ratio)


def targets(results: Results) -> list[Target]:
    """All targets of which something was measured."""
    return [
        *_against_peers(results["grid"]),
        *_against_roofline(results["grid"]),
        *_memory(results),
        *_checkpoints(results["checkpoint"]),
        *_compilation(results),
        *_streaming(results["inference"]),
    ]


def coverage(results: Results) -> str:
    """How much of the grid was measured."""
    labels = {shape.label for shape in GRID}
    measured = sum(record["label"] in labels for record in results["grid"])
    return f"{measured} of the {len(GRID) * len(CELLS)} points of the grid"


def summary(results: Results) -> dict[str, Any]:
    """The above, for the results file."""
    return {
        "coverage": coverage(results),
        "geometric_means": {mode: geometric_means(results["grid"], mode) for mode in MODES},
        "lags": [lag._asdict() for lag in lags(results["grid"])],
        "targets": [{**target._asdict(), "met": target.met} for target in targets(results)],
    }


def _against_peers(grid: list[dict[str, Any]]) -> list[Target]:
    limits = {BOTH: {BEST: 2.5, "torch": 5.0}, FORWARD: {BEST: 1.6}}
    found = [
        Target(f"{mode}, times as fast as {_the(name)}", "geometric mean", means[name], limit, True)
        for mode, of_mode in limits.items()
        for means in [geometric_means(grid, mode)]
        for name, limit in of_mode.items()
        if name in means
    ]
    for mode in MODES:
        points = [(fastest[1], point_name(record)) for record in grid if (fastest := best(record, mode))]
        if points:
            ratio, point = min(points)
            found.append(Target(f"{mode}, times as fast as {_the(BEST)}", f"worst: {point}", ratio, LOWEST, True))
    return found


def _the(name: str) -> str:
    return f"the {name}" if name == BEST else name


def _against_roofline(grid: list[dict[str, Any]]) -> list[Target]:
    found = []
    for label in (shape.label for shape in LARGEST):
        for mode in MODES:
            times = [
                (record["over_roofline"][mode]["median"], record["cell"]) for record in grid if record["label"] == label
            ]
            if times:
                time, cell = max(times)
                found.append(Target(f"{mode}, time over the roofline's", f"{label}, worst: {cell}", time, 1.15, False))
    return found


def _memory(results: Results) -> list[Target]:
    found = [
        (memory[OURS] / memory["scan"], point_name(record))
        for record in results["memory"]
        if "scan" in (memory := record["temporary_bytes"])
    ]
    return [Target(f"memory of {BOTH} over scan's", f"worst: {point}", r, 1.1, False) for r, point in _worst(found)]


def _checkpoints(records: list[dict[str, Any]]) -> list[Target]:
    records = [record for record in records if record["loss"] == FINAL_STATE]
    memory = [(-saved_memory(record), record["cell"]) for record in records]
    time = [(record["over_plain"]["median"], record["cell"]) for record in records]
    where = f"{FINAL_STATE}, worst: "
    return [
        *(Target('checkpoint="sqrt", times less memory', where + cell, -r, 20, True) for r, cell in _worst(memory)),
        *(Target('checkpoint="sqrt", time over plain', where + cell, r, 1.5, False) for r, cell in _worst(time)),
    ]


def saved_memory(record: dict[str, Any]) -> float:
    """Plain memory over that with checkpoints."""
    return record["temporary_bytes"][PLAIN] / record["temporary_bytes"][SQRT]


def _compilation(results: Results) -> list[Target]:
    other = [(r["over_linen"]["median"], r["cell"]) for r in results["compile"] if r["over_linen"]]
    longer = [(r["long_over_short"]["median"], r["cell"]) for r in results["compile"]]
    imports = [(1e3 * record["jaxrnn_seconds"]["median"], "") for record in results["import"]]
    return [
        *(Target("time to compile over linen's", f"worst: {cell}", r, 0.5, False) for r, cell in _worst(other)),
        *(Target("time to compile, T=1024 over T=128", f"worst: {cell}", r, 1.2, False) for r, cell in _worst(longer)),
        *(Target("milliseconds to import, after jax", "", r, 50, False) for r, _ in _worst(imports)),
    ]


def _streaming(records: list[dict[str, Any]]) -> list[Target]:
    """Beside the fastest of torch's cells and the plain equations."""
    found = []
    for record in records:
        times = {name: time["median"] for name, time in record["microseconds"].items()}
        others = [time for name, time in times.items() if name not in (OURS, OUR_STEP)]
        found.append((-min(others) / times[OURS], point_name(record)))
    return [Target("streaming, times as fast as the best", f"worst: {at}", -r, 1, True) for r, at in _worst(found)]


def _worst(values: list[tuple[float, str]]) -> list[tuple[float, str]]:
    return [max(values)] if values else []
