"""The command line: `python -m experiments.speed`."""

import argparse
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from tqdm import tqdm

from .. import _run
from . import compare, compilation, inference, layers, machine, medians, memory, peers, pictures, profile, report
from .clock import Budget
from .grid import CELLS
from .section import Settings, Step
from .summary import Results, summary

RESULTS = "speed.json"
PICTURE = "speed.png"

SECTIONS = {
    "grid": layers.grid_steps,
    "stacked": layers.stacked_steps,
    "memory": memory.steps,
    "compile": compilation.steps,
    "inference": inference.steps,
    "profile": profile.steps,
}
PARTS = ("grid", "stacked", "memory", "checkpoint", "compile", "import", "inference", "profile", "pages")

DESCRIPTION = """\
Measure how fast jaxrnn is, beside torch.nn, flax.linen, flax.nnx, Haiku, Equinox and a plain lax.scan.

All that is compared runs in one process, in turn, each round in another order, and medians are told. What is not
installed is named and left out: `pip install '.[dev,peers]'` brings all that a CPU needs. Measure on a machine that
does nothing else. All sections take about a quarter of an hour on two cores.

sections:
  grid        one layer on six shapes, forward and forward+backward (gradients of all weights; the loss is the sum of
              the outputs times a fixed array), beside the roofline: the time of the layer's own matrix products, in the
              order in which they must run, by XLA or torch, whichever is faster; three times that for forward+backward
  stacked     two layers in both directions: ours, torch, and plain scans put together
  memory      temporary memory of forward+backward as XLA plans it; what checkpoint="sqrt" saves and costs, T=4096
  compile     time to trace and compile, beside flax.linen's, for short and long sequences; time to import
  inference   microseconds a step, one step a call, batch 1, beside torch's cells, and its layers on one step
  profile     GFLOP/s of the LSTM's products, time of its gates and page faults at the largest shape; what
              GLIBC_TUNABLES=glibc.malloc.hugetlb=1 saves
"""

EPILOG = f"""\
files in DIR:
  {RESULTS}  machine, versions, all measurements with their quartiles, ratios, targets
  {PICTURE}   each peer's time over ours, by shape, and the roofline's

{RESULTS} is written anew after every measurement: Ctrl-C ends early and loses none, and the tables and the picture are
of what is there.

--device gpu measures the same, and cuDNN's LSTM through jax.experimental.rnn and, if it is installed, flashrnn, also at
T=1024, B=16 and 768 units in 48, 12 heads and one. All of it uses one dtype: run it once with each.

--compare tells what became slower, or larger, than in an earlier run. It looks at no times by themselves but at times
over those of a plain scan, the roofline or linen in the same rounds, and names what grew over all of them: where the
middle halves of both runs' rounds lie apart, and the medians by more than 5%. The exit status is 1 if anything did.

--median measures nothing: it tells, of several runs of the same points, the median of each figure.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit status."""
    return _run.exit_status("speed", lambda: _experiment(_parse(argv)))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _run.parser("speed", DESCRIPTION, EPILOG)
    what = parser.add_argument_group("what to measure")
    _several(what, "--sections", SECTIONS, "the parts above (default: all)", default=list(SECTIONS))
    _several(what, "--cells", CELLS, f"of {', '.join(CELLS)} (default: all; with --quick lstm)")
    _several(
        what, "--peers", peers.ALL_PEERS, f"of {', '.join(peers.ALL_PEERS)} (default: all that the device may have)"
    )
    what.add_argument("--device", choices=["cpu", "gpu"], default="cpu", help="default: cpu")
    what.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="default: float32")
    how = parser.add_argument_group("how long")
    how.add_argument(
        "--quick", action="store_true", help="one small shape and short times: to see that all works, not how fast"
    )
    how.add_argument(
        "--seconds",
        type=_run.positive,
        default=8,
        metavar="S",
        help="of rounds at each point, after warming up; 7 rounds at least, and 300 at most (default: 8)",
    )
    against = parser.add_argument_group("earlier runs")
    against.add_argument(
        "--compare", type=_run.path, metavar="OLD.json", help=f"the {RESULTS} of an earlier run: what became slower?"
    )
    against.add_argument(
        "--median", type=_run.path, nargs="+", metavar="OLD.json", help="several runs as one, in place of measuring"
    )
    _run.output_options(parser, "runs/speed")
    return parser.parse_args(argv)


