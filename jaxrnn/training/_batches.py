"""Where batches come from: a function of the steps, so that a resumed run reads on at the very same place."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np

from .._core.checks import check_array, check_int, describe

Batches: TypeAlias = Callable[[int, int], Any]  # (start, stop) -> a pytree of (stop - start, B, ...) arrays


def to_numpy(name: str, tree: Any) -> Any:
    """The tree with NumPy's arrays of numbers for leaves."""

    def convert(path: Any, leaf: Any) -> np.ndarray:
        where = f"{name}{jax.tree_util.keystr(path)}"
        try:
            array = np.asarray(leaf)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{where} must be what NumPy makes an array of, got {describe(leaf)}") from None
        check_array(where, array)
        return array

    return jax.tree_util.tree_map_with_path(convert, tree)


def checked_batches(batches: Batches, start: int, stop: int) -> Any:
    """What it gives for these steps, if that is arrays with a batch a step."""
    call, expected = f"batches({start}, {stop})", f"({stop - start}, batch, ...), a batch a step"
    given = to_numpy(call, batches(start, stop))
    leaves = jax.tree_util.tree_leaves_with_path(given)
    if not leaves:
        raise TypeError(f"{call} returned {describe(given)}, expected arrays {expected}")
    for path, leaf in leaves:
        if leaf.ndim == 0 or len(leaf) != stop - start:
            raise ValueError(f"{call}{jax.tree_util.keystr(path)} has shape {leaf.shape}, expected {expected}")
    return given


def shuffled(data: Any, batch_size: int, seed: int = 0) -> Batches:
    """Batches of an array data set, in a new order each epoch.

    Args:
      data: a pytree of arrays, or of what NumPy makes arrays of, with one example per entry of their first axis.
      batch_size: examples a batch. The examples that do not fill a batch at the end of an epoch are left out of it.
      seed: of the order.

    Returns:
      A batch source for `fit`: `(start, stop) -> batches`, a function of its arguments alone.

    Raises:
      ValueError: the arrays differ in their number of examples, or do not fill a batch; a negative seed.
      TypeError: data has a leaf that is no array; batch_size or seed is no int.

    >>> import numpy as np
    >>> from jaxrnn import training
    >>> batches = training.shuffled({"x": np.arange(10)}, batch_size=5)
    >>> chunk = batches(0, 2)["x"]                              # two steps, an epoch
    >>> chunk.shape, sorted(chunk.ravel().tolist()) == list(range(10))
    ((2, 5), True)
    """
    check_int("seed", seed, minimum=0)
    data = to_numpy("data", data)
    sizes = {a.shape[0] if a.ndim else 0 for a in jax.tree.leaves(data)}
    if len(sizes) != 1:
        raise ValueError(f"data must be arrays with the same number of examples on their first axis, got {sizes}")
    (examples,) = sizes
    check_int("batch_size", batch_size)
    per_epoch = examples // batch_size
    if not per_epoch:
        raise ValueError(f"data has {examples} examples, expected at least batch_size={batch_size}")

    def rows(step: int) -> np.ndarray:
        epoch, index = divmod(step, per_epoch)
        order = np.random.default_rng((seed, epoch)).permutation(examples)
        return order[index * batch_size : (index + 1) * batch_size]

    def batches(start: int, stop: int) -> Any:
        chosen = np.stack([rows(step) for step in range(start, stop)])
        return jax.tree.map(lambda a: a[chosen], data)

    return batches
