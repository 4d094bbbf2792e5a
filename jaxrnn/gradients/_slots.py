"""States kept in slots, of which one is written at a time."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .._scan.loops import stored
from ._leaves import at


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Slots:
    """As many pytrees alike as there are slots."""

    arrays: Any  # (slots, ...) per leaf, as a loop over time stores them
    dtypes: tuple[Any, ...] = dataclasses.field(metadata={"static": True})  # of the leaves

    @classmethod
    def filled(cls, tree: Any, count: int) -> "Slots":
        """The tree in every slot."""
        tree = jax.tree.map(jnp.asarray, tree)
        arrays = jax.tree.map(lambda a: jnp.broadcast_to(a, (count, *a.shape)), stored(tree))
        return cls(arrays, tuple(leaf.dtype for leaf in jax.tree.leaves(tree)))

    def __len__(self) -> int:
        return len(jax.tree.leaves(self.arrays)[0])

    def __getitem__(self, slot: Array) -> Any:
        leaves, structure = jax.tree.flatten(at(self.arrays, slot))
        pairs = zip(leaves, self.dtypes, strict=True)
        return structure.unflatten([a if a.dtype == dtype else a.astype(dtype) for a, dtype in pairs])

    def put(self, slot: Array, tree: Any) -> "Slots":
        """With another tree in this slot; none if that is -1."""
        index = jnp.maximum(slot, 0)
        write = lambda held, a: held.at[index].set(jnp.where(slot < 0, held[index], a))  # noqa: E731
        return dataclasses.replace(self, arrays=jax.tree.map(write, self.arrays, stored(tree)))
