"""RNN, LSTM and GRU as ONNX has them: its attributes, its tensors and its layout."""

import dataclasses
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from ..._cells.affine import AffineParams
from ..._cells.lstm import LSTMParams, LSTMState, lstm
from ..._cells.lstm_peephole import LSTMPeepholeParams
from ..._core.cell import Cell, State
from ..._core.checks import (
    check_array,
    check_array_like,
    check_bool,
    check_choice,
    check_dict,
    check_dtype,
    check_int,
    dtype_of,
    shown,
)
from ..._core.time import masked
from ..._scan.unroll import check_lengths, unroll
from .._arrays import to_jax
from .activations import Activation, activations_of
from .cells import Traits, cell_of

_FUNCTIONS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
_LEVELS = {"forward": ("l0",), "reverse": ("l0_reverse",), "bidirectional": ("l0", "l0_reverse")}
_BLOCKS = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}  # which block of ONNX's is our first, second, ...
_PEEPHOLES = (0, 2, 1)
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")


@dataclasses.dataclass(frozen=True)
class OnnxOperator:
    """ONNX's RNN, LSTM or GRU: the attributes of a node, and with parameters what the node computes.

    Args:
      op_type: "RNN", "LSTM" or "GRU".
      hidden_size, direction, activations, activation_alpha, activation_beta, clip, input_forget, linear_before_reset,
        layout: ONNX's attributes, with its defaults.
      peepholes: whether the node has the input P.

    Raises:
      ValueError: an attribute has a value that ONNX does not know, or one that this operator does not have.
      TypeError: an attribute is of the wrong type.

    >>> import numpy as np
    >>> from jaxrnn import interop
    >>> operator = interop.OnnxOperator("LSTM", 4, direction="bidirectional", clip=3.0)
    >>> W, R = np.ones((2, 16, 3), np.float32), np.ones((2, 16, 4), np.float32)
    >>> params = operator.params(W, R)
    >>> Y, Y_h, Y_c = operator.apply(params, np.ones((7, 2, 3), np.float32), sequence_lens=np.array([7, 5]))
    >>> Y.shape, Y_h.shape
    ((7, 2, 2, 4), (2, 2, 4))
    """

    op_type: str
    hidden_size: int
    direction: str = "forward"
    activations: tuple[str, ...] = ()
    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    clip: float | None = None
    input_forget: int = 0
    linear_before_reset: int = 0
    layout: int = 0
    peepholes: bool = False

    def __post_init__(self) -> None:
        check_choice("op_type", self.op_type, tuple(_FUNCTIONS))
        check_choice("direction", self.direction, tuple(_LEVELS))
        check_int("hidden_size", self.hidden_size)
        check_bool("peepholes", self.peepholes)
        for name in ("activations", "activation_alpha", "activation_beta"):
            object.__setattr__(self, name, _checked_tuple(name, getattr(self, name)))
        for name in ("input_forget", "linear_before_reset", "layout"):
            _check_flag(name, getattr(self, name))
        object.__setattr__(self, "clip", _checked_clip(self.clip))
        for name, owner in (("input_forget", "LSTM"), ("peepholes", "LSTM"), ("linear_before_reset", "GRU")):
            if getattr(self, name) and self.op_type != owner:
                raise ValueError(f"{name} must not be given for {self.op_type}, only {owner} has it, got 1")
        self._functions()

    @property
    def cells(self) -> dict[str, Cell]:
        """The cell of each direction: l0 is forward, l0_reverse reverse, as in networks of cells."""
        functions, levels = self._functions(), _LEVELS[self.direction]
        count = len(functions) // len(levels)
        parts = [functions[index * count : (index + 1) * count] for index in range(len(levels))]
        return {level: cell_of(self._traits(part)) for level, part in zip(levels, parts, strict=True)}

    def params(self, W: Any, R: Any, B: Any = None, P: Any = None) -> dict[str, Any]:  # noqa: N803
        """Parameters of the cells from ONNX's tensors.

        Args:
          W: (directions, G*H, I), with G gates: RNN 1, GRU 3, LSTM 4.
          R: (directions, G*H, H).
          B: (directions, 2*G*H), or None.
          P: (directions, 3*H), or None, of an LSTM.

        Returns:
          For each of `cells` its parameters, in the library's gate order.

        Raises:
          ValueError: wrong shapes or mixed dtypes, or float64 that JAX would not keep.
          TypeError: something is not an array.
        """
        directions, rows = len(self.cells), len(_BLOCKS[self.op_type]) * self.hidden_size
        if (P is not None) != self.peepholes:
            raise ValueError(f"P must be given if peepholes=True, and only then, got P={shown(P)} and {self._words()}")
        check_array("W", W)
        if W.ndim != 3 or W.shape[:2] != (directions, rows):
            raise ValueError(f"W has shape {W.shape}, expected ({directions}, {rows}, input_size) of {self._words()}")
        shapes = {
            "W": W.shape,
            "R": (directions, rows, self.hidden_size),
            "B": (directions, 2 * rows),
            "P": (directions, 3 * self.hidden_size),
        }
        given = {"W": W, "R": R} | {name: a for name, a in (("B", B), ("P", P)) if a is not None}
        for name, a in given.items():
            check_array_like(name, a, shapes[name], dtype_of(W), self._words())
        arrays = {name: to_jax(name, a) for name, a in given.items()}
        parts = [{name: a[index] for name, a in arrays.items()} for index in range(directions)]
        return {level: self._level(cell, part) for (level, cell), part in zip(self.cells.items(), parts, strict=True)}

    def apply(
        self,
        params: dict[str, Any],
        X: Array,  # noqa: N803
        sequence_lens: ArrayLike | None = None,
        initial_h: Array | None = None,
        initial_c: Array | None = None,
    ) -> tuple[Array, ...]:
        """What the node computes, in ONNX's layout.

        Args:
          params: as from `params`.
          X: (T, N, I), with layout=1 (N, T, I).
          sequence_lens: (N,) integers in [0, T]; T for all if None. Past a sequence's end Y is 0; of a sequence of
            length 0 the last states are 0, as in onnxruntime.
          initial_h, initial_c: (directions, N, H), with layout=1 (N, directions, H). None for those in params, which a
            node has whose initial states are constants of the model, else for zeros.

        Returns:
          Y (T, directions, N, H), with layout=1 (N, T, directions, H); Y_h and, from an LSTM, Y_c, shaped as initial_h.

        Raises:
          ValueError: wrong shapes or mixed dtypes.
          TypeError: something is not an array, or lengths are not integers.
        """
        steps, batch = self._check_input(params, X)
        if sequence_lens is not None:
            sequence_lens = check_lengths(sequence_lens, steps, (batch,), "sequence_lens")
        states = self._initial(params, X, batch, initial_h, initial_c)
        xs = jnp.swapaxes(X, 0, 1) if self.layout else X
        runs = [self._run(level, params[level], xs, states[level], sequence_lens) for level in self.cells]
        last = jax.tree.map(lambda *finals: jnp.stack(finals, axis=self.layout), *(final for final, _ in runs))
        ys = jnp.stack([ys for _, ys in runs], axis=1)
        return jnp.transpose(ys, (2, 0, 1, 3)) if self.layout else ys, *jax.tree.leaves(last)

    def _run(
        self, level: str, params: Any, xs: Array, state: State, sequence_lens: Array | None
    ) -> tuple[State, Array]:
        final, ys = unroll(
            self.cells[level], params, xs, state, lengths=sequence_lens, reverse=level.endswith("_reverse")
        )
        return masked(None if sequence_lens is None else sequence_lens > 0, final), ys

    def _check_input(self, params: dict[str, Any], X: Any) -> tuple[int, int]:  # noqa: N803
        """The number of steps and of sequences."""
        check_dict(params)
        missing = [level for level in self.cells if level not in params]
        if missing:
            raise ValueError(f"params has no {missing}, expected the keys {list(self.cells)} of {self._words()}")
        for level, cell in self.cells.items():
            jax.eval_shape(cell.initial_state, params[level])
        check_array("X", X)
        inputs = params[next(iter(self.cells))].weight_ih.shape[1]
        if X.ndim != 3 or X.shape[2] != inputs:
            expected = "(N, T, {})" if self.layout else "(T, N, {})"
            raise ValueError(f"X has shape {X.shape}, expected {expected.format(inputs)} of {self._words()}")
        check_dtype("X", X, dtype_of(params[next(iter(self.cells))].weight_ih), "as the parameters")
        steps, batch = X.shape[1::-1] if self.layout else X.shape[:2]
        return steps, batch

    def _initial(
        self,
        params: dict[str, Any],
        X: Any,  # noqa: N803
        batch: int,
        initial_h: Any,
        initial_c: Any,
    ) -> dict[str, State]:
        """The state before the first step, for each of the cells."""
        if initial_c is not None and self.op_type != "LSTM":
            raise ValueError(f"initial_c must not be given for {self.op_type}, got {shown(initial_c)}")
        given = {"initial_h": initial_h} | ({"initial_c": initial_c} if self.op_type == "LSTM" else {})
        shape = (len(self.cells), batch, self.hidden_size)
        whole = [self._state(name, params.get(name) if a is None else a, X, shape) for name, a in given.items()]
        parts = {level: [a[index] for a in whole] for index, level in enumerate(self.cells)}
        return {level: LSTMState(*part) if len(part) == 2 else part[0] for level, part in parts.items()}

    def _state(self, name: str, value: Any, X: Any, shape: tuple[int, int, int]) -> Array:  # noqa: N803
        """A given state, or zeros, as (directions, N, H)."""
        if value is None:
            return jnp.zeros(shape, dtype_of(X))
        expected = (shape[1], shape[0], shape[2]) if self.layout else shape
        check_array_like(name, value, expected, dtype_of(X), f"for X of shape {X.shape}")
        return jnp.swapaxes(value, 0, 1) if self.layout else jnp.asarray(value)

    def _level(self, cell: Cell, arrays: dict[str, Array]) -> Any:
        """The parameters of the cell of one direction, from its part of each of ONNX's tensors."""
        order = _BLOCKS[self.op_type]
        biases = jnp.split(arrays["B"], 2) if "B" in arrays else [None, None]
        biases = [None if a is None else _reordered(a, order) for a in biases]
        weights = _reordered(arrays["W"], order), _reordered(arrays["R"], order)
        if "P" in arrays:
            return LSTMPeepholeParams(*weights, *biases, weight_ch=_reordered(arrays["P"], _PEEPHOLES))
        kind = LSTMParams if cell == lstm else AffineParams
        return kind(*weights, *biases)

    def _functions(self) -> list[Activation]:
        """Those of all directions."""
        defaults = _FUNCTIONS[self.op_type] * len(_LEVELS[self.direction])
        names = self.activations or defaults
        if len(names) != len(defaults):
            raise ValueError(f"activations must be {len(defaults)} of {self._words()}, got {len(names)}: {names}")
        values = self.activation_alpha, self.activation_beta
        functions = activations_of(names, *values, self.clip, by_place=self.op_type == "RNN")
        if self.op_type != "LSTM":
            return functions
        # h is of the cell, which onnxruntime does not clip
        return [dataclasses.replace(f, clip=None) if index % 3 == 2 else f for index, f in enumerate(functions)]

    def _traits(self, functions: list[Activation]) -> Traits:
        flags = self.peepholes, bool(self.input_forget), bool(self.linear_before_reset)
        return Traits(self.op_type, tuple(functions), *flags)

    def _words(self) -> str:
        return f"{self.op_type} with hidden_size={self.hidden_size}, direction={self.direction}, layout={self.layout}"


