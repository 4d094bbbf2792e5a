"""A network as its cells, which is all that most packages have, and cells as the network that torch makes of them."""

import re
from typing import Any

from .._core.cell import Cell
from ._arrays import FormatError
from ._inference import Asked, network_of
from ._models import Network, Parts, Spec, Tensors, joined, model_of, parts_of

LEVEL = re.compile(r"(?:(.*)\.)?(l\d+(?:_reverse)?)")


def split(spec: Spec, params: Any) -> tuple[Spec, Any]:
    """Each network as its cells, named l0, l0_reverse, l1, ... below the network's name; all else as it is.

    Raises:
      FormatError: params do not fit the spec.
      TypeError: an argument is of the wrong type.

    >>> import jax, jaxrnn as jr
    >>> from jaxrnn import interop
    >>> net = jr.GRU(3, 8, num_layers=2)
    >>> cells, params = interop.split(net, net.init(jax.random.key(0)))
    >>> cells
    {'l0': jaxrnn.gru, 'l1': jaxrnn.gru}
    """
    return model_of(split_parts(parts_of(spec, params)))


def join(spec: Spec, params: Any, *, batch_first: bool = False, dropout: float | None = None) -> tuple[Spec, Any]:
    """The inverse of `split`: cells named l0, l0_reverse, l1, ... as a network; all else as it is.

    Args:
      spec, params: of which some cells have such names, as "encoder.l0".
      batch_first, dropout: of the networks; no dropout for None.

    Raises:
      FormatError: the cells do not make a network: one is missing, of another kind, or does not fit the one below.
      TypeError: an argument is of the wrong type.

    >>> import jax, jaxrnn as jr
    >>> from jaxrnn import interop
    >>> cells = {"l0": jr.lstm, "l0_reverse": jr.lstm}
    >>> params = {name: jr.lstm.init(jax.random.key(0), 3, 8) for name in cells}
    >>> interop.join(cells, params)[0].bidirectional
    True
    """
    return model_of(join_parts(parts_of(spec, params), Asked(batch_first=batch_first, dropout=dropout)))


def join_parts(parts: Parts, asked: Asked) -> Parts:
    """The parts with such cells as networks."""
    joint: Parts = {}
    for name, (layer, tensors) in parts.items():
        match = LEVEL.fullmatch(name) if isinstance(layer, Cell) else None
        if match is None:
            joint[name] = layer, tensors
            continue
        owner = match[1] or ""
        found, all_tensors = joint.setdefault(owner, (layer, {}))
        if found != layer:
            raise FormatError(f"{name} must be a {found} as the others of its network, got {layer}")
        all_tensors |= {f"{tensor}_{match[2]}": a for tensor, a in tensors.items()}
    return {name: (_joined(name, part, asked), part[1]) for name, part in joint.items()}


def split_parts(parts: Parts) -> Parts:
    """The parts with each network as its cells."""
    cells: Parts = {}
    for name, (layer, tensors) in parts.items():
        cells |= _levels(name, layer, tensors) if isinstance(layer, Network) else {name: (layer, tensors)}
    return cells


def _levels(name: str, net: Network, tensors: Tensors) -> Parts:
    levels: Parts = {}
    for layer in range(net.num_layers):
        for suffix in ["", "_reverse"] if net.bidirectional else [""]:
            level = f"l{layer}{suffix}"
            found = {key.removesuffix(f"_{level}"): a for key, a in tensors.items() if key.endswith(f"_{level}")}
            levels[joined(name, level)] = net._cell, found
    return levels


def _joined(name: str, part: tuple[Any, Tensors], asked: Asked) -> Any:
    layer, tensors = part
    if not isinstance(layer, Cell) or "weight_ih" in tensors:
        return layer
    try:
        return network_of(layer, tensors, asked)
    except ValueError as error:
        raise FormatError(f"{name or 'spec'}: {error}") from None
