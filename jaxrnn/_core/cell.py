"""The interface that every cell implements, and what tells equal cells, and what they are, from outside."""

import dataclasses
import functools
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, Self, TypeAlias

from jax import Array

from .checks import check_function, check_int, check_static

__all__ = [
    "Affine",
    "Cell",
    "Gates",
    "Merge",
    "Methods",
    "NamedCell",
    "Params",
    "Project",
    "Run",
    "State",
    "Step",
    "WithOptions",
    "adds_up_in_float32",
    "as_step",
    "check_cell",
    "named",
    "qualname",
    "sums_in_float32",
    "with_options",
]

Params: TypeAlias = Any  # a pytree of arrays
State: TypeAlias = Any  # a pytree of arrays
Step: TypeAlias = Callable[[Params, State, Any], State]
# (params, *merged, state) -> state: the next state from what a `Merge` gave, elementwise over hidden units
Gates: TypeAlias = Callable[..., State]


class Project(Protocol):
    """What a step makes of x before it meets the state: (*batch, I) -> z (*batch, G*H)."""

    def __call__(self, params: Params, x: Array, /) -> Array: ...


class Merge(Protocol):
    """What the gates see of z and r, both (*batch, G*H): arrays (*batch, ·) that are linear in the two."""

    def __call__(self, z: Array, r: Array, /) -> tuple[Array, ...]: ...


class Run(Protocol):
    """A whole sequence at once, with the numbers of stepping it.

    Takes s_0, xs (T, *batch, *input), and active (T, *batch), None if all steps count: where it is False the state
    stays as it is and what comes out is 0. `reverse` begins at the last step, y_t stays at t. Gives the final state,
    and outputs (T, *batch, R), or with return_states all states, (T, *batch, ...) per leaf.

    Where its parameters have fewer bits than float32, it is given √T steps at a time, and their gradients are added up
    in float32: what it adds up by itself might stop growing. One that adds up over time in float32 itself says so by
    an attribute, `run.sums_in_float32 = True`, and gets the whole sequence in any dtype.
    """

    def __call__(
        self, params: Params, state: State, xs: Array, active: Array | None, /, *, reverse: bool, return_states: bool
    ) -> tuple[State, Any]: ...


class Affine(NamedTuple):
    """The structure of a step whose only recurrent product is W_hh h.

        z_t = project(params, x_t)                                        free of the state
        r_t = weight_hh output(s_{t-1}) + bias_hh                         the one product on the critical path
        s_t = gates(params, *merge(z_t, r_t), s_{t-1})                    elementwise over hidden units

    Params have `weight_hh` (G*H, R) and `bias_hh` (G*H,), or None. `step` is the composition of the three. It is
    where the fast scan, and algorithms that use the shape of the Jacobian, find it.

    Fields:
      project, merge, gates: the three functions. An LSTM's projection is a part of its gates, applied last.
      slope: a bound of |∂gates/∂r|, if ∂s_t/∂s_{t-1} is diag(∂gates/∂r) W_hh and there is one: 1 for tanh.
    """

    project: Project
    merge: Merge
    gates: Gates
    slope: float | None = None

    def __repr__(self) -> str:
        return _record("Affine", self)