def tensors_for(op_type: str, levels: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The inverse of `OnnxOperator.params`: W, R and, where there are any, B and P, from the tensors of each cell."""
    order = np.argsort(_BLOCKS[op_type])

    def stacked(*names: str, order: Any = order) -> np.ndarray:
        parts = [[np.asarray(_reordered(tensors[name], order)) for name in names] for tensors in levels]
        return np.stack([np.concatenate(part) for part in parts])

    found = {"W": stacked("weight_ih"), "R": stacked("weight_hh")}
    if "bias_ih" in levels[0]:
        found["B"] = stacked("bias_ih", "bias_hh")
    if "weight_ch" in levels[0]:
        found["P"] = stacked("weight_ch", order=np.argsort(_PEEPHOLES))
    return found


def _reordered(a: Any, order: Any) -> Array:
    """The blocks of rows in this order."""
    blocks = jnp.split(jnp.asarray(a), len(order))
    return jnp.concatenate([blocks[index] for index in order])


def _checked_tuple(name: str, value: Any) -> tuple[Any, ...]:
    kind = str if name == "activations" else numbers.Real
    if not isinstance(value, tuple | list) or not all(isinstance(a, kind) for a in value):
        raise TypeError(f"{name} must be a tuple of {'words' if kind is str else 'numbers'}, got {shown(value)}")
    return tuple(a if kind is str else float(a) for a in value)


def _check_flag(name: str, value: Any) -> None:
    check_int(name, int(value) if isinstance(value, bool) else value, minimum=0)
    if value > 1:
        raise ValueError(f"{name} must be 0 or 1, got {value}")


def _checked_clip(clip: Any) -> float | None:
    if clip is None:
        return None
    if isinstance(clip, bool) or not isinstance(clip, numbers.Real):
        raise TypeError(f"clip must be a number, got {shown(clip)}")
    if not float(clip) > 0:
        raise ValueError(f"clip must be positive, got {clip}")
    return float(clip)
