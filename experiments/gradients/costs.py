"""`python -m experiments.gradients costs`: what a step of each algorithm costs."""

import argparse
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from tqdm import tqdm

from jaxrnn import gradients

from .. import _memory, _run
from .._command import Subparsers, add_parser
from .networks import CELLS

RESULTS = "costs.json"
FILES = (RESULTS,)
BUDGET = 2**34  # bytes that RTRL may take

ALGORITHMS: dict[str, Callable[..., gradients.Gradient]] = {
    "bptt": gradients.bptt,
    'bptt(memory="sqrt")': functools.partial(gradients.bptt, memory="sqrt"),
    'bptt(memory="revolve")': functools.partial(gradients.bptt, memory="revolve"),
    "tbptt(k1=1, k2=10)": functools.partial(gradients.tbptt, k1=1, k2=10),
    "artbp": gradients.artbp,
    "rtrl": functools.partial(gradients.rtrl, budget=BUDGET),
    "snap(order=1)": gradients.snap,
    "uoro": gradients.uoro,
    "kf_rtrl": gradients.kf_rtrl,
    "ok": gradients.ok,
    "ok(rank=8)": functools.partial(gradients.ok, rank=8),
    "rflo": gradients.rflo,
    "eprop": gradients.eprop,
    "dni(k=10)": functools.partial(gradients.dni, k=10),
}

DESCRIPTION = """\
What each gradient algorithm costs: milliseconds a step and bytes of temporaries, as compiled for a whole sequence of
one network with as many inputs as units, as a table in Markdown. The bytes of `bptt` and `artbp` grow with T, those of
`bptt(memory="sqrt")` with its root; the others' do not.
"""

EPILOG = f"""\
files in DIR:
  {RESULTS}  arguments, and the table
"""


def add(subparsers: Subparsers) -> None:
    """Its parser."""
    parser = add_parser(subparsers, "costs", "time and memory of a step of every algorithm", DESCRIPTION, EPILOG)
    parser.add_argument("--cell", choices=CELLS, default="gru", help="default: gru")
    parser.add_argument(
        "--sizes", nargs="+", type=_run.positive, default=[32, 64, 128], metavar="N", help="default: 32 64 128"
    )
    parser.add_argument("--steps", type=_run.positive, default=32, metavar="T", help="of the sequence (default: 32)")


def check(arguments: argparse.Namespace) -> None:
    """An error if the algorithms that take the most would not fit."""
    flags, size = "--sizes or --steps", max(arguments.sizes)
    params, state, xs = _memory.shapes(flags, functools.partial(_initial, arguments, size))
    for name in ("bptt", "rtrl", "ok(rank=8)"):
        options = {"key": jax.random.key(0)} if name.startswith("ok") else {}
        call = functools.partial(ALGORITHMS[name], _problem(arguments.cell), **options)
        with _memory.own_limits():
            _memory.check(flags, call, params, state, xs, None)


def run(arguments: argparse.Namespace, folder: pathlib.Path) -> int:
    """Measure, print; the exit status."""
    found: dict[str, dict[str, Any]] = {name: {} for name in ALGORITHMS}
    for size in tqdm(arguments.sizes, disable=None, leave=False):
        for name, cost in _costs(arguments, size).items():
            found[name][str(size)] = cost
    print(_table(arguments.sizes, found))
    _run.write_json(folder / RESULTS, {"arguments": vars(arguments), "costs": _run.rounded(found)})
    print(f"\n{folder}: {RESULTS}")
    return 0


def _costs(arguments: argparse.Namespace, size: int) -> dict[str, dict[str, Any]]:
    """Milliseconds a step and bytes of each."""
    params, state, xs = _initial(arguments, size)
    key = jax.random.key(1)
    report = gradients.compare(_problem(arguments.cell), params, state, xs, None, ALGORITHMS, key=key, repeats=1)
    costs = {name: measured.cost for name, measured in report.algorithms.items()}
    return {
        name: {"milliseconds": 1e3 * cost.seconds / arguments.steps, "bytes": cost.memory}
        for name, cost in costs.items()
    }


@functools.cache
def _problem(cell_name: str) -> gradients.Problem:
    return gradients.Problem(CELLS[cell_name], functools.partial(_loss, CELLS[cell_name]))


def _initial(arguments: argparse.Namespace, size: int) -> tuple[Any, Any, jax.Array]:
    """Parameters, a state, and inputs."""
    cell, (key_params, key_xs) = CELLS[arguments.cell], jax.random.split(jax.random.key(0))
    params = cell.init(key_params, size, size)
    return params, cell.initial_state(params), jax.random.normal(key_xs, (arguments.steps, size))


def _loss(cell: Any, params: Any, state: Any, y: None) -> jax.Array:
    del params, y
    return jnp.sum(cell.output(state) ** 2)


def _table(sizes: list[int], found: dict[str, dict[str, Any]]) -> str:
    """Milliseconds for each size, then megabytes."""
    heads = [*(f"ms, n = {size}" for size in sizes), *(f"MB, n = {size}" for size in sizes)]
    lines = [["a step", *heads], ["---"] * (1 + len(heads))]
    for name, costs in found.items():
        each = [costs[str(size)] for size in sizes]
        times = [f"{cost['milliseconds']:.2g}" for cost in each]
        sizes_of = ["" if cost["bytes"] is None else f"{cost['bytes'] / 1e6:.2g}" for cost in each]
        lines.append([f"`{name}`", *times, *sizes_of])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
