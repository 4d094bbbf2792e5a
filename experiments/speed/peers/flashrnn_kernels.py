"""FlashRNN's kernels (Pöppel et al. 2024, arXiv:2412.07752): heads, and inputs projected outside."""

import importlib.metadata
from typing import Any

import torch
from flashrnn import flashrnn  # pyright: ignore[reportMissingImports]
from torch import Tensor

from ..grid import Task
from ._peer import Peer
from ._torch_program import TorchProgram, no_device, placement, torch_program

FUNCTIONS = {"rnn": "elman", "gru": "gru", "lstm": "lstm"}
BIASES = {"rnn": 1, "gru": 4, "lstm": 4}  # blocks of them: its GRU has one more than blocks of weights
BACKENDS = ("cuda_fused", "cuda")  # the faster first; each has sizes that it cannot do


def _build(task: Task) -> TorchProgram:
    errors = []
    for backend in BACKENDS:
        program = _program(task, backend)
        try:
            program.gradient()
        except Exception as error:  # whatever compiling a kernel for these sizes can raise
            errors.append(f"{backend}: {str(error).strip().splitlines()[:1]}")
        else:
            return program
    raise RuntimeError("; ".join(errors))


def _program(task: Task, backend: str) -> TorchProgram:
    shape = task.shape
    head = (shape.heads, shape.head_size)
    weight = _uniform(task, (task.blocks * shape.hidden, shape.inputs))
    recurrent = _uniform(task, (task.blocks, *head, shape.head_size))
    bias = _uniform(task, (BIASES[task.cell], *head))

    def apply(xs: Tensor) -> Tensor:
        projected = torch.nn.functional.linear(xs.transpose(0, 1), weight)
        projected = projected.reshape(shape.batch, shape.steps, task.blocks, *head)
        states, _ = flashrnn(
            projected, recurrent, bias, function=FUNCTIONS[task.cell], backend=backend, dtype=task.dtype
        )
        return states[0].reshape(shape.batch, shape.steps, shape.hidden).transpose(0, 1)

    # Its autograd functions look at whether gradients are enabled, and save nothing where they are not.
    return torch_program(task, apply, [weight, recurrent, bias], without_gradient=torch.no_grad)


def _uniform(task: Task, shape: tuple[int, ...]) -> Tensor:
    tensor: Any = torch.empty(shape, **placement(task))
    bound = task.shape.head_size**-0.5
    return tensor.uniform_(-bound, bound).requires_grad_()


def _refuses(task: Task) -> str | None:
    if task.device != "gpu":
        return "needs --device gpu"
    if task.layers > 1 or task.bidirectional:
        return "is measured with one layer in one direction"
    return no_device(task)


PEER = Peer("flashrnn", importlib.metadata.version("flashrnn"), _refuses, _build)
