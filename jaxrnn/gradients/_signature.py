"""How an algorithm is called: `algorithm(problem, params, state, xs, ys)`, and with a key if it takes one."""

import inspect
from typing import Any

_ARGUMENTS = ("problem", "params", "state", "xs", "ys")


def takes_key(algorithm: Any, name: str) -> bool:
    """Whether it takes a key that is not bound yet.

    Raises:
      TypeError: it cannot be called at all; the message says so of `name`.
    """
    expected = f"{name} must be a function ({', '.join(_ARGUMENTS)}, *, key=None) -> (value, grads, state)"
    if not callable(algorithm):
        raise TypeError(f"{expected}, got {type(algorithm).__name__}")
    signature = inspect.signature(algorithm)
    is_stochastic = "key" in signature.parameters and _is_unbound(signature.parameters["key"])
    try:
        signature.bind(*_ARGUMENTS, **({"key": None} if is_stochastic else {}))
    except TypeError as error:
        raise TypeError(f"{expected}: {error}") from None
    return is_stochastic


def _is_unbound(parameter: inspect.Parameter) -> bool:
    """`functools.partial` shows what it binds as a default."""
    return parameter.default is None or parameter.default is inspect.Parameter.empty
