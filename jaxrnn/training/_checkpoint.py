"""Checkpoints of a training state: written by Orbax, whole or not at all, and checked before they are read."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import math
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from ._mesh import BATCH, REPLICATED
from ._processes import agreed, barrier, is_first
from ._step import TrainState

try:
    import resource
except ModuleNotFoundError:  # Unix alone has limits of a process
    resource = None

_MANIFEST = "manifest.json"
_STATE = "state"
_BEST = "best"
_OTHER_FILES = 2**18  # bytes that Orbax may write beside the arrays
_UNFINISHED = ".unfinished"
_DISCARDED = ".discarded"


class CheckpointError(Exception):
    """A checkpoint that cannot be written, or one that is damaged or of another run."""


class Best(NamedTuple):
    """The parameters with the least value so far of what an evaluation measures."""

    step: int
    value: float
    params: Any


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a checkpoint says of itself; JSON holds it."""

    step: int
    config: dict
    notes: dict
    metrics_bytes: int  # of the metrics that were written before it
    metrics_sha256: str  # of them
    arrays: dict  # name -> dtype and shape of every leaf of the state
    best: dict | None  # step and value of the best parameters, and their arrays
    files: dict  # name -> SHA-256

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not isinstance(getattr(self, field.name), field.type):  # pyright: ignore[reportArgumentType]
                raise TypeError(f"{field.name} is {type(getattr(self, field.name)).__name__}")


def path_of(folder: pathlib.Path, step: int) -> pathlib.Path:
    """Where the checkpoint of a step is."""
    return folder / f"{step:08d}"


def steps(folder: pathlib.Path) -> list[int]:
    """The steps of the finished checkpoints there, in order."""
    return sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdecimal())


def save(folder: pathlib.Path, state: TrainState, best: Best | None, about: dict[str, Any], keep: int) -> None:
    """Write `folder`/step, then remove all but the `keep` newest; every process calls it.

    The files come into being under another name, which the finished checkpoint loses last. `about` is what else the
    manifest says.

    Raises:
      CheckpointError: a file could not be written; the checkpoints there are untouched.
    """
    step = int(state.step)
    unfinished = folder / _UNFINISHED
    try:
        agreed(functools.partial(_make_room, unfinished, state, best), CheckpointError)
        _write(unfinished / _STATE, state)
        if best is not None:
            _write(unfinished / _BEST, best.params)
        if is_first():
            _write_manifest(unfinished, state, best, about)
            os.replace(unfinished, path_of(folder, step))
            _discard(folder, steps(folder)[:-keep])
        barrier("checkpoint written")
    except Exception as error:  # Orbax and TensorStore raise whatever they like
        shutil.rmtree(unfinished, ignore_errors=True)
        last = f"the last good one is of step {steps(folder)[-1]}" if steps(folder) else "there is none before it"
        raise CheckpointError(
            f"cannot write the checkpoint of step {step} to {folder}: {_line(error)}; {last}"
        ) from error


def restore(path: pathlib.Path, manifest: Manifest, like: TrainState, mesh: Mesh | None) -> TrainState:
    """The state of a checkpoint, laid out over the mesh.

    Args:
      manifest: as `read_manifest` gives it.
      like: the shapes of what is expected.

    Raises:
      CheckpointError: it is damaged, or its arrays are not those of `like`.
    """
    _check_arrays(path, manifest.arrays, _arrays(like))
    raw = jax.eval_shape(_raw, like)
    abstract = _laid_out(raw, mesh, REPLICATED)._replace(carry=_laid_out(raw.carry, mesh, BATCH))
    state = jax.tree.map(_typed, _read(path / _STATE, abstract), like)
    if int(state.step) != manifest.step:
        raise CheckpointError(f"{path} is damaged: its state is of step {int(state.step)}")
    return state


