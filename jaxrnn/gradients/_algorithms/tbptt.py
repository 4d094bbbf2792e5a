"""Truncated back-propagation through time, on a ring of the last steps."""

import functools
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from ..._core.cell import Params, State
from ..._core.checks import check_int
from ..._core.numerics import narrowed
from .._batch import learner_of_batch
from .._learner import Gradient, Learner, checked_init, checked_update, sequence_gradient
from .._leaves import split
from .._local import local_step, loss_gradient, with_recurrent
from .._problem import Problem, check_arguments, check_problem
from .._slots import Slots
from .._sums import add_up, zero_sums


def tbptt(problem: Problem, params: Params, state: State, xs: Any, ys: Any, *, k1: int, k2: int) -> Gradient:
    """Truncated back-propagation through time: at times k1, 2 k1, … and T, the losses since, k2 steps back.

        λ_t = ∂l_t/∂s_t [t is since the last such time] + λ_{t+1} ∂s_{t+1}/∂s_t, from τ back to τ - k2 + 1; 0 before

    The value is that of the full loss, each term counted once. k2 >= T is exact. Biased otherwise: what lies further
    back than k2 has no part in it. Time O(T k2/k1), memory O(k2).

    Args:
      problem, params, state, xs, ys: see `bptt`.
      k1: how many steps apart losses are propagated.
      k2: how many steps back they are, k1 <= k2.

    Returns:
      `Gradient`: L, the approximate gradient and the last state.

    Raises:
      ValueError: k1 < 1 or k1 > k2; as `bptt`.
      TypeError: k1 or k2 is no int; as `bptt`.

    Source: Williams and Peng 1990, "An efficient gradient-based algorithm for on-line training of recurrent network
    trajectories", there BPTT(h; h') with h = k2, h' = k1.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(lambda w, h, x: w * h + x, loss=lambda w, h, y: y * h)
    >>> y = jnp.array([0., 0., 1.])                                 # L = h_3 = w² + w + 1, dL/dw = h_2 + w h_1
    >>> value, gradient, state = gradients.tbptt(problem, 3., 0., jnp.ones(3), y, k1=1, k2=1)
    >>> float(value), float(gradient)                               # h_2 alone
    (13.0, 4.0)
    """
    _check_truncation(k1, k2)
    steps = check_arguments(params, state, xs, ys)
    learner = tbptt_learner(problem, k1=min(k1, steps), k2=min(k2, steps))
    return sequence_gradient(learner, params, state, xs, ys)


def tbptt_learner(problem: Problem, *, k1: int, k2: int) -> Learner:
    """Truncated back-propagation through time on a ring of the last k2 steps, see `jaxrnn.gradients.tbptt`.

    Every k1 steps the gradient of the losses since comes out at once; in between, only that of what the loss alone
    sees; `learner.rest(params, carry)` is what is still to come at the end of a stream. When the parameters change, a
    step back in time is differentiated at the state that it had then and at the present parameters; its loss's
    derivative is the one from then.

    Args:
      problem: step, loss and select.
      k1: how many steps apart losses are propagated.
      k2: how many steps back they are.

    Raises:
      ValueError: k1 < 1 or k1 > k2.
      TypeError: problem is no Problem, k1 or k2 is no int.
    """
    check_problem(problem)
    _check_truncation(k1, k2)
    return _learner(problem, k1, k2)


@functools.lru_cache
def _learner(problem: Problem, k1: int, k2: int) -> Learner:
    return Learner(
        functools.partial(checked_init, problem, functools.partial(_init, k2)),
        functools.partial(checked_update, functools.partial(_update, problem, k1, k2), TBPTTCarry),
        functools.partial(_rest, problem),
        functools.partial(learner_of_batch, functools.partial(_learner, k1=k1, k2=k2), problem),
    )


_Cotangents: TypeAlias = tuple[list[Array], list[Array], list[Array]]  # of a state, of s_0, and the sums of weights


