"""Checkpoints of a training state: written by Orbax, whole or not at all, and checked before they are read."""

import hashlib
import json
import os
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding

from ._mesh import BATCH, REPLICATED
from ._step import TrainState

_MANIFEST = "manifest.json"
_STATE = "state"
_UNFINISHED = ".unfinished"
_DISCARDED = ".discarded"


class CheckpointError(Exception):
    """A checkpoint that cannot be written, or one that is damaged or of another run."""


def save(folder: pathlib.Path, state: TrainState, about: dict[str, Any], keep: int) -> None:
    """Write `folder`/step, then remove all but the `keep` newest; every process calls it.

    The files come into being under another name, which the finished checkpoint loses last. `about` is kept in the
    manifest.

    Raises:
      CheckpointError: a file could not be written; the checkpoints there are untouched.
    """
    step = int(state.step)
    unfinished = folder / _UNFINISHED
    try:
        if _is_first():
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
        _barrier("begin")
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            checkpointer.save(unfinished.absolute() / _STATE, args=ocp.args.StandardSave(_raw(state)))
        if _is_first():
            _write_manifest(unfinished, {"step": step, **about}, state)
            os.replace(unfinished, folder / f"{step:08d}")
            _discard(folder, steps(folder)[:-keep])
        _barrier("end")
    except Exception as error:  # Orbax and TensorStore raise whatever they like
        shutil.rmtree(unfinished, ignore_errors=True)
        last = f"the last good one is of step {steps(folder)[-1]}" if steps(folder) else "there is none before it"
        raise CheckpointError(
            f"cannot write the checkpoint of step {step} to {folder}: {_line(error)}; {last}"
        ) from error


def restore(folder: pathlib.Path, step: int, like: TrainState, mesh: Mesh | None = None) -> TrainState:
    """The state saved at `step`, laid out over the mesh.

    Args:
      like: the shapes of what is expected.

    Raises:
      CheckpointError: it is damaged, or its arrays are not those of `like`.
    """
    path = folder / f"{step:08d}"
    _check_arrays(path, read_manifest(path)["arrays"], _arrays(like))
    abstract = _with_shardings(jax.eval_shape(_raw, like), mesh)
    try:
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            raw = checkpointer.restore(path.absolute() / _STATE, args=ocp.args.StandardRestore(abstract))
    except Exception as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {_line(error)}") from error
    return jax.tree.map(_typed, raw, like)


def steps(folder: pathlib.Path) -> list[int]:
    """The steps of the finished checkpoints there, in order."""
    return sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdecimal())


def read_manifest(path: pathlib.Path) -> dict[str, Any]:
    """What a checkpoint says of itself, once every file has been found to be as it was written."""
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        digest = manifest.pop("digest")
        files = manifest.pop("files")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged or no checkpoint of ours: its {_MANIFEST} cannot be read") from error
    if digest != _digest(json.dumps([manifest, files]).encode()):
        raise CheckpointError(f"{path} is damaged: {_MANIFEST} is not as it was written")
    for name, expected in files.items():
        try:
            found = _digest((path / name).read_bytes())
        except OSError as error:
            raise CheckpointError(f"{path} is damaged: {name} cannot be read") from error
        if found != expected:
            raise CheckpointError(f"{path} is damaged: {name} is not as it was written")
    return manifest


def _write_manifest(path: pathlib.Path, about: dict[str, Any], state: TrainState) -> None:
    written = sorted(file for file in path.rglob("*") if file.is_file())
    files = {str(file.relative_to(path)): _digest(file.read_bytes()) for file in written}
    manifest = {**about, "arrays": _arrays(state)}
    digest = _digest(json.dumps([manifest, files]).encode())
    with (path / _MANIFEST).open("w", encoding="utf-8") as file:
        json.dump({**manifest, "files": files, "digest": digest}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _arrays(state: TrainState) -> dict[str, str]:
    """Name -> dtype and shape of every leaf."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): f"{a.dtype}{list(a.shape)}" for path, a in leaves}


def _check_arrays(path: pathlib.Path, saved: dict[str, str], expected: dict[str, str]) -> None:
    if saved != expected:
        names = [name for name in saved.keys() | expected.keys() if saved.get(name) != expected.get(name)]
        name = min(names, key=lambda name: (not name.startswith("params"), name))
        there, here = saved.get(name, "nothing"), expected.get(name, "nothing")
        raise CheckpointError(f"{path} is of another model: it has {there} as {name}, expected {here}")


def _discard(folder: pathlib.Path, old: list[int]) -> None:
    """Each checkpoint goes in one move, never piece by piece under its own name."""
    discarded = folder / _DISCARDED
    shutil.rmtree(discarded, ignore_errors=True)
    for step in old:
        os.replace(folder / f"{step:08d}", discarded)
        shutil.rmtree(discarded)


def _with_shardings(state: TrainState, mesh: Mesh | None) -> TrainState:
    if mesh is None:
        replicated = batch = SingleDeviceSharding(jax.devices()[0])
    else:
        replicated, batch = NamedSharding(mesh, REPLICATED), NamedSharding(mesh, BATCH)

    def lay_out(tree: Any, sharding: Any) -> Any:
        return jax.tree.map(lambda like: jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=sharding), tree)

    return lay_out(state, replicated)._replace(carry=lay_out(state.carry, batch))


def _raw(state: TrainState) -> TrainState:
    """Orbax does not know typed keys."""
    return jax.tree.map(lambda a: jax.random.key_data(a) if _is_key(a) else a, state)


def _typed(raw: Any, like: Any) -> Any:
    return jax.random.wrap_key_data(raw, impl=_impl(like)) if _is_key(like) else raw


def _impl(like: Any) -> Any:
    """Of a key's shape; JAX tells it of keys alone."""
    return jax.random.key_impl(jnp.empty((), like.dtype))


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _is_first() -> bool:
    return jax.process_index() == 0


def _barrier(name: str) -> None:
    multihost_utils.sync_global_devices(f"jaxrnn checkpoint {name}")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _line(error: Exception) -> str:
    """The part of a long message that a person wants to read."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