def restore_best(path: pathlib.Path, manifest: Manifest, params: Any, mesh: Mesh | None) -> Best:
    """The best parameters that a checkpoint has, laid out over the mesh.

    Args:
      manifest: as `read_manifest` gives it.
      params: the shapes of what is expected.

    Raises:
      CheckpointError: it is damaged, it has none, or its arrays are not those of `params`.
    """
    best = manifest.best
    if best is None:
        raise CheckpointError(f"{path} has no best parameters: the run had no evaluation with best")
    try:
        step, value, arrays = int(best["step"]), float(best["value"]), dict(best["arrays"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: what its {_MANIFEST} says of the best cannot be read") from error
    _check_arrays(path, arrays, _arrays(params))
    abstract = _laid_out(jax.eval_shape(lambda: params), mesh, REPLICATED)
    return Best(step, value, _read(path / _BEST, abstract))


def read_manifest(path: pathlib.Path) -> Manifest:
    """What a checkpoint says of itself, once every file has been found to be as it was written."""
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        digest = manifest.pop("digest")
        is_whole = digest == _digest(json.dumps(manifest).encode())
        manifest = Manifest(**manifest)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged or no checkpoint of ours: its {_MANIFEST} cannot be read") from error
    if not is_whole:
        raise CheckpointError(f"{path} is damaged: {_MANIFEST} is not as it was written")
    if path_of(path.parent, manifest.step) != path:
        raise CheckpointError(f"{path} is damaged: its {_MANIFEST} is of step {manifest.step}")
    for name, expected in manifest.files.items():
        try:
            found = _digest((path / name).read_bytes())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged: {name} cannot be read") from error
        if found != expected:
            raise CheckpointError(f"{path} is damaged: {name} is not as it was written")
    return manifest


def _write(path: pathlib.Path, tree: Any) -> None:
    with _quiet(), ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        checkpointer.save(path.absolute(), args=ocp.args.StandardSave(_raw(tree)))


def _make_room(unfinished: pathlib.Path, state: TrainState, best: Best | None) -> None:
    """An empty folder on a disk with room; what Orbax's threads meet in the middle of writing they tell at length."""
    if not is_first():
        return
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    arrays = sum(leaf.nbytes for leaf in jax.tree.leaves((_raw(state), best and best.params)))
    _check_room(arrays + _OTHER_FILES, shutil.disk_usage(unfinished).free)
    if resource is not None:
        largest, _ = resource.getrlimit(resource.RLIMIT_FSIZE)  # of one file
        _check_room(arrays, math.inf if largest == resource.RLIM_INFINITY else largest)


def _check_room(needed: int, free: float) -> None:
    if needed > free:
        raise OSError(f"it takes up to {needed:,} bytes, there is room for {free:,}")


def _read(path: pathlib.Path, abstract: Any) -> Any:
    try:
        with _quiet(), ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            return checkpointer.restore(path.absolute(), args=ocp.args.StandardRestore(abstract))
    except Exception as error:
        raise CheckpointError(f"cannot read the checkpoint {path.parent}: {_line(error)}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what Orbax logs of an error, which it raises too."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _write_manifest(path: pathlib.Path, state: TrainState, best: Best | None, about: dict[str, Any]) -> None:
    written = sorted(file for file in path.rglob("*") if file.is_file())
    manifest = dataclasses.asdict(
        Manifest(
            step=int(state.step),
            arrays=_arrays(state),
            best=best and {"step": best.step, "value": best.value, "arrays": _arrays(best.params)},
            files={str(file.relative_to(path)): _digest(file.read_bytes()) for file in written},
            **about,
        )
    )
    with (path / _MANIFEST).open("w", encoding="utf-8") as file:
        json.dump({**manifest, "digest": _digest(json.dumps(manifest).encode())}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _arrays(tree: Any) -> dict[str, str]:
    """Name -> dtype and shape of every leaf."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
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
        os.replace(path_of(folder, step), discarded)
        shutil.rmtree(discarded)


def _laid_out(tree: Any, mesh: Mesh | None, spec: PartitionSpec) -> Any:
    sharding = SingleDeviceSharding(jax.devices()[0]) if mesh is None else NamedSharding(mesh, spec)
    return jax.tree.map(lambda like: jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=sharding), tree)


def _raw(tree: Any) -> Any:
    """Orbax does not know typed keys."""
    return jax.tree.map(lambda a: jax.random.key_data(a) if _is_key(a) else a, tree)


def _typed(raw: Any, like: Any) -> Any:
    return jax.random.wrap_key_data(raw, impl=_impl(like)) if _is_key(like) else raw


def _impl(like: Any) -> Any:
    """Of a key's shape; JAX tells it of keys alone."""
    return jax.random.key_impl(jnp.empty((), like.dtype))


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _line(error: Exception) -> str:
    """The part of a long message that a person wants to read."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
