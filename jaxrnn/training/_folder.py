"""A run on disk: its metrics, a line a step, and its checkpoints."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import filelock
from jax.sharding import Mesh

from .._core.checks import check_bool, check_int, check_shapes, shown
from . import _checkpoint
from ._checkpoint import Best, CheckpointError
from ._mesh import check_mesh
from ._processes import agreed, is_first
from ._step import TrainState

Row = dict[str, Any]


class RunFolderError(Exception):
    """A folder that holds another run, that another process is using, or that cannot be written to."""


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Where `fit` keeps a run: `metrics.jsonl`, and `checkpoints/` by step.

    A run that was killed at any moment goes on with `resume=True`, and in the end its parameters and its metrics,
    except for their seconds, are bit for bit those of a run that was never killed.

    One process at a time: `fit` holds a lock in the folder that dies with its process. On a file system without
    `flock`, filelock warns and falls back to a file that a killed process leaves behind.

    Args:
      path: the folder, made if need be.
      config: what the run depends on, as JSON can hold it: kept in every checkpoint, and on resuming it must be equal.
      every: steps between checkpoints, a multiple of `fit`'s chunk; None for one at the end alone.
      keep: how many of the newest checkpoints to keep.
      resume: go on from the newest checkpoint there; without one, begin.
      notes: what else is kept in every checkpoint, and may differ on resuming: where the data lay, who began it.

    Raises:
      ValueError: every or keep is not positive, path is empty.
      TypeError: path is no path, config or notes no dict that JSON can hold, resume no bool, every or keep no int.
      RunFolderError: raised by `fit` when there is a run in the folder and resume=False, when its config differs, when
        another process is using it, when the metrics are not as they were written, or when a file cannot be written.
      CheckpointError: raised by `fit` for a checkpoint that is damaged or of another model. Nothing has been touched.
    """

    path: pathlib.Path | str
    config: Row = dataclasses.field(default_factory=dict)
    every: int | None = None
    keep: int = 2
    resume: bool = False
    notes: Row = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.every is not None:
            check_int("every", self.every)
        check_int("keep", self.keep)
        check_bool("resume", self.resume)
        if not isinstance(self.path, str | os.PathLike):
            raise TypeError(f"path must be a str or a pathlib.Path, got {shown(self.path)}")
        if not str(self.path):
            raise ValueError("path must name a folder, got an empty one")
        object.__setattr__(self, "path", pathlib.Path(self.path))
        for name in ("config", "notes"):
            object.__setattr__(self, name, _as_json(name, getattr(self, name)))

    @property
    def metrics(self) -> pathlib.Path:
        """A JSON object a line: each step's, and each evaluation's; null for what is not finite."""
        return pathlib.Path(self.path) / "metrics.jsonl"

    @property
    def checkpoints(self) -> pathlib.Path:
        """The folder with a folder for each step that was saved."""
        return pathlib.Path(self.path) / "checkpoints"

    def saved_config(self) -> Row:
        """The config of the newest checkpoint.

        Raises:
          CheckpointError: there is none, or it is damaged.
        """
        return self._manifest()[1].config

    def saved_notes(self) -> Row:
        """The notes of the newest checkpoint.

        Raises:
          CheckpointError: there is none, or it is damaged.
        """
        return self._manifest()[1].notes

    def load(self, like: TrainState, mesh: Mesh | None = None) -> TrainState:
        """The newest checkpoint.

        Args:
          like: a state with arrays of the same shapes and dtypes, or their shapes alone:
            `jax.eval_shape(lambda: training.initial_state(params, optimizer, carry, key))`.
          mesh: to lay the arrays out over.

        Raises:
          TypeError: like is no `TrainState` of arrays or shapes, mesh no mesh.
          CheckpointError: there is none, it is damaged, or it is of another model.
        """
        if not isinstance(like, TrainState):
            raise TypeError(f"like must be a training.TrainState, got {type(like).__name__}")
        check_shapes("like", like)
        check_mesh(mesh)
        return _checkpoint.restore(*self._manifest(), like, mesh)

    def load_best(self, params: Any, mesh: Mesh | None = None) -> Best:
        """The best parameters by an evaluation with `best`, as the newest checkpoint has them.

        Args:
          params: a pytree with arrays of the same shapes and dtypes, or their shapes alone.
          mesh: to lay the arrays out over.

        Raises:
          TypeError: params has a leaf that is neither array nor shape, mesh is no mesh.
          CheckpointError: there is no checkpoint, or it has none; it is damaged, or of another model.
        """
        check_shapes("params", params)
        check_mesh(mesh)
        return _checkpoint.restore_best(*self._manifest(), params, mesh)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """No other run is in the folder; blocks of one run may stand inside each other.

        Of a run of several processes the first holds the lock for all.

        Raises:
          RunFolderError: another run is, or the folder cannot be written to.
        """
        lock = agreed(self._lock, RunFolderError)
        try:
            yield
        finally:
            if lock is not None:
                if lock.lock_counter == 1:  # who has opened it meanwhile sees that it has no name any more
                    pathlib.Path(lock.lock_file).unlink(missing_ok=True)
                lock.release()

    def _lock(self) -> filelock.BaseFileLock | None:
        if not is_first():
            return None
        with _os_errors(f"cannot write to {self.path}"):
            pathlib.Path(self.path).mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(pathlib.Path(self.path) / ".lock", is_singleton=True)
            try:
                lock.acquire(blocking=False)
            except filelock.Timeout:
                raise RunFolderError(f"another process is running in {self.path}: name another folder") from None
        return lock

    @contextlib.contextmanager
    def open(self, like: TrainState, mesh: Mesh | None) -> Iterator["OpenFolder"]:
        """The folder, for a run that begins or goes on: of one process, or of those of one distributed run."""
        with self.locked():
            read = functools.partial(self._read_run, like, mesh)
            yield agreed(read, RunFolderError).begin()

    def _read_run(self, like: TrainState, mesh: Mesh | None) -> "OpenFolder":
        """What is there to go on from; nothing is changed yet."""
        with _os_errors(f"cannot write to {self.path}"):
            if not self.resume:
                self._check_empty()
            if not _checkpoint.steps(self.checkpoints):
                return OpenFolder(self, Resumed(None, [], None), 0)
            path, manifest = self._manifest()
            self._check_config(manifest.config)
            content = self._metrics_of(manifest)
            best = _checkpoint.restore_best(path, manifest, like.params, mesh) if manifest.best else None
            state = _checkpoint.restore(path, manifest, like, mesh)
            resumed = Resumed(state, [_row(line) for line in content.splitlines()], best)
            return OpenFolder(self, resumed, len(content), hashlib.sha256(content))

    def _manifest(self) -> tuple[pathlib.Path, _checkpoint.Manifest]:
        """The newest checkpoint, every file of which is as it was written: to find that out takes a reading of all."""
        steps = _checkpoint.steps(self.checkpoints)
        if not steps:
            raise CheckpointError(f"{self.path} holds no checkpoint")
        path = _checkpoint.path_of(self.checkpoints, steps[-1])
        return path, _checkpoint.read_manifest(path)

    def _check_empty(self) -> None:
        if _checkpoint.steps(self.checkpoints) or (self.metrics.exists() and self.metrics.stat().st_size):
            raise RunFolderError(f"{self.path} already holds a run: resume it, or name another folder")

    def _check_config(self, saved: Row) -> None:
        names = sorted(name for name in saved.keys() | self.config.keys() if saved.get(name) != self.config.get(name))
        if names:
            there, here = (", ".join(f"{name}={_short(c.get(name))}" for name in names) for c in (saved, self.config))
            raise RunFolderError(f"the run in {self.path} has {there}, and cannot go on with {here}")

    def _metrics_of(self, manifest: _checkpoint.Manifest) -> bytes:
        """The metrics up to a checkpoint; what a killed run wrote after it comes later."""
        content = self.metrics.read_bytes() if self.metrics.exists() else b""
        if len(content) < manifest.metrics_bytes:
            raise RunFolderError(
                f"{self.metrics} has {len(content)} bytes, the checkpoint was written after {manifest.metrics_bytes}"
            )
        content = content[: manifest.metrics_bytes]
        if hashlib.sha256(content).hexdigest() != manifest.metrics_sha256:
            raise RunFolderError(f"{self.metrics} is damaged: it is not as it was written before the checkpoint")
        return content


