"""Whether two models compute the same, on random input."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core.cell import Cell
from .._core.numerics import cast
from .._layers.embedding import Embedding
from .._scan.unroll import unroll
from ._models import Layer, Network, Parts, Spec, Tensors, model_of, name_of, parts_of
from ._networks import split_parts

_STEPS, _BATCH, _PLACES = 8, 4, 5


class Difference(NamedTuple):
    """Of the part of two models that differs most, as a fraction of its largest output."""

    name: str
    largest: float


def difference(a: tuple[Spec, Any], b: tuple[Spec, Any]) -> Difference | str:
    """The largest difference of the outputs and states of each part, or what in their structure is not the same.

    Networks are compared cell by cell, from states that are not zero; a cell by itself is a network of one layer.
    """
    for name, net, counterpart in _networks(a[0], b[0]):
        if net.batch_first != counterpart.batch_first:
            return f"{name} has batch_first={net.batch_first} in the first, {counterpart.batch_first} in the second"
    one, other = _parts(*a), _parts(*b)
    if one.keys() != other.keys():
        return f"the first has the parts {list(one)}, the second {list(other)}"
    for name in one:
        kinds = [_structure(*parts[name]) for parts in (one, other)]
        if kinds[0] != kinds[1]:
            return f"{name} is {kinds[0]} in the first, {kinds[1]} in the second"
    return max((Difference(name, _largest(one[name], other[name])) for name in one), key=_order)


def _networks(a: Spec, b: Spec) -> list[tuple[str, Network, Network]]:
    """Those that both models have, by their names."""
    one, other = (spec if isinstance(spec, dict) else {"the network": spec} for spec in (a, b))
    pairs = [(name, layer, other.get(name)) for name, layer in one.items()]
    return [(name, a, b) for name, a, b in pairs if isinstance(a, Network) and isinstance(b, Network)]


def _order(found: Difference) -> float:
    return np.inf if np.isnan(found.largest) else found.largest


def _parts(spec: Spec, params: Any) -> Parts:
    parts = split_parts(parts_of(spec, params))
    return {name or ("l0" if isinstance(layer, Cell) else "spec"): (layer, a) for name, (layer, a) in parts.items()}


def _structure(layer: Layer, tensors: Tensors) -> str:
    """The kind and the sizes, without what changes neither, such as biases that are zero."""
    shapes = ", ".join(f"{name} {a.shape}" for name, a in sorted(tensors.items()) if name.startswith("weight"))
    return f"{name_of(layer)} with {shapes}"


def _largest(one: tuple[Layer, Tensors], other: tuple[Layer, Tensors]) -> float:
    outputs, others = (np.concatenate([np.ravel(a) for a in jax.tree.leaves(_outputs(*part))]) for part in (one, other))
    return float(np.abs(outputs - others).max() / max(np.abs(outputs).max(), np.finfo(outputs.dtype).tiny))


def _outputs(layer: Layer, tensors: Tensors) -> Any:
    """On the same input for each layer of the same sizes, in float64 if `jax_enable_x64` is set."""
    random, wide = np.random.default_rng(0), jnp.zeros(0, float).dtype
    _, params = model_of({"": (layer, {name: jnp.asarray(a) for name, a in tensors.items()})})
    params = cast(params, wide)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(random.normal(size=shape), wide)

    if isinstance(layer, Embedding):
        return layer.apply(params, np.arange(layer.num_embeddings))
    if not isinstance(layer, Cell):
        return layer.apply(params, draw(_BATCH, layer.in_features))  # pyright: ignore[reportAttributeAccessIssue]
    leading = _BATCH, *[_PLACES] * (layer.input_ndim - 1)
    state = jax.tree.map(lambda a: draw(*a.shape), jax.eval_shape(lambda p: layer.initial_state(p, leading), params))
    return unroll(layer, params, draw(_STEPS, *leading, params.weight_ih.shape[1]), state)
