"""Where batches come from: a function of the steps, so that a resumed run reads on at the very same place."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np

from .._core.checks import check_int

Batches: TypeAlias = Callable[[int, int], Any]  # (start, stop) -> a pytree of (stop - start, B, ...) arrays


def shuffled(data: Any, batch_size: int, seed: int = 0) -> Batches:
    """Batches of an array data set, in a new order each epoch.

    Args:
      data: a pytree of arrays with one example per entry of their first axis.
      batch_size: examples a batch. The examples that do not fill a batch at the end of an epoch are left out of it.
      seed: of the order.

    Returns:
      A batch source for `fit`: `(start, stop) -> batches`, a function of its arguments alone.

    Raises:
      ValueError: the arrays differ in their number of examples, or do not fill a batch.

    >>> import numpy as np
    >>> from jaxrnn import training
    >>> batches = training.shuffled({"x": np.arange(10)}, batch_size=5)
    >>> chunk = batches(0, 2)["x"]                              # two steps, an epoch
    >>> chunk.shape, sorted(chunk.ravel().tolist()) == list(range(10))
    ((2, 5), True)
    """
    data = jax.tree.map(np.asarray, data)
    sizes = {a.shape[0] if a.ndim else 0 for a in jax.tree.leaves(data)}
    if len(sizes) != 1:
        raise ValueError(f"data must be arrays with the same number of examples on their first axis, got {sizes}")
    (examples,) = sizes
    check_int("batch_size", batch_size)
    per_epoch = examples // batch_size
    if not per_epoch:
        raise ValueError(f"data has {examples} examples, fewer than batch_size={batch_size}")

    def rows(step: int) -> np.ndarray:
        epoch, index = divmod(step, per_epoch)
        order = np.random.default_rng((seed, epoch)).permutation(examples)
        return order[index * batch_size : (index + 1) * batch_size]

    def batches(start: int, stop: int) -> Any:
        chosen = np.stack([rows(step) for step in range(start, stop)])
        return jax.tree.map(lambda a: a[chosen], data)

    return batches
