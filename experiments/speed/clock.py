"""Timing of several programs in one process, round by round, each round in another order."""

import gc
import math
import random
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)

BURST = 2e-3  # seconds: what takes less is called several times per sample
PAUSE = 5e-3  # seconds: after a call torch's threads spin for milliseconds, where XLA's sleep
MOST_ROUNDS = 300


class Spread(NamedTuple):
    """The distribution of samples: quartiles, and how many."""

    low: float
    median: float
    high: float
    rounds: int


class Budget(NamedTuple):
    """How long to measure."""

    seconds: float
    rounds: int  # at least


def spread(samples: Sequence[float]) -> Spread:
    """The quartiles of some samples."""
    low, median, high = np.percentile(samples, (25, 50, 75)).tolist()
    return Spread(low, median, high, len(samples))


def paired(samples: Sequence[float], others: Sequence[float]) -> Spread:
    """Of the ratio within each round: slow changes of the machine cancel."""
    return spread([a / b for a, b in zip(samples, others, strict=True)])


def interleaved(programs: Mapping[Key, Callable[[], Any]], budget: Budget) -> dict[Key, list[float]]:
    """Seconds of each program in each round. A program returns when its results are there."""
    calls = {key: _calls(program) for key, program in programs.items()}
    samples: dict[Key, list[float]] = {key: [] for key in programs}
    order, shuffle = list(programs), random.Random(0).shuffle
    gc.collect()
    gc.disable()
    try:
        began, rounds = time.perf_counter(), 0
        while rounds < budget.rounds or (time.perf_counter() - began < budget.seconds and rounds < MOST_ROUNDS):
            shuffle(order)  # so that nobody always follows the same neighbour
            for key in order:
                samples[key].append(_sample(programs[key], calls[key]))
            rounds += 1
    finally:
        gc.enable()
    return samples


def _sample(program: Callable[[], Any], count: int) -> float:
    """Seconds a call, after a pause and a call that is not timed, for all alike.

    The neighbour's threads may still spin, and its data are in the caches.
    """
    time.sleep(PAUSE)
    program()
    began = time.perf_counter()
    for _ in range(count):
        program()
    return (time.perf_counter() - began) / count


def _calls(program: Callable[[], Any]) -> int:
    """How many calls a sample has, from the time of one; compiles what is not yet compiled."""
    return max(1, math.ceil(BURST / _sample(program, 1)))
