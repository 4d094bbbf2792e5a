"""torch.nn.Embedding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from .._core.checks import check_array, check_floating, check_int, check_key, check_params
from .._core.compat import is_concrete
from .._core.numerics import narrowed, widened


@dataclasses.dataclass(frozen=True)
class Embedding:
    """A table of vectors looked up by index, as torch.nn.Embedding.

        y = W[ids]

    Args:
      num_embeddings: V, rows of the table.
      embedding_dim: D, features of a row.

    Raises:
      ValueError: a size is not positive.
      TypeError: a size is not an int.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> embedding = jr.Embedding(4, 10)
    >>> params = embedding.init(jax.random.key(0))
    >>> params["weight"].shape
    (4, 10)
    >>> embedding.apply(params, jnp.array([[1, 0, 2], [2, 3, 3]])).shape
    (2, 3, 10)
    """

    num_embeddings: int
    embedding_dim: int

    def __post_init__(self) -> None:
        check_int("num_embeddings", self.num_embeddings)
        check_int("embedding_dim", self.embedding_dim)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> dict[str, Array]:
        """{"weight": (V, D)} from N(0, 1), torch's default."""
        check_key("key", key)
        check_floating("dtype", dtype)
        return {"weight": jax.random.normal(key, (self.num_embeddings, self.embedding_dim), dtype)}

    def apply(self, params: dict[str, Array], ids: Array | np.ndarray) -> Array:
        """Rows (*batch, D) at the integers ids (*batch), each in [0, V).

        Under a transformation the ids' values are not known: an id outside [0, V) then gives a row of NaN.

        Raises:
          ValueError: wrong names or shape of params, an id outside [0, V).
          TypeError: ids are not integers.
        """
        check_params(params, {"weight": (self.num_embeddings, self.embedding_dim)}, self)
        check_array("ids", ids)
        if not jnp.issubdtype(ids.dtype, jnp.integer):
            raise TypeError(f"ids must be integers, got dtype {ids.dtype}")
        if is_concrete(ids):
            _check_range(np.asarray(ids), self.num_embeddings)
        weight, ids = jnp.asarray(params["weight"]), jnp.asarray(ids)
        # Widened, so that the gradients of a row that is looked up many times add up in float32.
        wide = widened(weight)
        rows = jnp.take(wide, ids, axis=0, mode="fill", fill_value=jnp.nan)  # past the end; a negative id wraps
        return narrowed(jnp.where(jnp.expand_dims(ids < 0, -1), jnp.full_like(rows, jnp.nan), rows), weight)


def _check_range(ids: np.ndarray, num_embeddings: int) -> None:
    outside = ids[(ids < 0) | (ids >= num_embeddings)]
    if outside.size:
        raise ValueError(f"ids must lie in [0, {num_embeddings}), num_embeddings, got {outside.flat[0]}")
