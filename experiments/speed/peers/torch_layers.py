"""torch.nn's layers: oneDNN's or torch's own loops on a CPU, cuDNN on a GPU."""

from typing import Any

import torch

from ..grid import Task
from ._peer import Peer
from ._torch_program import TorchProgram, no_device, placement, torch_program

LAYERS: dict[str, Any] = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}


def _build(task: Task) -> TorchProgram:
    torch.manual_seed(0)
    shape = task.shape
    layer = LAYERS[task.cell](
        shape.inputs, shape.hidden, task.layers, bidirectional=task.bidirectional, **placement(task)
    )
    return torch_program(task, lambda xs: layer(xs)[0], list(layer.parameters()))


def _refuses(task: Task) -> str | None:
    return "has no heads" if task.shape.heads > 1 else no_device(task)


PEER = Peer("torch", torch.__version__, _refuses, _build)
