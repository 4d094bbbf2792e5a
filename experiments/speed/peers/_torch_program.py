"""A task as torch does it."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..grid import Task
from ..machine import cores

torch.set_num_threads(cores())


@dataclasses.dataclass(frozen=True)
class TorchProgram:
    """A function of the inputs, with the tensors to differentiate with respect to."""

    apply: Callable[[Tensor], Tensor]  # xs (T, B, I) -> ys (T, B, H)
    params: Sequence[Tensor]
    xs: Tensor
    weights: Tensor
    without_gradient: Any = torch.inference_mode

    def forward(self) -> Tensor:
        """The outputs."""
        with self.without_gradient():
            return self._finished(self.apply(self.xs))

    def gradient(self) -> Any:
        """The loss and its gradient."""
        loss = (self.apply(self.xs) * self.weights).sum()
        return self._finished([loss, *torch.autograd.grad(loss, self.params)])

    def numpy(self, values: Any) -> list[np.ndarray]:
        """The tensors."""
        tensors = [values] if isinstance(values, Tensor) else values
        return [tensor.detach().cpu().float().numpy() for tensor in tensors]

    def _finished(self, values: Any) -> Any:
        wait_for(self.xs)
        return values


def wait_for(tensor: Tensor) -> None:
    """Until all that was begun on the tensor's device is done."""
    if tensor.is_cuda:
        torch.cuda.synchronize()


def no_device(task: Task) -> str | None:
    """Whether torch lacks the task's device."""
    return "torch sees no GPU" if task.device == "gpu" and not torch.cuda.is_available() else None


def placement(task: Task) -> dict[str, Any]:
    """`device` and `dtype` as torch has them."""
    return {"device": "cuda" if task.device == "gpu" else "cpu", "dtype": getattr(torch, task.dtype)}


def torch_program(
    task: Task, apply: Callable[[Tensor], Tensor], params: Sequence[Tensor], **options: Any
) -> TorchProgram:
    """The program of a function, with the task's data."""
    return TorchProgram(apply, params, *tensors(task, [task.inputs(), task.loss_weights()]), **options)


def tensors(task: Task, arrays: Iterable[np.ndarray]) -> list[Tensor]:
    """The arrays in the task's dtype, on its device."""
    return [torch.tensor(array, **placement(task)) for array in arrays]
