"""What the sections of the benchmark share: their settings, and the steps that they are made of."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from .clock import Budget
from .peers import Peer


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and for how long."""

    cells: tuple[str, ...]
    peers: dict[str, Peer]  # ours among them
    device: str
    dtype: str
    quick: bool
    budget: Budget


class Step(NamedTuple):
    """One measurement: the part of the results that its record goes to, what it is, and how to make it."""

    part: str
    title: str
    measure: Callable[[], dict[str, Any]]
