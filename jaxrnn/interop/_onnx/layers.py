"""Networks and cells of the library in place of operators."""

from typing import Any

from ..._core.cell import Cell
from ..._core.checks import shown
from .._arrays import FormatError
from .._inference import NETWORK_CELLS, Asked
from .._models import CELLS, Network, Parts, Spec, joined, model_of
from .._networks import LEVEL, join_parts
from .operators import OnnxOperator


def to_layers(operator: Any, params: Any, *, batch_first: bool | None = None) -> tuple[Spec, Any]:
    """An operator of plain attributes as a network of the library, or as cells.

    Forward and bidirectional RNN (tanh, relu), LSTM, and GRU with linear_before_reset=1 become `jr.RNN`, `jr.LSTM` and
    `jr.GRU`, batch_first with layout=1. Others whose cells the library has become those, under the names l0 and
    l0_reverse, as in `split`. Operators named l0, l1, ..., as `to_onnx` names layers, become one network; others may be
    given these names.

    Args:
      operator, params: as from `from_onnx`: an operator, or a dict of them by name.
      batch_first: of networks; None for what layout says. A model that `to_onnx` wrote for a network with batch_first
        has layout=0, between two transpositions, which are not looked at.

    Returns:
      (spec, params).

    Raises:
      FormatError: activations, clip or input_forget that no cell of the library has; constant initial states; layers of
        one network that do not fit each other; batch_first is given, and nothing becomes a network.
      TypeError: an argument is of the wrong type.

    >>> import numpy as np
    >>> from jaxrnn import interop
    >>> operator = interop.OnnxOperator("GRU", 4, linear_before_reset=1, layout=1)
    >>> params = operator.params(np.ones((1, 12, 3), np.float32), np.ones((1, 12, 4), np.float32))
    >>> interop.to_layers(operator, params)[0]
    GRU(input_size=3, hidden_size=4, num_layers=1, bias=False, batch_first=True, dropout=0.0, bidirectional=False)
    """
    asked = Asked(batch_first=batch_first)
    operators = operator if isinstance(operator, dict) else {"": operator}
    owners: dict[str, Parts] = {}
    layouts: dict[str, int] = {}
    for name, (op, tensors) in _pairs(operators, params if isinstance(operator, dict) else {"": params}).items():
        match = LEVEL.fullmatch(name)
        owner, level = (match[1] or "", match[2]) if match and not match[2].endswith("_reverse") else (name, "l0")
        if layouts.setdefault(owner, op.layout) != op.layout:
            raise FormatError(f"{name} must have layout={layouts[owner]} as the layer below it, got {op.layout}")
        group = owners.setdefault(owner, {})
        found = {key.replace("l0", level): (cell, _tensors(name, cell, tensors, key)) for key, cell in op.cells.items()}
        if found.keys() & group.keys():
            raise FormatError(f"{name} must have a name of its own, got one that another operator's layers have")
        group |= found
    parts: Parts = {}
    for owner, group in owners.items():
        by_layout = Asked(batch_first=layouts[owner] == 1)
        parts |= _of_owner(owner, group, by_layout if batch_first is None else asked)
    if batch_first is not None and not any(isinstance(layer, Network) for layer, _ in parts.values()):
        raise FormatError(f"batch_first={batch_first} is given, but only for networks, and none are here")
    return model_of(parts)


def _pairs(operators: dict[str, Any], params: Any) -> dict[str, tuple[OnnxOperator, dict[str, Any]]]:
    """Each operator with its parameters."""
    if not isinstance(params, dict) or params.keys() != operators.keys():
        raise TypeError(f"params must be a dict with the names of operator, {list(operators)}, got {shown(params)}")
    for name, operator in operators.items():
        if not isinstance(operator, OnnxOperator):
            raise TypeError(f"operator must be an OnnxOperator, or a dict of them by name, got {shown(operator)}")
        if not isinstance(params[name], dict) or not operator.cells.keys() <= params[name].keys():
            raise TypeError(
                f"params of {name or 'operator'} must be a dict with the keys {list(operator.cells)}, "
                f"got {shown(params[name])}"
            )
    return {name: (operator, params[name]) for name, operator in operators.items()}


def _tensors(name: str, cell: Cell, params: dict[str, Any], key: str) -> dict[str, Any]:
    whose = name or "operator"
    if cell not in CELLS.values():
        raise FormatError(f"{whose} must be of a cell that the library has, got {cell}: its own `apply` runs it")
    states = [state for state in ("initial_h", "initial_c") if state in params]
    if states:
        raise FormatError(f"{whose} must have no constant {states[0]}, which no layer holds: its own `apply` runs it")
    return {field: a for field, a in params[key]._asdict().items() if a is not None}


def _of_owner(owner: str, group: Parts, asked: Asked) -> Parts:
    """A network of these cells if they make one, else the cells."""
    named = {joined(owner, level): part for level, part in group.items()}
    if "l0" in group and all(cell in NETWORK_CELLS for cell, _ in group.values()):
        return join_parts(named, asked)
    return {owner: group["l0"]} if list(group) == ["l0"] else named
