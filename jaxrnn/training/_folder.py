"""A run on disk: its metrics, a line a step, and its checkpoints."""

import dataclasses
import json
import os
import pathlib
from typing import Any

import jax
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from .._core.checks import check_int
from . import _checkpoint
from ._checkpoint import CheckpointError
from ._step import TrainState

Row = dict[str, Any]


class RunFolderError(Exception):
    """A folder that holds another run, or that cannot be written to."""


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Where `fit` keeps a run: `metrics.jsonl`, and `checkpoints/` by step.

    A run that was killed at any moment goes on with `resume=True`, and in the end its parameters and its metrics,
    except for their seconds, are bit for bit those of a run that was never killed.

    Args:
      path: the folder, made if need be.
      config: what the run depends on, as JSON can hold it: kept in every checkpoint, and on resuming it must be equal.
      every: steps between checkpoints, a multiple of `fit`'s chunk; None for one at the end alone.
      keep: how many of the newest checkpoints to keep.
      resume: go on from the newest checkpoint there; without one, begin.

    Raises:
      ValueError: every or keep is not positive.
      RunFolderError: raised by `fit` when there is a run in the folder and resume=False, when its config differs, or
        when a file cannot be written.
      CheckpointError: raised by `fit` for a checkpoint that is damaged or of another model. Nothing has been touched.
    """

    path: pathlib.Path | str
    config: Row = dataclasses.field(default_factory=dict)
    every: int | None = None
    keep: int = 2
    resume: bool = False

    def __post_init__(self) -> None:
        if self.every is not None:
            check_int("every", self.every)
        check_int("keep", self.keep)
        object.__setattr__(self, "path", pathlib.Path(self.path))
        try:
            object.__setattr__(self, "config", json.loads(json.dumps(self.config)))
        except TypeError as error:
            raise TypeError(f"config must be what JSON can hold, got {self.config!r}: {error}") from error

    @property
    def metrics(self) -> pathlib.Path:
        """A JSON object a line: each step's, and each evaluation's."""
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
        return self._manifest()["config"]

    def load(self, like: TrainState, mesh: Mesh | None = None) -> TrainState:
        """The newest checkpoint.

        Args:
          like: a state with arrays of the same shapes and dtypes, or their shapes alone:
            `jax.eval_shape(lambda: training.initial_state(params, optimizer, carry, key))`.
          mesh: to lay the arrays out over.

        Raises:
          CheckpointError: there is none, it is damaged, or it is of another model.
        """
        return _checkpoint.restore(self.checkpoints, self._newest(), like, mesh)

    def open(self, like: TrainState, mesh: Mesh | None) -> tuple[TrainState | None, list[Row]]:
        """The state and the rows to go on from; None and no rows for a run that begins."""
        try:
            if not self.resume:
                self._check_empty()
            if not _checkpoint.steps(self.checkpoints):
                state, rows, size = None, [], 0
            else:
                manifest = self._manifest()
                self._check_config(manifest["config"])
                size = manifest["metrics_bytes"]
                state, rows = self.load(like, mesh), self._read(size)
            multihost_utils.sync_global_devices("jaxrnn run folder read")  # before the first process changes it
            if jax.process_index() == 0:
                self.checkpoints.mkdir(parents=True, exist_ok=True)
                if self.metrics.exists():
                    os.truncate(self.metrics, size)
        except OSError as error:
            raise RunFolderError(f"cannot write to {self.path}: {error.strerror}") from error
        return state, rows

    def write(self, rows: list[Row]) -> None:
        """Add rows to the metrics."""
        if jax.process_index() == 0:
            try:
                with self.metrics.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row) + "\n" for row in rows)
            except OSError as error:
                raise RunFolderError(f"cannot write to {self.metrics}: {error.strerror}") from error

    def save(self, state: TrainState) -> None:
        """Write a checkpoint, after the metrics up to it are safe on the disk."""
        if jax.process_index() == 0:
            with self.metrics.open("a") as file:
                os.fsync(file.fileno())
        about = {"config": self.config, "metrics_bytes": self.metrics.stat().st_size}
        _checkpoint.save(self.checkpoints, state, about, self.keep)

    def _manifest(self) -> Row:
        return _checkpoint.read_manifest(self.checkpoints / f"{self._newest():08d}")

    def _newest(self) -> int:
        steps = _checkpoint.steps(self.checkpoints)
        if not steps:
            raise CheckpointError(f"{self.path} holds no checkpoint")
        return steps[-1]

    def _check_empty(self) -> None:
        if _checkpoint.steps(self.checkpoints) or (self.metrics.exists() and self.metrics.stat().st_size):
            raise RunFolderError(f"{self.path} already holds a run: resume it, or name another folder")

    def _check_config(self, saved: Row) -> None:
        names = sorted(name for name in saved.keys() | self.config.keys() if saved.get(name) != self.config.get(name))
        if names:
            there, here = (", ".join(f"{name}={_short(c.get(name))}" for name in names) for c in (saved, self.config))
            raise RunFolderError(f"the run in {self.path} has {there}, and cannot go on with {here}")

    def _read(self, size: int) -> list[Row]:
        """The rows up to a checkpoint; what a killed run wrote after it comes later."""
        content = self.metrics.read_bytes() if self.metrics.exists() else b""
        if len(content) < size:
            raise RunFolderError(f"{self.metrics} has {len(content)} bytes, the checkpoint was written after {size}")
        try:
            return [json.loads(line) for line in content[:size].splitlines()]
        except ValueError as error:
            raise RunFolderError(f"{self.metrics} is damaged before the checkpoint: {error}") from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
