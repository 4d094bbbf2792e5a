"""Several runs as one: of each figure the median."""

import statistics
from collections.abc import Sequence
from typing import Any

import jax

from .. import _run
from . import compare


def read(paths: Sequence[str]) -> dict[str, Any]:
    """What runs of the same points left, as what one run leaves."""
    runs = [compare.read(path, "--median") for path in paths]
    for path, run in zip(paths, runs, strict=True):
        if _points(run) != _points(runs[0]):
            raise _run.UserError(f"--median {path}: has other points, or other peers, than {paths[0]}")
    return {**runs[0], "results": _medians([run["results"] for run in runs]), "runs": len(runs)}


def _points(run: dict[str, Any]) -> Any:
    """What was measured: all names, without the figures."""
    records = [record for part in run["results"].values() for record in part]
    return jax.tree.structure(run["results"]), [(record.get("cell"), record.get("label")) for record in records]


def _medians(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, dict):
        return {key: _medians([value[key] for value in values]) for key in first}
    if isinstance(first, list):
        return [_medians(group) for group in zip(*values, strict=True)]
    return statistics.median(values) if isinstance(first, int | float) else first
