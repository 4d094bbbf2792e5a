"""The recurrent cells in a pytree of parameters, as dicts under torch's names."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
from jax import Array

from .._core.cell import Params
from .._core.checks import check_array, check_arrays, check_floating, describe, dtype_of

Tensors: TypeAlias = dict[str, Any]

_RECURRENT = "weight_hh"
_NAMES = ("weight_ih", _RECURRENT, "bias_ih", "bias_hh", "weight_hr")


class Gates(NamedTuple):
    """The tensors of one cell.

    Fields:
      where: what messages call it.
      number: which of the cells in the parameters it is.
      tensors: by name; what it does not have is None.
      blocks: (G, H, R), weight_hh gate by gate.
    """

    where: str
    number: int
    tensors: Tensors
    blocks: Array


def map_cells(change: Callable[[Gates], Tensors], params: Params) -> Params:
    """The parameters with what `change` gives for each cell in place of its tensors of these names.

    A cell is a NamedTuple with weight_hh, or in a dict the names that end alike, as in {"weight_hh_l0": ...}.
    """
    check_arrays("params", params)
    found: list[str] = []

    def changed(where: str, tensors: Tensors) -> Tensors:
        found.append(where)
        return change(Gates(where, len(found) - 1, tensors, _blocks(where, tensors)))

    mapped = _mapped(changed, "params", params)
    if not found:
        raise ValueError(f"params must hold a cell's {_RECURRENT}, in a NamedTuple or a dict, got {describe(params)}")
    return mapped


def _mapped(changed: Callable[[str, Tensors], Tensors], where: str, tree: Any) -> Any:
    if _RECURRENT in getattr(tree, "_fields", ()):
        return tree._replace(**changed(where, {name: getattr(tree, name, None) for name in _NAMES}))
    if isinstance(tree, dict):
        parts = {name: _mapped(changed, f"{where}[{name!r}]", part) for name, part in tree.items()}
        for ending in _endings(tree):
            tensors = {name: tree.get(name + ending) for name in _NAMES}
            parts |= {name + ending: a for name, a in changed(f"{where}[{_RECURRENT + ending!r}]", tensors).items()}
        return parts
    if isinstance(tree, tuple | list):
        parts = [_mapped(changed, f"{where}[{index}]", part) for index, part in enumerate(tree)]
        return getattr(tree, "_make", type(tree))(parts)
    return tree


def _endings(tree: dict) -> list[str]:
    """What follows weight_hh in the names of a dict."""
    return [name.removeprefix(_RECURRENT) for name in tree if isinstance(name, str) and name.startswith(_RECURRENT)]


def _blocks(where: str, tensors: Tensors) -> Array:
    weight, projection = tensors[_RECURRENT], tensors["weight_hr"]
    check_array(f"{_RECURRENT} of {where}", weight)
    check_floating(f"{_RECURRENT} of {where}", dtype_of(weight))
    units = (weight if projection is None else projection).shape[-1]
    if weight.ndim != 2 or weight.shape[0] % units:
        raise ValueError(f"{_RECURRENT} of {where} has shape {weight.shape}, expected (G*H, R) of G gates")
    return jnp.asarray(weight).reshape(-1, units, weight.shape[1])


def with_blocks(gates: Gates, blocks: Array) -> Tensors:
    """These recurrent weights (G, H, R), in the dtype of what was there."""
    before = gates.tensors[_RECURRENT]
    return {_RECURRENT: blocks.reshape(before.shape).astype(dtype_of(before))}
