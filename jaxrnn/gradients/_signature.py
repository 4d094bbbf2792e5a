"""How an algorithm is called: `algorithm(problem, params, state, xs, ys)`, and with a key if it takes one."""

import inspect
from typing import Any

from .._core.checks import check_function

ARGUMENTS, GIVES = "problem, params, state, xs, ys", "(value, grads, state)"


def takes_key(algorithm: Any, name: str) -> bool:
    """Whether it takes a key that is not bound yet.

    Raises:
      TypeError: it cannot be called at all; the message says so of `name`.
    """
    parameters = inspect.signature(algorithm).parameters if callable(algorithm) else {}
    is_stochastic = "key" in parameters and _is_unbound(parameters["key"])
    check_function(name, algorithm, f"{ARGUMENTS}, *, key" if is_stochastic else ARGUMENTS, GIVES)
    return is_stochastic


def _is_unbound(parameter: inspect.Parameter) -> bool:
    """`functools.partial` shows what it binds as a default."""
    return parameter.default is None or parameter.default is inspect.Parameter.empty
