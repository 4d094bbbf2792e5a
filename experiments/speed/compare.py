"""What became slower than an earlier run, beyond noise.

Machines are busy and differ, so no times are compared but times over those of something measured in the same rounds.
"""

import json
import pathlib
from typing import Any, NamedTuple

from .. import _run
from .grid import MODES
from .memory import SCAN, SQRT
from .peers import OURS
from .summary import Results, point_name

FORMAT = "jaxrnn speed 1"
TOLERANCE = 1.05  # what the median must have grown by, however small the spread

Figures = dict[str, tuple[float, float, float]]  # quartiles of each; less is better


class Slower(NamedTuple):
    """A figure that grew beyond noise."""

    name: str
    before: float
    after: float


def read(path: str) -> dict[str, Any]:
    """An earlier run's file."""
    try:
        value = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise _run.UserError(f"--compare {path}: {error.strerror}") from error
    except ValueError as error:
        raise _run.UserError(f"--compare {path}: is not JSON") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise _run.UserError(f"--compare {path}: is not a speed.json of this version of the benchmark")
    return value


def figures(results: Results) -> Figures:
    """All that a run can be compared by: times over others of the same rounds, and bytes."""
    found: Figures = {}
    for part in ("grid", "stacked"):
        for record in results[part]:
            for what in ("over_scan", "over_roofline"):
                for mode in MODES if record.get(what) else ():
                    found[f"{part}: {point_name(record)} {mode}, time {_words(what)}"] = _quartiles(record[what][mode])
    for record in results["memory"]:
        found[f"memory: {point_name(record)}, bytes"] = (record["temporary_bytes"][OURS],) * 3
    for record in results["checkpoint"]:
        name = f"checkpoint: {point_name(record)} {record['loss']}"
        found[f"{name}, bytes"] = (record["temporary_bytes"][SQRT],) * 3
        found[f"{name}, time over plain"] = _quartiles(record["over_plain"])
    for part, what in (("compile", "over_linen"), ("compile", "long_over_short"), ("inference", "over_scan")):
        for record in results[part]:
            if record[what]:
                found[f"{part}: {point_name(record)}, time {_words(what)}"] = _quartiles(record[what])
    for record in results["import"]:
        found["import: time over jax's"] = _quartiles(record["over_jax"])
    return found


def slower(before: Figures, after: Figures) -> list[Slower]:
    """Those whose middle halves do not overlap and whose medians are further apart than 5%, the worst first."""
    found = [
        Slower(name, before[name][1], after[name][1])
        for name in before.keys() & after.keys()
        if after[name][0] > before[name][2] and after[name][1] > TOLERANCE * before[name][1]
    ]
    return sorted(found, key=lambda item: (item.before / item.after, item.name))


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What two machines differ in that times depend on."""
    names = ("cpu", "cores", "gpu", "dtype", "precision", "threads", "environment", "versions")
    return [
        f"{name}: {_difference(before.get(name), after.get(name))}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def report(old: dict[str, Any], machine: dict[str, Any], results: Results) -> tuple[str, bool]:
    """The comparison in words, and whether anything became slower."""
    before, after = figures(old["results"]), figures(results)
    found = slower(before, after)
    lines = [f"compared with the run of {old['machine']['date']}: {len(before.keys() & after.keys())} figures"]
    lines += [f"note: not measured alike, {text}" for text in differences(old["machine"], machine)]
    lines += [f"  {x.after / x.before:.2f} times  {x.name}: {x.before:.3g} -> {x.after:.3g}" for x in found]
    lines.append(f"{len(found)} of them became worse, beyond noise" if found else "nothing became worse, beyond noise")
    return "\n".join(lines), bool(found)


def _quartiles(value: dict[str, float]) -> tuple[float, float, float]:
    return value["low"], value["median"], value["high"]


def _words(what: str) -> str:
    return {
        "over_scan": f"over {SCAN}'s",
        "over_roofline": "over the roofline's",
        "over_linen": "over linen's",
        "long_over_short": "at T=1024 over T=128",
    }[what]


def _difference(before: Any, after: Any) -> str:
    if not isinstance(before, dict) or not isinstance(after, dict):
        return f"{before} -> {after}"
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return ", ".join(f"{name} {before.get(name)} -> {after.get(name)}" for name in names)
