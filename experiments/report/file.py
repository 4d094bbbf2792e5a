"""The network of a Python file that somebody wrote for a report."""

import pathlib
import runpy
import sys
import traceback
from typing import Any

import jax
import jax.numpy as jnp

import jaxrnn as jr
from jaxrnn import dynamics

from .. import _run
from .subject import Subject, check_finite

NEEDED = ("step", "params", "xs")


def subject(path: pathlib.Path) -> Subject:
    """What the file's names give: step, params, xs, and those of state, ys, loss, select, x, name that are there.

    Raises:
      UserError: the file does not run, lacks a name, or one of them is not what it should be.
    """
    given = _run_file(path)
    lacking = [name for name in NEEDED if name not in given]
    if lacking:
        raise _run.UserError(f"{path} defines no {', '.join(lacking)}: expected {', '.join(NEEDED)}")
    step, params, loss = given["step"], given["params"], given.get("loss")
    select = given.get("select", _all)
    for name, value in (("step", step), ("loss", loss or _all), ("select", select)):
        if not (callable(value) or (name == "step" and isinstance(value, jr.Cell))):
            raise _run.UserError(f"{path}: {name} must be a function, got {type(value).__name__}")
    if (loss is None) != ("ys" not in given):
        raise _run.UserError(f"{path}: loss and ys go together, and only one of them is there")
    xs = _sequences(path, "xs", given["xs"])
    ys = None if loss is None else _sequences(path, "ys", given["ys"])
    shape = _lead(xs)
    if ys is not None and _lead(ys) != shape:
        raise _run.UserError(f"{path}: ys has {_said(_lead(ys))}, xs {_said(shape)} (several sequences are a list)")
    found = Subject(
        str(given.get("name", path.stem)),
        _about(step),
        step,
        params,
        select,
        given["state"] if "state" in given else _zero_state(path, step, select(params)),
        f"{_said(shape)} from {path.name}",
        xs,
        ys,
        loss,
        x=(given["x"], "x of the file") if "x" in given else None,
    )
    _check(path, found)
    return found


def _run_file(path: pathlib.Path) -> dict[str, Any]:
    """Its names once it has run, with its folder to import from, as Python has it."""
    _run.check_file(path)
    sys.path.insert(0, str(path.parent))
    try:
        return runpy.run_path(str(path))
    except (Exception, SystemExit) as error:
        where = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = where[-1] if where else getattr(error, "lineno", None)
        at = f", line {line}" if line else ""
        raise _run.UserError(f"{path}{at}: {type(error).__name__}: {_first_line(error)}") from error
    finally:
        sys.path.remove(str(path.parent))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "no message")


def _all(params: Any) -> Any:
    return params


def _about(step: Any) -> str:
    for name in dir(jr):
        if isinstance(step, jr.Cell) and getattr(jr, name) is step:
            return f"jr.{name}"
    return "a jr.Cell" if isinstance(step, jr.Cell) else getattr(step, "__name__", type(step).__name__)


def _zero_state(path: pathlib.Path, step: Any, params: Any) -> Any:
    if not isinstance(step, jr.Cell):
        raise _run.UserError(f"{path} defines no state, which only a jr.Cell as step can do without")
    try:
        return step.initial_state(params)
    except (AttributeError, TypeError, ValueError) as error:
        hint = "select says which of params the step reads"
        raise _run.UserError(f"{path}: step cannot use params ({hint}): {_first_line(error)}") from error


def _sequences(path: pathlib.Path, name: str, value: Any) -> Any:
    """(N, T, ...) per leaf, of one sequence (T, ...) or of a list of them."""
    many = value if isinstance(value, list) else [value]
    if not many:
        raise _run.UserError(f"{path}: {name} is an empty list, expected a sequence (T, ...) or a list of them")
    try:
        stacked = jax.tree.map(lambda *parts: jnp.stack([jnp.asarray(part) for part in parts]), *many)
    except (TypeError, ValueError) as error:
        raise _run.UserError(
            f"{path}: {name} must be an array (T, ...), a pytree of those, or a list of such, all equally long"
        ) from error
    leaves = jax.tree.leaves(stacked)
    if not leaves or any(leaf.ndim < 2 or leaf.shape[1] != leaves[0].shape[1] or leaf.shape[1] == 0 for leaf in leaves):
        shapes = ", ".join(str(leaf.shape[1:]) for leaf in leaves) or "nothing"
        raise _run.UserError(f"{path}: {name} has {shapes}, expected (T, ...) with the same T >= 1 everywhere")
    return stacked


def _lead(tree: Any) -> tuple[int, int]:
    return jax.tree.leaves(tree)[0].shape[:2]


def _said(shape: tuple[int, int]) -> str:
    return f"{shape[0]:,} sequence{'s' * (shape[0] > 1)} of {shape[1]:,} step{'s' * (shape[1] > 1)}"


def _check(path: pathlib.Path, found: Subject) -> None:
    """What is there must be arrays of finite numbers, and a step must run and give a state like the one before it."""
    try:
        check_finite(found)
    except (TypeError, ValueError) as error:
        raise _run.UserError(f"{path}: {_first_line(error)}") from error
    try:
        x, y = jax.tree.map(lambda a: a[0, 0], (found.xs, found.ys))
        after = dynamics.linearise(found.step, found.selected, found.state, x).state
    except (TypeError, ValueError) as error:
        hint = f"at the first step of xs, {_said(_lead(found.xs))}; several sequences are a list"
        raise _run.UserError(f"{path}: {_first_line(error)} ({hint})") from error
    if found.loss is not None:
        _check_loss(path, found.loss, found.params, after, y)


def _check_loss(path: pathlib.Path, loss: Any, params: Any, state: Any, y: Any) -> None:
    """It must give one number."""
    try:
        value = jax.eval_shape(loss, params, state, y)
    except Exception as error:
        raise _run.UserError(f"{path}: loss(params, state, y) fails: {_first_line(error)}") from error
    if getattr(value, "shape", None) != ():
        raise _run.UserError(
            f"{path}: loss must return one number, got {getattr(value, 'shape', type(value).__name__)}"
        )
