"""The interface that every cell implements, and nothing else."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from jax import Array

Params: TypeAlias = Any  # a pytree of arrays
State: TypeAlias = Any  # a pytree of arrays
Step: TypeAlias = Callable[[Params, State, Array], State]


class Cell(NamedTuple):
    """A recurrent cell: pure functions from parameters, state and input to the next state.

        s_t = step(params, s_{t-1}, x_t)        y_t = output(s_t)

    A cell holds functions only, so it is hashable: close over it, or mark it static under `jax.jit`. Build it
    once, at module level: a cell made anew for each call is another static argument, and retraces.

    Fields:
      init: `(key, input_size, hidden_size, *, ...) -> params`, any pytree of arrays.
      initial_state: `(params, batch_shape=()) -> state`, any pytree of arrays; batch axes come first.
      step: `(params, state, x) -> state`, x (*batch, I). The new state has the old one's shapes and dtypes.
      output: `(state) -> y`, (*batch, R).
      project, gates: optional, the parts of a step whose only recurrent matmul is `weight_hh`:
        `z = project(params, x)` does not see the state, `r = output(state) @ weight_hh.T + bias_hh`, and
        `gates(params, z, r, state) -> state` is elementwise over hidden units (except for an LSTM's
        projection, which it applies last). `step` must be their composition. `jr.affine_cell` makes such
        a cell from `gates` alone.

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
    """

    init: Callable[..., Params]
    initial_state: Callable[..., State]
    step: Step
    output: Callable[[State], Array]
    project: Callable[[Params, Array], Array] | None = None
    gates: Callable[[Params, Array, Array, State], State] | None = None


def check_cell(name: str, cell: Any) -> None:
    """`cell` is a `Cell`."""
    if not isinstance(cell, Cell):
        raise TypeError(f"{name} must be a jaxrnn.Cell, got {type(cell).__name__}")


def as_step(step: Any) -> Step:
    """The step function of a cell, or the bare step function itself."""
    if isinstance(step, Cell):
        return step.step
    if not callable(step):
        raise TypeError(
            f"step must be a jaxrnn.Cell or a function (params, state, x) -> state, got {type(step).__name__}"
        )
    return step
