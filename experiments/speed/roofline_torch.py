"""The matrix products of a layer by torch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .grid import Task
from .peers import _torch_program


def programs(task: Task, operands: Sequence[np.ndarray]) -> dict[str, Callable[[], Any]]:
    """The products, unless torch lacks the device."""
    if _torch_program.no_device(task):
        return {}
    tensors = _torch_program.tensors(task, operands)
    return {"torch": lambda: _products(*tensors, steps=task.shape.steps)}


def _products(xs: Tensor, weight_ih: Tensor, first: Tensor, weight_hh: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        hoisted = torch.matmul(xs, weight_ih)
        product, other = first.clone(), torch.empty_like(first)
        for _ in range(steps):
            torch.matmul(product[..., : weight_hh.shape[-2]], weight_hh, out=other)
            product, other = other, product
    _torch_program.wait_for(product)
    return hoisted, product
