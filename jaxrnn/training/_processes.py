"""The processes of one distributed run: they go on together or not at all."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def is_first() -> bool:
    """Whether this process is the one that writes and speaks for all."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Wait until all processes are here."""
    multihost_utils.sync_global_devices(f"jaxrnn {name}")


def of_all(number: int) -> np.ndarray:
    """(processes,), each one's number."""
    if jax.process_count() == 1:
        return np.array([number])
    return multihost_utils.process_allgather(np.array(number)).ravel()


def agreed(function: Callable[[], Any], error: type[Exception]) -> Any:
    """What the function gives, which every process calls; if it raises in one, all raise, and none waits for it."""
    raised = result = None
    try:
        result = function()
    except Exception as exception:
        raised = exception
    failed = of_all(raised is not None)
    if raised is not None:
        raise raised
    if failed.any():
        raise error(f"process {int(failed.argmax())} of this run could not go on: see its own message")
    return result