class Resumed(NamedTuple):
    """What a folder had of the run before."""

    state: TrainState | None
    rows: list[Row]
    best: Best | None


@dataclasses.dataclass
class OpenFolder:
    """A folder that this run writes to: what it has written is to stay as it is."""

    folder: RunFolder
    resumed: Resumed
    size: int  # of the metrics that are written
    digest: Any = dataclasses.field(default_factory=hashlib.sha256)  # of them

    def begin(self) -> "OpenFolder":
        """Drop what a killed run wrote after its checkpoint."""
        if is_first():
            with _os_errors(f"cannot write to {self.folder.path}"):
                self.folder.checkpoints.mkdir(parents=True, exist_ok=True)
                self.folder.metrics.touch()
                os.truncate(self.folder.metrics, self.size)
        return self

    def write(self, rows: list[Row]) -> None:
        """Add rows to the metrics."""
        content = "".join(json.dumps(_finite(row), allow_nan=False) + "\n" for row in rows).encode()
        if is_first():
            self._check_size()
            with _os_errors(f"cannot write to {self.folder.metrics}"), self.folder.metrics.open("ab") as file:
                file.write(content)
        self.size += len(content)
        self.digest.update(content)

    def save(self, state: TrainState, best: Best | None) -> None:
        """Write a checkpoint, after the metrics up to it are safe on the disk, and as they were written."""
        if is_first():
            self._check_content()
        about = {
            "config": self.folder.config,
            "notes": self.folder.notes,
            "metrics_bytes": self.size,
            "metrics_sha256": self.digest.hexdigest(),
        }
        _checkpoint.save(self.folder.checkpoints, state, best, about, self.folder.keep)

    def _check_size(self) -> None:
        path = self.folder.metrics
        found = path.stat().st_size if path.exists() else None
        if found != self.size:
            now = "is gone" if found is None else f"has {found} bytes"
            raise RunFolderError(f"{path} {now}, this run has written {self.size}: something else has changed it")

    def _check_content(self) -> None:
        self._check_size()
        with _os_errors(f"cannot read {self.folder.metrics}"), self.folder.metrics.open("rb") as file:
            os.fsync(file.fileno())
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.digest.hexdigest():
            raise RunFolderError(f"{self.folder.metrics} is not as this run has written it: something else changed it")


class Nowhere:
    """In place of a folder: a run that keeps nothing."""

    resumed = Resumed(None, [], None)

    def write(self, rows: list[Row]) -> None:
        """Nothing."""

    def save(self, state: TrainState, best: Best | None) -> None:
        """Nothing."""


@contextlib.contextmanager
def opened(folder: RunFolder | None, like: TrainState, mesh: Mesh | None) -> Iterator[OpenFolder | Nowhere]:
    """The folder while the run is in it."""
    if folder is None:
        yield Nowhere()
    else:
        with folder.open(like, mesh) as disk:
            yield disk


@contextlib.contextmanager
def _os_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunFolderError(f"{doing}: {error.strerror}") from error


def _as_json(name: str, value: Any) -> Row:
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be a dict, got {shown(value)}")
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be what JSON can hold, got {shown(value)}: {error}") from error


def _finite(value: Any) -> Any:
    """None for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _row(line: bytes) -> Row:
    """The inverse, but that an infinity comes back as NaN."""
    return _numbers(json.loads(line))


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _numbers(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_numbers(part) for part in value]
    return math.nan if value is None else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
