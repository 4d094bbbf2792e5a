"""Spreading the batch over devices, and over processes, with JAX's own shardings."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from .._core.checks import check_int

_AXIS = "data"
REPLICATED, BATCH, CHUNK = PartitionSpec(), PartitionSpec(_AXIS), PartitionSpec(None, _AXIS)


def data_mesh(devices: int | None = None) -> Mesh:
    """A mesh with one axis, "data", over which `fit` shards the batch.

    The axis is Auto: the compiler finds where the devices must talk. With several processes (after
    `jax.distributed.initialize`) the mesh spans the devices of all of them.

    Args:
      devices: how many of `jax.devices()`; all by default, and with several processes always all.

    Raises:
      ValueError: more devices than there are, or fewer than all with several processes.

    >>> from jaxrnn import training
    >>> training.data_mesh(1).size
    1
    """
    available = jax.devices()
    if devices is None:
        devices = len(available)
    check_int("devices", devices)
    if devices > len(available):
        raise ValueError(
            f"a mesh of {devices} devices was asked for, there are only {len(available)} ({available[0].platform})"
        )
    if jax.process_count() > 1 and devices != len(available):
        raise ValueError(
            f"with {jax.process_count()} processes the mesh takes all {len(available)} devices, got {devices}"
        )
    return Mesh(np.array(available[:devices]), (_AXIS,), axis_types=(AxisType.Auto,))


def check_mesh(mesh: Any) -> None:
    """The mesh is like those of `data_mesh`, or None."""
    if not isinstance(mesh, Mesh | None):
        raise TypeError(f"mesh must be a mesh from training.data_mesh, got {type(mesh).__name__}")
    if mesh is not None and (mesh.axis_names != (_AXIS,) or mesh.axis_types != (AxisType.Auto,)):
        raise ValueError(f"mesh must have one Auto axis, {_AXIS!r}, as from training.data_mesh, got {mesh}")


def check_divisible(name: str, tree: Any, axis: int, mesh: Mesh | None, parts: int) -> None:
    """The batch axis of every leaf splits into `parts` parts on each device of the mesh."""
    devices = 1 if mesh is None else mesh.size
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        where = f"{name}{jax.tree_util.keystr(path)}"
        if leaf.ndim <= axis:
            raise ValueError(f"{where} has shape {leaf.shape}, expected the batch on axis {axis}")
        if leaf.shape[axis] % (devices * parts):
            raise ValueError(
                f"{where} has a batch of {leaf.shape[axis]}, expected a multiple of {devices} (devices of the mesh) "
                f"times {parts} (accumulate)"
            )


def place(tree: Any, mesh: Mesh | None, spec: PartitionSpec) -> Any:
    """The tree on the mesh's devices; every process holds all of `tree` and keeps its own part."""
    if mesh is None:
        return jax.tree.map(jnp.asarray, tree)
    sharding = NamedSharding(mesh, spec)

    def put(leaf: Any) -> Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    return jax.tree.map(put, tree)


def constrain(tree: Any, mesh: Mesh | None, spec: PartitionSpec) -> Any:
    """Inside jit: the tree stays laid out so."""
    return tree if mesh is None else lax.with_sharding_constraint(tree, NamedSharding(mesh, spec))
