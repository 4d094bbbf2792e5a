"""The gates of recurrent tensors, which each package lays out in its own way: blocks of rows here, in torch's order."""

from typing import Any, NoReturn

import numpy as np

from .._cells.conv_lstm import conv_lstm
from .._cells.gru import gru
from .._cells.gru_reset_before import gru_reset_before
from .._cells.lstm import lstm
from .._cells.lstm_peephole import lstm_peephole
from .._cells.mgu import mgu, mgu_without_reset
from .._core.cell import Cell
from ._arrays import FormatError
from ._models import Tensors, name_of

_BLOCKS = {lstm: 4, lstm_peephole: 4, gru: 3, gru_reset_before: 3, mgu: 2, mgu_without_reset: 2}
_RARE = {"weight_hr": "a projection", "weight_ch": "peepholes"}


def blocks_of(cell: Cell) -> int:
    """How many blocks of hidden_size rows its tensors have."""
    return 4 if cell.step == conv_lstm.step else _BLOCKS.get(cell, 1)


def gates(cell: Cell, tensors: Tensors, name: str) -> list[np.ndarray]:
    """A tensor's blocks; zeros for a bias that is not there."""
    rows, dtype = tensors["weight_ih"].shape[0], tensors["weight_ih"].dtype
    tensor = np.asarray(tensors[name]) if name in tensors else np.zeros(rows, dtype)
    return np.split(tensor, blocks_of(cell))


def added_biases(cell: Cell, tensors: Tensors) -> list[np.ndarray]:
    """The two biases as one, block by block, for gates that see but their sum."""
    pairs = zip(gates(cell, tensors, "bias_ih"), gates(cell, tensors, "bias_hh"), strict=True)
    return [added(a, b) for a, b in pairs]


def added(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b, and where one is zeros the other, bit for bit."""
    return a if not b.any() else b if not a.any() else a + b


def swapped_igfo(tensor: np.ndarray) -> np.ndarray:
    """Gates i, g, f, o as i, f, g, o, and the inverse."""
    i, g, f, o = np.split(tensor, 4)
    return np.concatenate([i, f, g, o])


def ones_of_forget_gate(bias: np.ndarray) -> np.ndarray:
    """What some packages add to an LSTM's pre-activations, in our order."""
    return np.repeat(np.asarray([0, 1, 0, 0], bias.dtype), bias.shape[0] // 4)


def check_plain(name: str, tensors: Tensors, where: str) -> None:
    """An LSTM has no projection and no peepholes, for a package that has none."""
    for tensor, what in _RARE.items():
        if tensor in tensors:
            raise FormatError(f"{name or 'spec'} has {tensor}, {what}, which {where} has no place for")


def refuse(name: str, layer: Any, where: str, reason: str) -> NoReturn:
    """A layer that a package does not have."""
    raise FormatError(f"{name or 'spec'} is a {name_of(layer)}, which {where} does not hold: {reason}")
