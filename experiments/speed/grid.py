"""What is measured: cells, shapes, and the tasks that they make."""

import math
from typing import NamedTuple

import numpy as np

CELLS = ("rnn", "gru", "lstm")
BLOCKS = {"rnn": 1, "gru": 3, "lstm": 4}  # G, blocks of H rows in the weights
FORWARD, BOTH = MODES = ("forward", "forward+backward")


class Shape(NamedTuple):
    """Sizes of a sequence and of the layer that reads it."""

    steps: int  # T
    batch: int  # B
    inputs: int  # I
    hidden: int  # H, of all heads together
    heads: int = 1  # blocks on the diagonal of the recurrent matrix

    @property
    def label(self) -> str:
        """Such as `T128 B32 I128 H128`, with 12 heads of 64 units `H12x64`."""
        hidden = f"{self.heads}x{self.head_size}" if self.heads > 1 else f"{self.hidden}"
        return f"T{self.steps} B{self.batch} I{self.inputs} H{hidden}"

    @property
    def head_size(self) -> int:
        """Hidden units of one head."""
        return self.hidden // self.heads


GRID = (
    Shape(50, 1, 1, 16),
    Shape(128, 32, 32, 64),
    Shape(128, 32, 128, 128),
    Shape(256, 32, 256, 256),
    Shape(1024, 4, 32, 32),
    Shape(128, 128, 256, 512),
)
LARGEST = (GRID[3], GRID[5])  # where the matrix products take most of the time
HEADS_GRID = tuple(Shape(1024, 16, 768, 768, heads) for heads in (48, 12, 1))  # on a GPU
STACKED = Shape(128, 32, 128, 128)
QUICK = Shape(50, 1, 1, 16)


class Task(NamedTuple):
    """One layer, or a stack of them, over a batch of sequences."""

    cell: str
    shape: Shape
    dtype: str
    device: str
    layers: int = 1
    bidirectional: bool = False

    @property
    def blocks(self) -> int:
        """G."""
        return BLOCKS[self.cell]

    @property
    def directions(self) -> int:
        """1 or 2."""
        return 2 if self.bidirectional else 1

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(T, B, directions*H)."""
        return self.shape.steps, self.shape.batch, self.directions * self.shape.hidden

    def inputs(self) -> np.ndarray:
        """xs (T, B, I), the same for every implementation."""
        shape = (self.shape.steps, self.shape.batch, self.shape.inputs)
        return np.random.default_rng(0).normal(size=shape).astype(np.float32)

    def loss_weights(self) -> np.ndarray:
        """What the outputs are multiplied with before they are summed to the loss: the same for every implementation.

        Scaled such that the loss does not grow with the sizes.
        """
        values = np.random.default_rng(1).normal(size=self.output_shape)
        return (values / math.sqrt(values.size)).astype(np.float32)
