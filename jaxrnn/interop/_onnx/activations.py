"""ONNX's activation functions, with alpha, beta and the clip of what goes into them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ..._core.checks import check_choice

_MUST_BE_GIVEN = None  # where the text of ONNX names no operator with a default, or onnxruntime takes another


class _Kind(NamedTuple):
    """A function of x, alpha, beta, as far as it takes them, and their defaults."""

    function: Callable[..., Array]
    defaults: dict[str, float | None]


_KINDS = {
    "Affine": _Kind(lambda x, alpha, beta: alpha * x + beta, {"alpha": _MUST_BE_GIVEN, "beta": _MUST_BE_GIVEN}),
    "Relu": _Kind(jax.nn.relu, {}),
    "LeakyRelu": _Kind(jax.nn.leaky_relu, {"alpha": 0.01}),
    "ThresholdedRelu": _Kind(lambda x, alpha: jnp.where(x >= alpha, x, 0), {"alpha": _MUST_BE_GIVEN}),
    "Tanh": _Kind(jnp.tanh, {}),
    "ScaledTanh": _Kind(
        lambda x, alpha, beta: alpha * jnp.tanh(beta * x), {"alpha": _MUST_BE_GIVEN, "beta": _MUST_BE_GIVEN}
    ),
    "Sigmoid": _Kind(jax.nn.sigmoid, {}),
    "HardSigmoid": _Kind(lambda x, alpha, beta: jnp.clip(alpha * x + beta, 0, 1), {"alpha": 0.2, "beta": 0.5}),
    "Elu": _Kind(jax.nn.elu, {"alpha": 1.0}),
    "Softsign": _Kind(jax.nn.soft_sign, {}),
    "Softplus": _Kind(jax.nn.softplus, {}),
}


@dataclasses.dataclass(frozen=True)
class Activation:
    """One of them, as a function of an array."""

    name: str
    constants: tuple[float, ...] = ()
    clip: float | None = None

    def __call__(self, x: Array) -> Array:
        """Elementwise."""
        x = x if self.clip is None else jnp.clip(x, -self.clip, self.clip)
        return _KINDS[self.name].function(x, *self.constants)

    def __str__(self) -> str:
        """As in Elu(1.0)."""
        return f"{self.name}({', '.join(map(str, self.constants))})" if self.constants else self.name


def activations_of(
    names: Sequence[str], alpha: Sequence[float], beta: Sequence[float], clip: float | None, *, by_place: bool
) -> list[Activation]:
    """The functions of these names.

    Alpha and beta are those of the functions that take them, one after the other; `by_place`, as in an RNN, there is
    one for each function, whether it takes it or not.

    Raises:
      ValueError: a name is unknown, or there are more or fewer values than the functions take.
    """
    known = {name.lower(): name for name in _KINDS}
    for name in names:
        check_choice("activations", known.get(str(name).lower(), name), tuple(_KINDS))
    names = [known[name.lower()] for name in names]
    found = {key: _dealt(key, names, values, by_place) for key, values in (("alpha", alpha), ("beta", beta))}
    return [
        Activation(name, tuple(found[key][index] for key in _KINDS[name].defaults), clip)
        for index, name in enumerate(names)
    ]


def _dealt(key: str, names: Sequence[str], values: Sequence[float], by_place: bool) -> list[Any]:
    """The value for each of the names."""
    takers = [index for index, name in enumerate(names) if by_place or key in _KINDS[name].defaults]
    if len(values) > len(takers) or (by_place and len(values) not in (0, len(takers))):
        who = "one for each of" if by_place else f"at most {len(takers)}, one for each that takes it of"
        raise ValueError(f"activation_{key} must have {who} {', '.join(names)}, got {len(values)}")
    given = dict(zip(takers, values, strict=False))
    return [given[index] if index in given else _default(key, name) for index, name in enumerate(names)]


def _default(key: str, name: str) -> float | None:
    defaults = _KINDS[name].defaults
    if key in defaults and defaults[key] is _MUST_BE_GIVEN:
        raise ValueError(
            f"activation_{key} must be given for {name}, which has no default on which all agree, got none"
        )
    return defaults.get(key)
