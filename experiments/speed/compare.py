"""What became slower than an earlier run, beyond noise.

Machines are busy and differ, so no times are compared but times over those of something measured in the same rounds.
"""

import json
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from .. import _run
from .memory import SQRT
from .peers import OURS
from .summary import Results, point_name

FORMAT = "jaxrnn speed 1"
ROUNDS = 5  # with fewer there is no spread to speak of
TOLERANCE = 1.05  # what the median must have grown by, however small the spread

Quartiles = tuple[float, float, float]
Figures = dict[str, dict[str, Quartiles]]  # of each, over each of the things measured beside it; less is better


class Slower(NamedTuple):
    """A figure that grew beyond noise, whatever it is taken over."""

    name: str
    growth: float  # the least
    changes: dict[str, tuple[float, float]]  # medians before and after, over each


def read(path: str, option: str = "--compare") -> dict[str, Any]:
    """An earlier run's file, which this option names."""
    try:
        value = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise _run.UserError(f"{option} {path}: {error.strerror}") from error
    except ValueError as error:
        raise _run.UserError(f"{option} {path}: is not JSON") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise _run.UserError(f"{option} {path}: is not a speed.json of this version of the benchmark")
    return value


def figures(results: Results) -> Figures:
    """All that a run can be compared by: times over others of the same rounds, and bytes."""
    found: Figures = {}
    for name, other, time in _times(results):
        if time is not None and time["rounds"] >= ROUNDS:
            found.setdefault(name, {})[other] = (time["low"], time["median"], time["high"])
    for name, size in _sizes(results):
        found[name] = {"bytes": (size, size, size)}
    return found


def _times(results: Results) -> Iterator[tuple[str, str, Any]]:
    """The spreads of times over others, with the names of both."""
    for part in ("grid", "stacked"):
        for record in results[part]:
            for what, other in (("over_scan", "over scan's"), ("over_roofline", "over the roofline's")):
                for mode, time in record.get(what, {}).items():
                    yield f"{part}: {point_name(record)} {mode}", other, time
    for record in results["checkpoint"]:
        yield f"checkpoint: {point_name(record)} {record['loss']}, time", "over plain", record["over_plain"]
    for record in results["compile"]:
        yield f"compile: {point_name(record)}", "over linen's", record["over_linen"]
        yield f"compile: {record['cell']} T=1024", "over T=128", record["long_over_short"]
    for record in results["import"]:
        yield "import", "over jax's", record["over_jax"]
    for record in results["inference"]:
        yield f"inference: {point_name(record)}", "over scan's", record["over_scan"]


def _sizes(results: Results) -> Iterator[tuple[str, int]]:
    """Bytes, with their names."""
    for record in results["memory"]:
        yield f"memory: {point_name(record)}", record["temporary_bytes"][OURS]
    for record in results["checkpoint"]:
        yield f"checkpoint: {point_name(record)} {record['loss']}, memory", record["temporary_bytes"][SQRT]


def slower(before: Figures, after: Figures) -> list[Slower]:
    """Those that grew over all that both runs took them over, the worst first.

    One alone may have changed by itself: how fast XLA or torch runs a small program differs from process to process.
    """
    found = []
    for name in before.keys() & after.keys():
        pairs = {other: (before[name][other], after[name][other]) for other in before[name] if other in after[name]}
        if pairs and all(_grew(*pair) for pair in pairs.values()):
            changes = {other: (old[1], new[1]) for other, (old, new) in pairs.items()}
            found.append(Slower(name, min(new / old for old, new in changes.values()), changes))
    return sorted(found, key=lambda item: (-item.growth, item.name))


def _grew(before: Quartiles, after: Quartiles) -> bool:
    """The middle halves do not overlap, and the medians are further apart than 5%."""
    return after[0] > before[2] and after[1] > TOLERANCE * before[1]


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What two machines differ in that times depend on."""
    names = ("cpu", "cores", "gpu", "dtype", "precision", "threads", "kernels", "environment", "versions")
    before, after = ({name: machine.get(name) for name in names} for machine in (before, after))
    return [f"{name}: {_difference(before[name], after[name])}" for name in _unequal(before, after)]


def report(old: dict[str, Any], machine: dict[str, Any], results: Results) -> tuple[str, bool]:
    """The comparison in words, and whether anything became slower."""
    before, after = figures(old["results"]), figures(results)
    found, common = slower(before, after), len(before.keys() & after.keys())
    lines = [f"compared with the run of {old['machine']['date']}: {common} figures with at least {ROUNDS} rounds"]
    lines += [f"note: not measured alike, {text}" for text in differences(old["machine"], machine)]
    lines += [f"  {item.growth:.2f} times  {item.name}: {_changes(item)}" for item in found]
    lines.append(f"{len(found)} of them became worse, beyond noise" if found else "nothing became worse, beyond noise")
    return "\n".join(lines), bool(found)


def _changes(item: Slower) -> str:
    return ", ".join(f"{other} {before:.3g} -> {after:.3g}" for other, (before, after) in item.changes.items())


def _difference(before: Any, after: Any) -> str:
    if not isinstance(before, dict) or not isinstance(after, dict):
        return f"{before} -> {after}"
    return ", ".join(f"{name} {before.get(name)} -> {after.get(name)}" for name in _unequal(before, after))


def _unequal(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]
