"""Arrays as static arguments."""

from typing import Any

import jax


class Held:
    """A pytree as a static argument: equal to one of the very same leaves."""

    def __init__(self, value: Any) -> None:
        self.value = value
        leaves, structure = jax.tree.flatten(value)
        self._told = structure, tuple(map(id, leaves))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held) and self._told == other._told

    def __hash__(self) -> int:
        return hash(self._told)