class Cell(NamedTuple):
    """A recurrent cell: pure functions from parameters, state and input to the next state.

        s_t = step(params, s_{t-1}, x_t)        y_t = output(s_t)

    A cell holds functions only, so it is hashable: close over it, or mark it static under `jax.jit`. Cells of equal
    functions are equal, copied and pickled ones too. Build it once, at module level: a cell of new functions for each
    call, such as lambdas, is another static argument, and retraces.

    Fields:
      init: `(key, input_size, hidden_size, *, ...) -> params`, any pytree of arrays.
      initial_state: `(params, batch_shape=()) -> state`, any pytree of arrays; batch axes come first.
      step: `(params, state, x) -> state`, x (*batch, I). The new state has the old one's shapes and dtypes.
      output: `(state) -> y`, (*batch, R).
      affine: the step's affine structure, a `jr.Affine`, if it has one; `jr.affine_cell` makes such cells.
      run: `(params, state, xs, active, *, reverse, return_states) -> (state, ys)`, a faster way to run a whole
        sequence than by stepping, with the same numbers; see `Run`. None steps. In bfloat16 and float16 it is given √T
        steps at a time, unless `run.sums_in_float32` says that it adds up gradients in float32. A cell with another
        `step` needs another `affine` and `run`, or none: `cell._replace(step=..., affine=None, run=None)`.
      input_ndim: how many axes an x has without its batch axes: 1 for features; 3 for images (height, width, channels),
        whose first two are handed to `initial_state` after the batch axes, as (*batch, height, width).

    Example: a leaky integrator, from its equation h′ = h + a (tanh(W x + V h) − h).

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> def init(key, input_size, hidden_size, *, dtype=jnp.float32):
    ...     key_w, key_v = jax.random.split(key)
    ...     return {"w": jax.random.normal(key_w, (hidden_size, input_size), dtype),
    ...             "v": jax.random.normal(key_v, (hidden_size, hidden_size), dtype) / hidden_size**0.5,
    ...             "a": jnp.full((), 0.1, dtype)}
    >>> def initial_state(params, batch_shape=()):
    ...     return jnp.zeros((*batch_shape, params["v"].shape[0]), params["v"].dtype)
    >>> def step(params, h, x):
    ...     return h + params["a"] * (jnp.tanh(x @ params["w"].T + h @ params["v"].T) - h)
    >>> leaky = jr.Cell(init, initial_state, step, output=lambda h: h)
    >>> params = leaky.init(jax.random.key(0), 3, 8)
    >>> h, ys = jr.unroll(leaky, params, jnp.ones((5, 2, 3)))       # T=5, batch 2
    >>> h.shape, ys.shape
    ((2, 8), (5, 2, 8))

    Example: a running sum, whose whole sequence is one `jnp.cumsum`.

    >>> def run(params, h, xs, active, *, reverse, return_states):
    ...     xs = xs if active is None else jnp.where(active[..., None], xs, 0)
    ...     hs = h + (jnp.flip(jnp.cumsum(jnp.flip(xs, 0), 0), 0) if reverse else jnp.cumsum(xs, 0))
    ...     ys = hs if active is None else jnp.where(active[..., None], hs, 0)
    ...     return hs[0 if reverse else -1], ys
    >>> total = jr.Cell(init=lambda key, input_size, hidden_size: jnp.zeros(hidden_size),
    ...                 initial_state=lambda params, batch_shape=(): jnp.zeros((*batch_shape, *params.shape)),
    ...                 step=lambda params, h, x: h + x, output=lambda h: h, run=run)
    >>> jr.unroll(total, jnp.zeros(2), jnp.ones((5, 2)))[0].tolist()
    [5.0, 5.0]
    """

    init: Callable[..., Params]
    initial_state: Callable[..., State]
    step: Step
    output: Callable[[State], Array]
    affine: Affine | None = None
    run: Run | None = None
    input_ndim: int = 1

    def __repr__(self) -> str:
        return _record("Cell", self)


class NamedCell(Cell):
    """A cell that the library made, with a name and a text for `help`, which have no part in its being equal."""

    name: str | None = None
    _make = Cell._make  # pyright: ignore[reportAssignmentType]  # what `_replace` gives is another cell, without them

    def __repr__(self) -> str:
        return self.name or super().__repr__()


NamedCell.__name__ = "Cell"  # what messages and `help` call it; pickle goes by the qualified name


def named(cell: Cell, name: str, text: str | None) -> Cell:
    """The same cell, with another name and text."""
    found = NamedCell(*cell)
    found.name, found.__doc__ = name, text
    return found


