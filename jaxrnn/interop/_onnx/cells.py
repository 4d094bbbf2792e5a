"""The cell that an operator steps: one of the library's where it has it, else one made of its activations."""

import dataclasses
import functools
from typing import Any, NamedTuple

from jax import Array

from ..._cells.affine import AffineParams, affine_cell, sum_of_z_and_r
from ..._cells.gru import gru, gru_of
from ..._cells.gru_reset_before import gru_reset_before, reset_before_step
from ..._cells.lstm import LSTMState, lstm, lstm_output, lstm_state
from ..._cells.lstm_peephole import LSTMPeepholeParams, check_peephole_params, lstm_peephole, peephole_gates
from ..._cells.rnn import rnn, rnn_of, rnn_relu
from ..._core.cell import Cell, Methods, named
from .activations import Activation


class Traits(NamedTuple):
    """What tells the cells of operators from each other."""

    op_type: str
    functions: tuple[Activation, ...]  # f of an RNN, f and g of a GRU, f, g and h of an LSTM
    peepholes: bool = False
    input_forget: bool = False
    linear_before_reset: bool = False


_RELU, _SIGMOID, _TANH = Activation("Relu"), Activation("Sigmoid"), Activation("Tanh")
LIBRARY = {
    Traits("RNN", (_TANH,)): rnn,
    Traits("RNN", (_RELU,)): rnn_relu,
    Traits("LSTM", (_SIGMOID, _TANH, _TANH)): lstm,
    Traits("LSTM", (_SIGMOID, _TANH, _TANH), peepholes=True): lstm_peephole,
    Traits("GRU", (_SIGMOID, _TANH)): gru_reset_before,
    Traits("GRU", (_SIGMOID, _TANH), linear_before_reset=True): gru,
}


@functools.cache
def cell_of(traits: Traits) -> Cell:
    """Equal cells for equal traits."""
    if traits in LIBRARY:
        return LIBRARY[traits]
    functions = ", ".join(map(str, traits.functions))
    clip = traits.functions[0].clip
    words = [
        f"clip={clip}" if clip is not None else "",
        *(name for name in Traits._fields[2:] if getattr(traits, name)),
    ]
    text = ", ".join([functions, *filter(None, words)])
    return named(_made(traits), f"jaxrnn.interop.OnnxOperator({traits.op_type}: {text})", _TEXT.format(traits=text))


_TEXT = """The cell of an operator of ONNX: {traits}."""


def _made(traits: Traits) -> Cell:
    if traits.op_type == "RNN":
        return rnn_of(*traits.functions)
    if traits.op_type == "LSTM":
        gates = _LSTM(*traits.functions, is_coupled=traits.input_forget)
        own: dict[str, Any] = {"init": lstm_peephole.init, "check": check_peephole_params} if traits.peepholes else {}
        return affine_cell(gates, 4, merge=sum_of_z_and_r, state=lstm_state, output=lstm_output, **own)
    if traits.linear_before_reset:
        return gru_of(*traits.functions)
    return gru._replace(step=_ResetBefore(*traits.functions).step, affine=None, run=None)


@dataclasses.dataclass(frozen=True)
class _LSTM:
    f: Activation
    g: Activation
    h: Activation
    is_coupled: bool

    def __call__(self, params: AffineParams | LSTMPeepholeParams, a: Array, state: LSTMState) -> LSTMState:
        """Next h and c from the pre-activations a (*batch, 4H)."""
        weight_ch = getattr(params, "weight_ch", None)
        return peephole_gates(self.f, self.g, self.h, weight_ch, a, state, is_coupled=self.is_coupled)


@dataclasses.dataclass(frozen=True)
class _ResetBefore(Methods):
    f: Activation
    g: Activation

    def step(self, params: AffineParams, state: Array, x: Array) -> Array:
        """Next h (*batch, H) of h (*batch, H) and x (*batch, I)."""
        return reset_before_step(self.f, self.g, params, state, x)