class TBPTTCarry(NamedTuple):
    """What truncated BPTT remembers of the last k2 steps: a ring."""

    state: State
    slot: Array  # the entry that the next step goes into
    filled: Array  # entries in use, k2 + 1 when the first step is no longer among them
    since: Array  # steps since the last propagation
    states: Slots  # k2, before each step
    xs: Slots
    cotangents: Slots  # ∂l/∂s after each step


def _check_truncation(k1: Any, k2: Any) -> None:
    """1 <= k1 <= k2."""
    check_int("k1", k1)
    check_int("k2", k2)
    if k1 > k2:
        raise ValueError(f"k1 must be at most k2, or the loss of some steps would reach no parameter, got {k1} > {k2}")


def _init(k2: int, params: Params, state: State, x: Any, key: Array | None = None) -> TBPTTCarry:
    """An empty ring."""
    del params, key
    zero = jnp.zeros((), jnp.int32)
    return TBPTTCarry(state, zero, zero, zero, *(Slots.filled(a, k2) for a in (state, x, split(state)[0])))


@jax.named_scope("jaxrnn.gradients.tbptt")
def _update(
    problem: Problem, k1: int, k2: int, params: Params, carry: TBPTTCarry, x: Any, y: Any
) -> tuple[TBPTTCarry, Array, Params]:
    """One step; after each k1 of them the losses since are propagated."""
    function, weights, reals = local_step(problem, params, carry.state, x)
    _, new_state = function(weights, reals)
    value, direct, cotangent = loss_gradient(problem, params, new_state, y)

    is_time = carry.since + 1 == k1
    carry = TBPTTCarry(
        new_state,
        (carry.slot + 1) % k2,
        jnp.minimum(carry.filled + 1, k2 + 1),
        jnp.where(is_time, 0, carry.since + 1),
        carry.states.put(carry.slot, carry.state),
        carry.xs.put(carry.slot, x),
        carry.cotangents.put(carry.slot, cotangent),
    )
    recurrent = lax.cond(
        is_time,
        lambda: _propagate(problem, params, carry, k1),
        lambda: jax.tree.map(jnp.zeros_like, (weights, reals)),
    )
    return carry, value, with_recurrent(problem, params, direct, *recurrent)


def _rest(problem: Problem, params: Params, carry: TBPTTCarry) -> Params:
    """The gradient of the losses since the last propagation."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    return with_recurrent(problem, params, zeros, *_propagate(problem, params, carry, carry.since))


def _propagate(
    problem: Problem, params: Params, carry: TBPTTCarry, since: ArrayLike
) -> tuple[list[Array], list[Array]]:
    """Σ λ_t ∂s_t/∂θ over the ring, from the newest step to the oldest, of the losses of the last `since` steps.

    And λ_0, 0 where the first step is no longer in the ring.
    """
    k2 = len(carry.states)

    def back(inner: _Cotangents, age: Array) -> tuple[_Cotangents, None]:
        cotangent, initial, sums = inner
        state, x, direct = (ring[(carry.slot - 1 - age) % k2] for ring in (carry.states, carry.xs, carry.cotangents))
        cotangent = [jnp.where(age < since, a + b, a) for a, b in zip(cotangent, direct, strict=True)]
        # What is left of the ring before it has filled up holds the first state: nothing may come back from there.
        cotangent = [jnp.where(age < carry.filled, a, jnp.zeros_like(a)) for a in cotangent]
        function, weights, reals = local_step(problem, params, state, x)
        _, pull, _ = jax.vjp(function, weights, reals, has_aux=True)
        more, cotangent = pull(cotangent)
        is_first = (age == carry.filled - 1) & (carry.filled <= k2)
        initial = [jnp.where(is_first, a, b) for a, b in zip(cotangent, initial, strict=True)]
        return (cotangent, initial, add_up(sums, more)), None

    weights = split(problem.select(params))[0]
    zeros = jax.tree.map(jnp.zeros_like, split(carry.state)[0])
    (_, initial, sums), _ = lax.scan(back, (zeros, zeros, zero_sums(weights)), jnp.arange(k2, dtype=jnp.int32))
    return narrowed(sums, weights), initial
