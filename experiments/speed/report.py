"""The results as tables for the terminal."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .grid import MODES
from .memory import PLAIN, SCAN, SQRT
from .peers import ALL_PEERS, OURS
from .summary import BEST, Results, best, coverage, geometric_means, lags, point_name, ratios, saved_memory, targets

_NONE = "-"


def text(results: Results, quick: bool = False) -> str:
    """All of the tables of which there is anything; of a quick run, whose times say little, no verdicts."""
    parts = [_layers(results["grid"], "one layer"), _layers(results["stacked"], "2 layers, bidirectional")]
    parts += [section(results) for section in (_memory, _checkpoints, _compilation, _inference, _profile, _pages)]
    parts += [_left_out(results), *([] if quick else [_lags(results), _targets(results)])]
    return "\n\n".join(filter(None, parts))


def _layers(records: list[dict[str, Any]], what: str) -> str:
    return "\n\n".join(_mode(records, mode, what) for mode in MODES) if records else ""


def _mode(records: list[dict[str, Any]], mode: str, what: str) -> str:
    names = _peers(record["milliseconds"][mode] for record in records)
    bounded = "over_roofline" in records[0]
    rows = [[mode, f"{OURS}, ms", *names, BEST, *(["roofline"] if bounded else [])]]
    for cell, group in _by_cell(records):
        rows += [[cell]] + [_point(record, mode, names) for record in group]
    means = geometric_means(records, mode)
    rows.append(["geometric mean", "", *(_number(means.get(name)) for name in [*names, BEST])])
    note = "the last column is ours over the roofline's" if bounded else ""
    return f"{what}: each peer's time over ours, above 1 ours is faster; {note}".rstrip("; ") + f"\n{_table(rows)}"


def _point(record: dict[str, Any], mode: str, names: Sequence[str]) -> list[str]:
    time, found, fastest = record["milliseconds"][mode][OURS], ratios(record, mode), best(record, mode)
    row = [f"  {record['label']}", _time(time), *(_number(found.get(name)) for name in names)]
    row.append(f"{fastest[1]:.2f} {fastest[0]}" if fastest else _NONE)
    return row + ([f"{record['over_roofline'][mode]['median']:.2f}"] if "over_roofline" in record else [])


def _memory(results: Results) -> str:
    records = results["memory"]
    names = _peers(record["temporary_bytes"] for record in records)
    rows = [["temporary memory", f"{OURS}, KiB", *names]]
    for record in records:
        sizes = record["temporary_bytes"]
        ours = sizes[OURS]
        relative = (_number(sizes[name] / ours if name in sizes else None) for name in names)
        rows.append([point_name(record), f"{ours / 1024:.0f}", *relative])
    return _titled("forward+backward: each peer's memory over ours, above 1 ours is less", rows)


def _checkpoints(results: Results) -> str:
    rows = [['checkpoint="sqrt"', "memory, KiB", "without", "scan", "times less", "ms", "without", "scan", "times"]]
    for record in results["checkpoint"]:
        sizes, times = record["temporary_bytes"], record["milliseconds"]
        rows.append(
            [
                f"{point_name(record)}, {record['loss']}",
                *(f"{sizes[way] / 1024:.0f}" for way in (SQRT, PLAIN, SCAN)),
                f"{saved_memory(record):.1f}",
                *(f"{times[way]:.2f}" for way in (SQRT, PLAIN, SCAN)),
                f"{record['over_plain']['median']:.2f}",
            ]
        )
    return _titled("gradient of the weights, of a loss on the final state or on all outputs", rows)


def _compilation(results: Results) -> str:
    rows = [["compile", OURS, "linen", "ours over linen's", "T=1024 over T=128"]]
    for record in results["compile"]:
        seconds, over = record["seconds"], record["over_linen"]
        linen = f"{seconds['linen']['median']:.3f} s" if over else _NONE
        times = [_number(value["median"] if value else None) for value in (over, record["long_over_short"])]
        rows.append([point_name(record), f"{seconds[OURS]['median']:.3f} s", linen, *times])
    imports = [
        f"import jaxrnn: {1e3 * record['jaxrnn_seconds']['median']:.0f} ms on top of import jax, "
        f"{1e3 * record['jax_seconds']['median']:.0f} ms"
        for record in results["import"]
    ]
    return "\n".join(filter(None, [_titled("trace and compile forward+backward, from nothing", rows), *imports]))


def _inference(results: Results) -> str:
    records = results["inference"]
    blocks = []
    for cell, group in _by_cell(records):
        names = list(group[0]["microseconds"])
        rows = [[f"{cell}, microseconds a step", *names]]
        rows += [[f"  {r['label']}", *(f"{r['microseconds'][name]['median']:.1f}" for name in names)] for r in group]
        blocks.append(_table(rows))
    return "\n".join(["streaming: batch 1, one step a call, the state donated", *blocks]) if blocks else ""


def _profile(results: Results) -> str:
    lines = []
    for record in results["profile"]:
        speeds = {name: "-" if speed is None else f"{speed:.0f}" for name, speed in record["gigaflops"].items()}
        faults = {mode: f"{count:.0f}" for mode, count in record["page_faults"].items()}
        lines += [f"profile: {point_name(record)}", f"  GFLOP/s       {_named(speeds)}"]
        lines += [f"  gates         {record['gates_nanoseconds']:.2f} ns a unit and step"]
        lines += [f"  page faults   {_named(faults)}"]
    return "\n".join(lines)


def _pages(results: Results) -> str:
    rows = [["time with large pages over that without", *MODES]]
    for record in results["pages"]:
        rows.append([point_name(record), *(_number(record["over_usual"][mode]["median"]) for mode in MODES)])
    return _titled("GLIBC_TUNABLES=glibc.malloc.hugetlb=1, a process each", rows)


def _named(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _left_out(results: Results) -> str:
    """Each reason once, with whom and what it is of."""
    points: dict[tuple[str, str], list[str]] = {}
    for part, records in results.items():
        for record in records:
            for name, reason in record.get("left_out", {}).items():
                points.setdefault((name, reason), []).append(f"{part} {point_name(record)}")
    names: dict[tuple[str, str], list[str]] = {}
    for (name, reason), where in points.items():
        names.setdefault((reason, _some(where)), []).append(name)
    lines = [f"  {', '.join(found)} in {where}: {reason}" for (reason, where), found in names.items()]
    return "\n".join(["left out:", *lines]) if lines else ""


def _some(points: list[str]) -> str:
    return ", ".join(points[:3]) + (f" and {len(points) - 3} more" if len(points) > 3 else "")


def _lags(results: Results) -> str:
    found = lags(results["grid"])
    lines = [f"  {lag.ratio:.2f}  {lag.point}: {lag.peer}" for lag in found]
    return "\n".join(["slower than the best peer:", *lines]) if lines else ""


def _targets(results: Results) -> str:
    rows = [["target", "", "measured", "limit", ""]]
    for target in targets(results):
        limit = f"{'≥' if target.least else '≤'} {target.limit:g}"
        rows.append([target.what, target.where, f"{target.value:.3g}", limit, "met" if target.met else "short"])
    note = f"targets are for float32 on a CPU; measured were {coverage(results)}"
    return _titled(note, rows, left=2)


def _peers(named: Iterable[dict[str, Any]]) -> list[str]:
    """Those that have something in any record, in the order that is always theirs."""
    found = {name for values in named for name in values}
    return [name for name in ALL_PEERS if name in found]


def _by_cell(records: Iterable[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(record["cell"], []).append(record)
    yield from groups.items()


def _time(value: dict[str, float]) -> str:
    """The median, and half of the distance between the quartiles in percent of it."""
    return f"{value['median']:.3g} ±{(value['high'] - value['low']) / 2 / value['median']:.0%}"


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"


def _titled(title: str, rows: list[list[str]], left: int = 1) -> str:
    return f"{title}\n{_table(rows, left)}" if len(rows) > 1 else ""


def _table(rows: list[list[str]], left: int = 1) -> str:
    """Columns as wide as they must be, the first ones to the left."""
    columns = max(map(len, rows))
    rows = [row + [""] * (columns - len(row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = ["<"] * left + [">"] * (columns - left)
    lines = ("  ".join(f"{c:{a}{w}}" for c, a, w in zip(row, align, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
