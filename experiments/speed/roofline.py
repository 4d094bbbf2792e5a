"""The time of a layer's own matrix products, in the order in which they must run, and of nothing else.

    hoisted  (T*B, I) @ (I, G*H), once
    chained  (B, H) @ (H, G*H), T times, each reading the first H columns of the product before it

The faster of XLA, in one compiled scan, and torch is the roofline of a forward pass; three times that is the roofline
of forward and backward together, which has three products for each of these.
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .grid import Task

BACKWARD = 3  # times forward


def programs(task: Task) -> dict[str, Callable[[], Any]]:
    """The products by XLA and, if it is installed and has the device, by torch."""
    operands = _operands(task)
    arrays = [jnp.asarray(operand, task.dtype) for operand in operands]
    xla = {"XLA": lambda: jax.block_until_ready(_products(*arrays, steps=task.shape.steps))}
    if not importlib.util.find_spec("torch"):
        return xla
    return xla | importlib.import_module(f"{__package__}.roofline_torch").programs(task, operands)


def _operands(task: Task) -> list[np.ndarray]:
    """xs (T*B, I), weight_ih (I, G*H), a first product ([heads,] B, G*D), weight_hh ([heads,] D, G*D), D = H / heads.

    Scaled such that the chained products neither grow nor vanish.
    """
    shape, rng = task.shape, np.random.default_rng(2)
    heads = (shape.heads,) if shape.heads > 1 else ()
    rows, columns = shape.head_size, task.blocks * shape.head_size
    return [
        rng.normal(size=(shape.steps * shape.batch, shape.inputs)),
        rng.normal(size=(shape.inputs, task.blocks * shape.hidden)),
        rng.normal(size=(*heads, shape.batch, columns)),
        rng.normal(size=(*heads, rows, columns), scale=rows**-0.5),
    ]


@functools.partial(jax.jit, static_argnames="steps")
def _products(xs: Array, weight_ih: Array, first: Array, weight_hh: Array, steps: int) -> tuple[Array, Array]:
    def step(product: Array, _: None) -> tuple[Array, None]:  # carries all of it: XLA would not compute less
        return product[..., : weight_hh.shape[-2]] @ weight_hh, None

    return xs @ weight_ih, lax.scan(step, first, None, steps)[0]