def sums_in_float32(run: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a `Run` whose gradients add up over time in float32 or wider, whatever its parameters are in."""
    run.sums_in_float32 = True  # pyright: ignore[reportFunctionMemberAccess]
    return run


def adds_up_in_float32(run: Run) -> bool:
    """Whether it is marked so."""
    return getattr(run, "sums_in_float32", False)


class Methods:
    """A dataclass whose methods are a cell's functions: there is one object for equal fields.

    Two bound methods are equal if they are of one and the same object. So a cell made anew of the same parts, a
    pickled or a deep-copied one, is equal to the first, and what is compiled for that is not compiled again.
    """

    def __new__(cls, *fields: Any) -> Self:
        return _METHODS.setdefault((cls, *fields), super().__new__(cls))

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), tuple(vars(self).values())


_METHODS: weakref.WeakValueDictionary[tuple[Any, ...], Any] = weakref.WeakValueDictionary()


@dataclasses.dataclass(frozen=True)
class WithOptions(Methods):
    """A function with keyword arguments given, equal for equal ones, as `functools.partial` is not."""

    function: Callable[..., Any]
    options: tuple[tuple[str, Any], ...]

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments, **dict(self.options))


def with_options(function: Callable[..., Any], **options: Any) -> WithOptions:
    """The function with these options."""
    return WithOptions(function, tuple(options.items()))


def qualname(function: Any) -> str:
    """The name that a function has in its module, or the type of what is called."""
    return getattr(function, "__qualname__", None) or type(function).__name__


def _record(kind: str, record: Any) -> str:
    """A NamedTuple of functions in one line, without what has its default."""
    fields = [
        f"{name}={qualname(value) if callable(value) else repr(value)}"
        for name, value in record._asdict().items()
        if value is not record._field_defaults.get(name)
    ]
    return f"jaxrnn.{kind}({', '.join(fields)})"


# What a cell's functions are called with where it is run, and what they give.
_CALLS = {
    "initial_state": ("params, batch_shape", "state"),
    "step": ("params, state, x", "state"),
    "output": ("state", "y"),
    "run": ("params, state, xs, active, *, reverse, return_states", "(state, ys)"),
}


def check_cell(name: str, cell: Any) -> None:
    """`cell` is a `Cell` of functions that take what they are called with, and can be a static argument."""
    if not isinstance(cell, Cell):
        raise TypeError(f"{name} must be a jaxrnn.Cell, got {type(cell).__name__}")
    check_int(f"{name}.input_ndim", cell.input_ndim, minimum=0)
    try:
        _check_fields(name, cell)
    except TypeError:
        _check_hashable(name, cell)
        raise


@functools.lru_cache  # of what is a static argument all the same
def _check_fields(name: str, cell: Cell) -> None:
    for field, function in _functions(cell).items():
        check_function(f"{name}.{field}", function, *_CALLS[field])
    if not isinstance(cell.affine, Affine | None):
        raise TypeError(f"{name}.affine must be a jaxrnn.Affine or None, got {type(cell.affine).__name__}")


def _check_hashable(name: str, cell: Cell) -> None:
    """Names the field that is not: the cache of `_check_fields` does not."""
    for field, function in _functions(cell).items():
        check_static(f"{name}.{field}", function, *_CALLS[field])
    for field, value in cell._asdict().items():
        try:
            hash(value)
        except TypeError:
            kind = type(value).__name__
            raise TypeError(f"{name}.{field} must be hashable, got {kind}: a cell is a static argument") from None


def _functions(cell: Cell) -> dict[str, Any]:
    """Those that are called where it is run."""
    return {field: getattr(cell, field) for field in _CALLS if field != "run" or cell.run is not None}


def as_step(step: Any) -> Step:
    """The step function of a cell, or the bare step function itself."""
    if isinstance(step, Cell):
        return step.step
    if not callable(step):
        raise TypeError(
            f"step must be a jaxrnn.Cell or a function (params, state, x) -> state, got {type(step).__name__}"
        )
    return step
