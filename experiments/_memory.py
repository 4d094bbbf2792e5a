"""What a run would take of the memory, estimated before any of it is taken."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import optax
import psutil
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from jaxrnn import training

from ._run import UserError


def check_training(
    flags: str,
    loss: training.Loss | training.StepGradient,
    optimizer: optax.GradientTransformation,
    initial: Callable[[], Any],
    copies: int = 1,
) -> None:
    """`check` of one step of `training.fit`.

    Args:
      flags, copies: see `check`.
      loss, optimizer: as `fit` gets them.
      initial: `() -> (params, carry, batch)`, batch that of one step.
    """
    gradient = loss.function if isinstance(loss, training.StepGradient) else jax.value_and_grad(loss, has_aux=True)

    def begin() -> Any:
        params, carry, batch = initial()
        return training.initial_state(params, optimizer, carry), batch

    def step(state: training.TrainState, batch: Any) -> Any:
        found, grads = gradient(state.params, state.carry, batch, state.key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        return found, optax.apply_updates(state.params, updates), opt_state

    check(flags, step, *shapes(flags, begin), copies=copies)


def shapes(flags: str, function: Callable[[], Any]) -> Any:
    """Those of what a call would give, which must fit by itself."""
    found = jax.eval_shape(function)
    check_bytes(flags, _sum(jax.tree.leaves(found)))
    return found


def check(flags: str, function: Callable[..., Any], *arguments: Any, copies: int = 1) -> None:
    """An error if a call would take more memory than there is. Nothing is computed, and nothing compiled.

    Args:
      flags: what would make it less, for the error.
      function: made of JAX operations.
      arguments: its arrays, or their shapes.
      copies: calls at the same time.

    Raises:
      UserError: says what it would take, and what there is.
    """
    check_bytes(flags, copies * peak(function, *arguments))


@contextlib.contextmanager
def own_limits(prefix: str = "") -> Iterator[None]:
    """What an algorithm refuses by itself, as RTRL an influence above its budget, is told as what does not fit is."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{prefix}{error}") from error


def check_bytes(flags: str, needed: int) -> None:
    """The same of a number of bytes."""
    if needed > (free := available()):
        raise UserError(f"would take about {_readable(needed)} of memory, {_readable(free)} are free: lower {flags}")


def available() -> int:
    """Bytes that the device has left: its own, or on a CPU the machine's, in a container as many as it may have."""
    if own := jax.local_devices()[0].memory_stats():
        return own["bytes_limit"] - own["bytes_in_use"]
    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # no control groups, or "max"
        free = min(free, int(pathlib.Path("/sys/fs/cgroup/memory.max").read_text()))
    return free


def peak(function: Callable[..., Any], *arguments: Any) -> int:
    """Bytes that a call takes at most, those of its arguments and results among them.

    By a trace: an array lives from the operation that makes it to the last one that reads it. Against what XLA plans,
    which puts some operations together, this is 0.75 to 2 times as much on the trainings of the experiments.
    """
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    return _sum(var.aval for var in (*jaxpr.invars, *jaxpr.constvars)) + _peak(jaxpr)


def _peak(jaxpr: Jaxpr) -> int:
    """The most bytes that live at once, without inputs."""
    last = {var: index for index, equation in enumerate(jaxpr.eqns) for var in _vars(equation.invars)}
    last |= dict.fromkeys(_vars(jaxpr.outvars), len(jaxpr.eqns))
    live, most, made = 0, 0, set()
    for index, equation in enumerate(jaxpr.eqns):
        made |= {*equation.outvars}
        live += _sum(var.aval for var in equation.outvars)
        most = max(most, live + max(map(_inside, _jaxprs(equation)), default=0))
        ended = {
            var for var in (*_vars(equation.invars), *equation.outvars) if var in made and last.get(var, 0) <= index
        }
        live -= _sum(var.aval for var in ended)
        made -= ended
    return most


def _inside(jaxpr: Jaxpr) -> int:
    """The same beside the results, which are those of the equation that runs it."""
    return max(0, _peak(jaxpr) - _sum(var.aval for var in _vars(jaxpr.outvars)))


def _jaxprs(equation: JaxprEqn) -> Iterator[Jaxpr]:
    """What the equation runs, such as a scan's body."""
    for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: isinstance(leaf, ClosedJaxpr)):
        if isinstance(value, ClosedJaxpr | Jaxpr):
            yield value.jaxpr if isinstance(value, ClosedJaxpr) else value


def _vars(atoms: Any) -> list[Any]:
    return [atom for atom in atoms if not isinstance(atom, Literal)]


def _sum(avals: Any) -> int:
    return sum(aval.size * aval.dtype.itemsize for aval in avals)


def _readable(count: int) -> str:
    """A number of bytes with a unit."""
    value, units = float(count), iter(("bytes", "kB", "MB", "GB", "TB", "PB", "EB"))
    unit = next(units)
    while value >= 1000 and (larger := next(units, None)):
        value, unit = value / 1000, larger
    return f"{value:,.3g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"
