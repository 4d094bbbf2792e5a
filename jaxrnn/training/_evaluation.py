"""Measuring the parameters on the way, and choosing to stop by it."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from .._core.checks import check_function, check_int, describe, shown
from ._folder import Row

Stop: TypeAlias = Callable[[list[Row]], bool]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What `fit` measures of the parameters on the way.

    Args:
      function: `params -> dict of floats`, such as the loss of held-out data.
      every: steps between calls, a multiple of `fit`'s chunk; None for one after the last step alone, which is always
        measured.
      stop: `evaluations -> bool`, called after each with all so far: whether it is time to stop. See `early_stopping`.
      best: the name of one of the floats: the parameters where it is least are kept, in `Result.best`, in checkpoints,
        and for `RunFolder.load_best`.

    Raises:
      ValueError: every is not positive.
      TypeError: function or stop is no function, every is no int, best is no string; from `fit`, function gave no dict
        of numbers.
      KeyError: from `fit`, what function gave has no such name.

    >>> from jaxrnn import training
    >>> evaluation = training.Evaluation(lambda params: {"size": abs(params)}, every=100, best="size")
    """

    function: Callable[[Any], dict[str, float]]
    every: int | None = None
    stop: Stop | None = None
    best: str | None = None

    def __post_init__(self) -> None:
        check_function("function", self.function, "params", "dict of numbers")
        if self.stop is not None:
            check_function("stop", self.stop, "evaluations", "bool")
        if self.every is not None:
            check_int("every", self.every)
        if not isinstance(self.best, str | None):
            raise TypeError(f"best must be a name, got {type(self.best).__name__}")


def measure(evaluation: Evaluation, params: Any) -> dict[str, float]:
    """What it gives, as floats."""
    returned = evaluation.function(params)
    if not isinstance(returned, dict) or not all(isinstance(name, str) for name in returned):
        raise TypeError(f"evaluation.function must return a dict of numbers, got {describe(returned)}")
    if taken := {"step", "loss", "seconds"} & set(returned):
        raise ValueError(f"what evaluation.function gives must not be named {sorted(taken)}: fit writes them itself")
    return {name: _number(name, value) for name, value in returned.items()}


def _number(name: str, value: Any) -> float:
    """As a float, which several numbers are not, and no text is."""
    with contextlib.suppress(TypeError, ValueError):
        if not isinstance(value, str) and np.shape(value) == ():
            return float(value)
    raise TypeError(f"evaluation.function must return a dict of numbers, got {describe(value)} as {name!r}")


def check_has(row: Row, name: str) -> None:
    """An evaluation measured something of that name."""
    if name not in row:
        raise KeyError(f"evaluations have no {name!r}, they have {sorted(row.keys() - {'step', 'seconds'})}")


def early_stopping(name: str, patience: int) -> Stop:
    """For `Evaluation`'s stop: whether `name` has not fallen below its least value in the last `patience` evaluations.

    Raises:
      ValueError: patience is not positive.
      TypeError: name is no str, patience no int.
      KeyError: an evaluation has no `name`.

    >>> from jaxrnn import training
    >>> stop = training.early_stopping("validation_loss", patience=2)
    >>> stop([{"validation_loss": loss} for loss in (3.0, 2.0, 2.1)])
    False
    >>> stop([{"validation_loss": loss} for loss in (3.0, 2.0, 2.1, 2.2)])
    True
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {shown(name)} of type {type(name).__name__}")
    check_int("patience", patience)

    def stop(evaluations: list[Row]) -> bool:
        least, waited = float("inf"), 0
        for row in evaluations:
            check_has(row, name)
            waited = 0 if row[name] < least else waited + 1  # NaN is never less
            least = row[name] if waited == 0 else least
        return waited >= patience

    return stop
