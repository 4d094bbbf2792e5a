"""Specs as JSON: the kind of each layer and its arguments."""

import dataclasses
import json
from typing import Any

from .._core.cell import Cell
from .._core.checks import shown
from ._arrays import FormatError
from ._models import CELLS, LAYERS, Layer, Spec, name_of


def to_json(spec: Spec) -> str:
    """The spec as a text, the same for equal ones."""
    if not isinstance(spec, dict):
        return json.dumps(_described(spec))
    return json.dumps({"layers": {name: _described(layer) for name, layer in spec.items()}})


def from_json(text: str) -> Spec:
    """The inverse.

    Raises:
      FormatError: the text is none of a spec.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"spec must be JSON, got {shown(text)}") from error
    if isinstance(found, dict) and found.keys() == {"layers"} and isinstance(found["layers"], dict):
        if not all(found["layers"]):
            raise FormatError(f"spec must have a name for each layer, got {list(found['layers'])}")
        return {name: _layer(description) for name, description in found["layers"].items()}
    return _layer(found)


def _described(layer: Layer) -> dict[str, Any]:
    if isinstance(layer, Cell):
        return {"kind": name_of(layer)}
    return {"kind": name_of(layer)} | {field.name: _plain(layer, field) for field in dataclasses.fields(layer)}


def _plain(layer: Any, field: dataclasses.Field[Any]) -> Any:
    """A number of NumPy's as one of Python's."""
    return type(field.default if field.default is not dataclasses.MISSING else 0)(getattr(layer, field.name))


def _layer(description: Any) -> Layer:
    kind = description.get("kind") if isinstance(description, dict) else None
    if not isinstance(kind, str) or kind not in CELLS | LAYERS:
        raise FormatError(f"spec must be of {', '.join([*LAYERS, *CELLS])}, got {shown(description)}")
    arguments = {name: value for name, value in description.items() if name != "kind"}
    if kind in CELLS and not arguments:
        return CELLS[kind]
    try:
        return LAYERS[kind](**arguments)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"spec must be of arguments that {kind} takes, got {shown(arguments)}: {error}") from None
