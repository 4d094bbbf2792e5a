"""Back-propagation through time: exact, with memory for every step, for √T of them, or for a number of snapshots."""

import functools
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..._core.cell import Cell, Params, State, as_step
from ..._core.checks import check_choice, check_int
from ..._core.numerics import has_few_bits, narrowed
from ..._core.time import square_root
from ..._scan.loops import run_segments, scan
from ..._scan.unroll import unroll
from .._learner import Gradient
from .._leaves import at, split, steps_of
from .._local import with_recurrent
from .._problem import (
    Problem,
    check_arguments,
    check_problem,
    checked_loss,
    checked_start,
    starting_state,
)
from .._slots import Slots
from .._sums import add_up, zero_sums
from .revolve import default_snapshots, schedule

Memory: TypeAlias = Literal["full", "sqrt", "revolve"]


def bptt(
    problem: Problem,
    params: Params,
    state: State,
    xs: Any,
    ys: Any,
    *,
    memory: Memory | None = None,
    snapshots: int | None = None,
) -> Gradient:
    """Back-propagation through time, the exact gradient.

        dL/dθ = Σ_t ∂l_t/∂θ + λ_t ∂s_t/∂θ        λ_t = ∂l_t/∂s_t + λ_{t+1} ∂s_{t+1}/∂s_t        λ_{T+1} = 0

    Args:
      problem: step, loss and select, see `Problem`.
      params: with respect to which L is differentiated.
      state: s_0, a constant; None if the problem has an initial state of its own, which is learnt.
      xs: (T, ...) per leaf, inputs of one sequence.
      ys: (T, ...) per leaf, what the loss sees beside the state; None if it sees nothing.
      memory: "full", the default, keeps all T steps. "sqrt" keeps √T states and runs every step once more, √T at a
        time. "revolve" keeps log₂T + 1 states, and a plan of about 35 bytes a step. All three take the same derivative.
      snapshots: keep this many states, the initial one included, and run as few steps again as that allows ("revolve"):
        r T - C(S + r, r - 1) of them, for the least r with C(S + r, r) >= T. T=1000: S=5 6.3 more forward passes, S=10
        3.6, S=43 2.0. The schedule is data for one scan, so compiling takes as long for any T.

    With "revolve" the result can be differentiated again in forward mode only (`jax.jvp`, forward over reverse): JAX
    cannot reverse its while loop. "full" and "sqrt" have both modes.

    Returns:
      `Gradient`: L, its gradient, a pytree like params, and the last state.

    Raises:
      ValueError: the loss is not one number, the state changes shape, structure or dtype, xs and ys differ in T,
        unknown memory, snapshots < 1, or given beside memory="full" or "sqrt".
      TypeError: problem is no Problem, params are not floating-point.

    Sources: Rumelhart et al. 1986; Griewank and Walther 2000 (revolve); Gruslys et al. 2016, arXiv:1606.03401.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import gradients
    >>> def step(w, h, x):
    ...     return w * h + x
    >>> problem = gradients.Problem(step, loss=lambda w, h, y: y * h)
    >>> y = jnp.array([0., 0., 1.])                                 # L = h_3 = w² + w + 1
    >>> value, gradient, state = gradients.bptt(problem, 3., 0., jnp.ones(3), y, snapshots=2)
    >>> float(value), float(gradient)
    (13.0, 7.0)
    """
    check_problem(problem)
    steps = check_arguments(params, state, xs, ys)
    return _bptt(problem, _kept_states(memory, snapshots, steps), params, state, xs, ys)


def _kept_states(memory: Any, snapshots: Any, steps: int) -> Memory | int:
    """`memory`, with the number of snapshots in place of "revolve"."""
    if memory is not None:
        check_choice("memory", memory, ("full", "sqrt", "revolve"))
    if snapshots is None:
        return default_snapshots(steps) if memory == "revolve" else memory or "full"
    check_int("snapshots", snapshots)
    if memory not in (None, "revolve"):
        raise ValueError(f'snapshots are for memory="revolve", got memory={memory!r}')
    return min(int(snapshots), steps)


@functools.partial(jax.jit, static_argnames=("problem", "memory"))
@jax.named_scope("jaxrnn.gradients.bptt")
def _bptt(problem: Problem, memory: Memory | int, params: Params, state: State, xs: Any, ys: Any) -> Gradient:
    """At module level, so that an eager call traces once."""
    start = checked_start(problem, params, state, at(xs, 0))
    if isinstance(memory, int):
        return _revolve(problem, memory, params, start, xs, ys)
    total = functools.partial(total_loss, problem, state=state, xs=xs, ys=ys, sqrt=memory == "sqrt")
    (value, final), grads = jax.value_and_grad(total, has_aux=True)(params)
    return Gradient(value, grads, final)


