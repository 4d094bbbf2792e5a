"""Back-propagation with a given number of snapshots, by the schedule that computes the fewest steps again.

Griewank and Walther 2000, "Algorithm 799: revolve"; for recurrent networks Gruslys et al. 2016 (arXiv:1606.03401).
"""

import functools
import math
from typing import NamedTuple

import numpy as np


class Schedule(NamedTuple):
    """What to do before the step of time t is back-propagated, t = T-1 … 0: load a state, and run it forward to t.

    Before its j-th forward step of all the state is stored in slot `stores[j]`, unless that is -1.
    """

    load: np.ndarray  # (T,) the slot
    position: np.ndarray  # (T,) the time of the state in it
    begin: np.ndarray  # (T,) its first forward step among all
    end: np.ndarray  # (T,) the one after its last
    stores: np.ndarray  # (forward steps + 1,), so that it is never empty


def reach(snapshots: int, repeats: int) -> int:
    """How many steps that many snapshots can reverse, none run forward more often than `repeats`: C(s + r, s)."""
    return math.comb(snapshots + repeats, snapshots) if repeats >= 0 else 0


def forward_steps(steps: int, snapshots: int) -> int:
    """The fewest forward steps, besides the T that are back-propagated: r T - C(s + r, r - 1), for the least such r."""
    repeats = _repeats(steps, snapshots)
    return repeats * steps - (math.comb(snapshots + repeats, repeats - 1) if repeats else 0)


def default_snapshots(steps: int) -> int:
    """log₂T + 1: with them no step is run forward more than about log₄T times."""
    return min(steps, math.ceil(math.log2(steps)) + 1)


def _repeats(steps: int, snapshots: int) -> int:
    repeats = 0
    while reach(snapshots, repeats) < steps:
        repeats += 1
    return repeats


def _next_snapshot(steps: int, snapshots: int) -> int:
    """How many steps after a snapshot to take the next, `steps` being left and `snapshots` counting both."""
    repeats = _repeats(steps, snapshots)
    return max(1, reach(snapshots, repeats - 2), steps - reach(snapshots - 1, repeats))


@functools.lru_cache
def schedule(steps: int, snapshots: int) -> Schedule:
    """The plan for T steps; the first snapshot is the initial state, in slot 0."""
    held = [0]  # the times of the states in slots 0, 1, ...
    rows: list[tuple[int, int, int, int]] = []
    stores: list[int] = []
    for time in reversed(range(steps)):
        while held[-1] > time:
            held.pop()
        slot, here, begin = len(held) - 1, held[-1], len(stores)
        rows.append((slot, here, begin, begin + time - here))
        stores += [-1] * (time - here)
        while here < time and len(held) < snapshots:
            here += _next_snapshot(time + 1 - here, snapshots - len(held) + 1)
            if here < time:  # otherwise it is back-propagated at once
                stores[begin + here - held[slot]] = len(held)
                held.append(here)
    load, position, begin, end = np.array(rows, np.int32).T
    return Schedule(load, position, begin, end, np.array([*stores, -1], np.int32))
