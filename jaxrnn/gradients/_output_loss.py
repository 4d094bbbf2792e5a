"""A loss of what is read out of the state, in two parts, for those algorithms that look between them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from .._core.cell import Params, State
from .._core.checks import check_function, check_static


@dataclasses.dataclass(frozen=True)
class OutputLoss:
    """A loss in two parts, the output and what is thought of it, to be a `Problem`'s.

        l(θ, s, y) = loss(read(θ, s), y)

    Every algorithm takes it for the function that it is. `ggn_vector_product` needs the parts, and `rflo` and `eprop`
    do where the errors at the output go back by other weights than those of the read-out.

    Fields:
      read: (params, state) -> output, any pytree of floating-point arrays; sees all params.
      loss: (output, y) -> scalar.

    Raises:
      TypeError: read or loss is no function of these arguments, or cannot be a static argument.

    >>> import operator, jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients
    >>> out = jr.Linear(8, 2)
    >>> loss = gradients.OutputLoss(lambda params, h: out.apply(params["out"], h), lambda o, y: jnp.sum((o - y) ** 2))
    >>> problem = gradients.Problem(jr.gru, loss, select=operator.itemgetter("cell"))
    >>> float(loss({"out": out.init(jax.random.key(0))}, jnp.ones(8), jnp.ones(2))) > 0
    True
    """

    read: Callable[[Params, State], Any]
    loss: Callable[[Any, Any], Array]

    def __post_init__(self) -> None:
        for check in (check_static, check_function):
            check("read", self.read, "params, state", "output")
            check("loss", self.loss, "output, y", "number")

    def __call__(self, params: Params, state: State, y: Any) -> Array:
        """The loss at one time."""
        return self.loss(self.read(params, state), y)

    def error(self, params: Params, state: State, y: Any) -> Any:
        """∂l/∂output, a pytree like the output."""
        return jax.grad(functools.partial(self._of_output, y))(self.read(params, state))

    def _of_output(self, y: Any, output: Any) -> Array:
        return self.loss(output, y)