def total_loss(
    problem: Problem, params: Params, state: State, xs: Any, ys: Any, *, sqrt: bool = False
) -> tuple[Array, State]:
    """L, to be differentiated by JAX, and the last state."""
    state, run = starting_state(problem, params, state), functools.partial(_losses, problem)
    if sqrt:
        final, losses = run_segments(run, params, state, (xs, ys), square_root(steps_of(xs, ys)), reverse=False)
    else:
        final, losses = run(params, state, (xs, ys))
    return jnp.sum(losses), final


def _losses(problem: Problem, params: Params, state: State, inputs: tuple[Any, Any]) -> tuple[State, Array]:
    """The final state, and the loss at each time."""
    xs, ys = inputs
    selected = problem.select(params)
    if isinstance(problem.step, Cell) and _runs_whole(problem.step, xs):
        final, states = unroll(problem.step, selected, xs, state, return_states=True)
        return final, _losses_at(problem, params, states, ys)

    def step(both: tuple[Params, Params], state: State, inputs: tuple[Any, Any]) -> tuple[State, Array]:
        (params, selected), (x, y) = both, inputs
        new_state = as_step(problem.step)(selected, state, x)
        return new_state, checked_loss(problem, params, new_state, y)

    return scan(step, (params, selected), state, inputs)


def _losses_at(problem: Problem, params: Params, states: State, ys: Any) -> Array:
    """The loss at each of these states: all at once, unless their sum over time would be one in few bits."""
    if not has_few_bits(params):
        return jax.vmap(functools.partial(checked_loss, problem, params))(states, ys)

    def loss(params: Params, _: None, inputs: tuple[State, Any]) -> tuple[None, Array]:
        return None, checked_loss(problem, params, *inputs)

    return scan(loss, params, None, (states, ys))[1]


def _runs_whole(cell: Cell, xs: Any) -> bool:
    """Whether the cell has a way of its own to run a sequence, over xs (T, *input)."""
    return cell.run is not None and isinstance(xs, Array) and xs.ndim == 1 + cell.input_ndim


def _revolve(problem: Problem, snapshots: int, params: Params, state: State, xs: Any, ys: Any) -> Gradient:
    """Snapshots in slots, the next one to the present step loaded and run forward to it; then one step backward."""
    steps = steps_of(xs, ys)
    plan = schedule(steps, snapshots)
    selected, stores = problem.select(params), jnp.asarray(plan.stores)
    weights, with_weights = split(selected)

    def forward(index: Array, carry: tuple[Slots, State, Array]) -> tuple[Slots, State, Array]:
        slots, state, time = carry
        return slots.put(stores[index], state), as_step(problem.step)(selected, state, at(xs, time)), time + 1

    def backward(
        carry: tuple[Slots, State, list[Array], tuple], row: tuple[Array, ...]
    ) -> tuple[tuple[Slots, State, list[Array], tuple], None]:
        slots, final, cotangent, sums = carry
        load, position, begin, end = row
        slots, state, time = lax.fori_loop(begin, end, forward, (slots, slots[load], position))
        reals, with_reals = split(state)

        def step_and_loss(
            params: Params, weights: list[Array], reals: list[Array]
        ) -> tuple[tuple[list[Array], Array], State]:
            new_state = as_step(problem.step)(with_weights(weights), with_reals(reals), at(xs, time))
            return (split(new_state)[0], checked_loss(problem, params, new_state, at(ys, time))), new_state

        (_, value), pull, new_state = jax.vjp(step_and_loss, params, weights, reals, has_aux=True)
        final = jax.tree.map(functools.partial(jnp.where, time == steps - 1), new_state, final)
        direct, recurrent, cotangent = pull((cotangent, jnp.ones_like(value)))
        return (slots, final, cotangent, add_up(sums, (value, direct, recurrent))), None

    value = jax.eval_shape(functools.partial(checked_loss, problem), params, state, at(ys, 0))
    cotangent = jax.tree.map(jnp.zeros_like, split(state)[0])
    start = (Slots.filled(state, snapshots), state, cotangent, zero_sums((jnp.zeros_like(value), params, weights)))
    rows = tuple(jnp.asarray(column) for column in (plan.load, plan.position, plan.begin, plan.end))
    (_, final, initial, sums), _ = lax.scan(backward, start, rows)
    total, direct, recurrent = narrowed(sums, (value, params, weights))
    return Gradient(total, with_recurrent(problem, params, direct, recurrent, initial), final)
