"""Streaming with torch's cells, and with its layers on sequences of one step."""

from collections.abc import Callable
from typing import Any

import torch

from .grid import Task
from .peers import _torch_program
from .peers.torch_layers import LAYERS

CELLS: dict[str, Any] = {"rnn": torch.nn.RNNCell, "gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}


def programs(task: Task, steps: int) -> dict[str, Callable[[], Any]]:
    """`steps` steps of a cell, and of a layer with T=1, unless torch lacks the device."""
    if _torch_program.no_device(task):
        return {}
    shape, placement = task.shape, _torch_program.placement(task)
    cell = CELLS[task.cell](shape.inputs, shape.hidden, **placement)
    layer = LAYERS[task.cell](shape.inputs, shape.hidden, **placement)
    (xs,) = _torch_program.tensors(task, [task.inputs()])
    return {
        f"torch {type(cell).__name__}": _stream(lambda state: cell(xs[0], state), xs, steps),
        f"torch {type(layer).__name__}, T=1": _stream(lambda state: layer(xs, state)[1], xs, steps),
    }


def _stream(step: Callable[[Any], Any], xs: torch.Tensor, steps: int) -> Callable[[], None]:
    """Takes the next steps of an endless stream."""
    state = None

    def run() -> None:
        nonlocal state
        with torch.inference_mode():
            for _ in range(steps):
                state = step(state)
                _torch_program.wait_for(xs)

    return run