def _several(group: Any, name: str, choices: Iterable[str], what: str, **options: Any) -> None:
    """An option that takes one or more of some names."""
    metavar = name.removeprefix("--").removesuffix("s").upper()
    group.add_argument(name, nargs="+", choices=choices, metavar=metavar, help=what, **options)


def _experiment(arguments: argparse.Namespace) -> int:
    earlier = compare.read(arguments.compare) if arguments.compare else None
    runs = medians.read(arguments.median) if arguments.median else None
    machine.select(arguments.device, arguments.dtype)
    with _run.output_folder(arguments.out, [RESULTS, PICTURE], arguments.overwrite) as folder:
        if runs is None:
            return _measure_and_tell(folder, arguments, earlier)
        results: Results = {part: runs["results"].get(part, []) for part in PARTS}
        _run.write_json(folder / RESULTS, {**runs, **_run.rounded({"summary": summary(results)})})
        _tell(folder, runs["machine"], results)
        return _compare(earlier, runs["machine"], results) if earlier else 0


def _measure_and_tell(folder: pathlib.Path, arguments: argparse.Namespace, earlier: Any) -> int:
    settings, missing = _settings(arguments)
    described = machine.describe(
        arguments.device, arguments.dtype, {name: peer.version for name, peer in settings.peers.items()}
    )
    print(machine.lines(described), flush=True)
    for name, reason in missing.items():
        print(f"{name} is left out: {reason}", flush=True)

    head = {"format": compare.FORMAT, "arguments": vars(arguments), "machine": described, "missing": missing}
    steps = [step for name in SECTIONS if name in arguments.sections for step in SECTIONS[name](settings)]
    results: Results = {part: [] for part in PARTS}
    with _run.until_interrupted(told=None) as ending:
        _measure(steps, results, head, folder / RESULTS)
    _tell(folder, described, results, arguments.quick)
    if ending.status:
        print(f"interrupted after {sum(map(len, results.values()))} of {len(steps)} measurements")
    return ending.status or (_compare(earlier, described, results) if earlier else 0)


def _tell(folder: pathlib.Path, described: dict[str, Any], results: Results, quick: bool = False) -> None:
    """Print the tables and draw the picture."""
    if any(results.values()):
        print(f"\n{report.text(results, quick)}")
    files = [RESULTS]
    if results["grid"]:
        files.append(PICTURE)
        with _run.replacing(folder / PICTURE) as path:
            pictures.draw(path, _title(described), results["grid"])
    print(f"\n{folder}: {', '.join(files)}")


def _settings(arguments: argparse.Namespace) -> tuple[Settings, dict[str, str]]:
    """What to measure, and the peers that are missing."""
    names = arguments.peers or (peers.GPU_PEERS if arguments.device == "gpu" else peers.CPU_PEERS)
    found, missing = peers.load(dict.fromkeys(names))
    wanted = arguments.cells or (["lstm"] if arguments.quick else CELLS)
    cells = tuple(cell for cell in CELLS if cell in wanted)
    budget = Budget(0.3, 3) if arguments.quick else Budget(arguments.seconds, 7)
    return Settings(cells, found, arguments.device, arguments.dtype, arguments.quick, budget), missing


def _measure(steps: list[Step], results: Results, head: dict[str, Any], path: pathlib.Path) -> None:
    """Fill in the results, writing them after each step."""
    with tqdm(steps, disable=None, dynamic_ncols=True, leave=False) as bar:
        for step in bar:
            bar.set_postfix_str(step.title)
            results[step.part].append(step.measure())
            _run.write_json(path, {**head, **_run.rounded({"results": results, "summary": summary(results)})})


def _title(described: dict[str, Any]) -> str:
    versions = described["versions"]
    names = ", ".join(f"{name} {versions[name]}" for name in ("jax", "torch") if name in versions)
    where = described.get("gpu") or f"{described['cpu']}, {described['cores']} cores"
    return (
        "Time of one recurrent layer over jaxrnn's: right of 1 jaxrnn is faster\n"
        f"{where}, {described['dtype']}, {names}, {described['date'][:10]}"
    )


def _compare(earlier: dict[str, Any], described: dict[str, Any], results: Results) -> int:
    text, worse = compare.report(earlier, described, results)
    print(f"\n{text}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
