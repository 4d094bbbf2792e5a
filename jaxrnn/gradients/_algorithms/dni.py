"""Decoupled neural interfaces: truncated back-propagation that goes on from a learnt guess of what is to come."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..._core.cell import Params, State
from ..._core.checks import check_arrays, check_int, check_static, describe, shown
from ..._core.numerics import narrowed
from .._batch import learner_of_batch
from .._learner import Gradient, Learner, checked_init, checked_update, run_learner, sequence_gradient
from .._leaves import at, ravel, split, unravel
from .._local import local_step, loss_gradient, with_recurrent
from .._problem import Problem, check_arguments, check_problem
from .._slots import Slots
from .._sums import add_up, zero_sums
from .held import Held

Synthesizer = tuple[Callable[[Any, Array], Array], Any]


class Optimizer(Protocol):
    """What trains the synthesizer, as any of Optax."""

    def init(self, params: Any) -> Any:
        """Its state."""
        ...

    def update(self, updates: Any, state: Any, params: Any) -> tuple[Any, Any]:
        """What is added to the parameters, and its next state."""
        ...


class _Descent(NamedTuple):
    """Gradient descent, on the default synthesizer the normalised least mean squares of Widrow and Hoff."""

    rate: float

    def init(self, params: Any) -> None:
        del params

    def update(self, updates: Any, state: None, params: Any) -> tuple[Any, None]:
        del params
        return jax.tree.map(lambda a: -self.rate * a, updates), state


def dni(
    problem: Problem,
    params: Params,
    state: State,
    xs: Any,
    ys: Any,
    *,
    k: int = 1,
    synthesizer: Synthesizer | None = None,
    optimizer: Optimizer | None = None,
    warm: int = 0,
) -> Gradient:
    """Decoupled neural interfaces: segments of k steps, each propagated with a learnt guess of its future's gradient.

        λ_t = ∂l_t/∂s_t + λ_{t+1} ∂s_{t+1}/∂s_t within a segment, and in place of what follows its last state, ĝ(s; φ)

        φ is trained to ĝ(s₀; φ) = λ₁ ∂s₁/∂s₀ for the state s₀ before the segment, by |ĝ - target|²/(1 + |s₀|²)

    The guess is bootstrapped: its target holds the guess of the segment's end. A guess of 0 is `tbptt(k1=k, k2=k)`
    where k divides T, a right one exact. After the last step there is no future, and none is guessed. Any step will do,
    with affine parts or without. Time is that of `tbptt(k1=k, k2=k)` and three applications of the synthesizer a
    segment, memory O(k n) and the synthesizer.

    Args:
      problem, params, state, xs, ys: see `bptt`.
      k: how many steps a segment has.
      synthesizer: (apply, φ): `apply(φ, s) -> ĝ`, of the state's floating-point leaves as one vector (n,), and another
        (n,); static, so no new lambda for each call. Default: W s + b from zeros.
      optimizer: trains φ; `init` and `update` as Optax's. Default: gradient descent at rate 0.1.
      warm: for how many passes over the sequence φ is trained before that which counts, as in `compare`. In a training,
        the learner's `carry.synthesizer` is what is kept.

    Returns:
      `Gradient`: L, the approximate gradient and the last state.

    Raises:
      ValueError: k < 1, warm < 0, a synthesizer that gives another shape; as `bptt`.
      TypeError: k or warm is no int, synthesizer is no such pair; as `bptt`.

    Source: Jaderberg et al. 2016, arXiv:1608.05343, section 3.1.

    >>> import jax
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(lambda w, h, x: w * h + x, loss=lambda w, h, y: 0.5 * h ** 2)
    >>> args = 0.5, 1., jax.random.normal(jax.random.key(0), 400), None
    >>> exact, cold, warm = (
    ...     float(g.grads) for g in
    ...     (gradients.bptt(problem, *args), gradients.dni(problem, *args), gradients.dni(problem, *args, warm=20)))
    >>> abs(warm - exact) < 0.5 * abs(cold - exact)
    True
    """
    check_problem(problem)
    steps = check_arguments(params, state, xs, ys)
    check_int("warm", warm, minimum=0)
    check_int("k", k)
    learner = dni_learner(problem, k=min(k, steps), synthesizer=synthesizer, optimizer=optimizer)
    if not warm:
        return sequence_gradient(learner, params, state, xs, ys)
    return _warm(learner, warm, params, state, xs, ys)


def dni_learner(
    problem: Problem, *, k: int = 1, synthesizer: Synthesizer | None = None, optimizer: Optimizer | None = None
) -> Learner:
    """Decoupled neural interfaces, see `jaxrnn.gradients.dni`.

    A segment's gradient comes out at the step after its last, when it is known that the stream goes on;
    `learner.rest(params, carry)` is that of the last one. `carry.synthesizer` is φ, for a batch of streams one for all.
    When the parameters change, a step back in time is differentiated at the state that it had then and at the present
    parameters.

    Args:
      problem: step, loss and select.
      k: how many steps a segment has.
      synthesizer: (apply, φ); the same objects again give the same learner.
      optimizer: trains φ.

    Raises:
      ValueError: k < 1; from `init`, a synthesizer that gives another shape.
      TypeError: problem is no Problem, k is no int, synthesizer is no such pair.
    """
    check_problem(problem)
    check_int("k", k)
    if synthesizer is None:
        apply, start = _linear, None
    else:
        if not isinstance(synthesizer, tuple) or len(synthesizer) != 2:
            raise TypeError(f"synthesizer must be a pair (apply, params), got {shown(synthesizer)}")
        apply, start = synthesizer
        check_static("synthesizer[0]", apply, "params, state", "array")
        check_arrays("synthesizer[1]", start)
    if optimizer is not None and not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise TypeError(f"optimizer must have init and update, as those of Optax, got {type(optimizer).__name__}")
    return _learner(
        problem, _Guess(apply, _Descent(0.1) if optimizer is None else optimizer, is_batch=False), k, Held(start)
    )


class _Guess(NamedTuple):
    """How the future's gradient is guessed, and the guess trained."""

    apply: Callable[[Any, Array], Array]
    optimizer: Optimizer
    is_batch: bool  # the state's leaves have a batch axis first

    def vectors(self, reals: list[Array]) -> Array:
        """(B, n), with B = 1 of a single stream."""
        return jax.vmap(ravel)(reals if self.is_batch else [a[None] for a in reals])

    def of(self, synthesizer: Any, reals: list[Array]) -> list[Array]:
        """ĝ, like the reals of the state."""
        found = jax.vmap(functools.partial(self.apply, synthesizer))(self.vectors(reals))
        if not self.is_batch:
            return unravel(found[0], reals)
        return jax.vmap(lambda row: unravel(row, [a[0] for a in reals]))(found)

    def trained(self, carry: "DNICarry", reals: list[Array], target: list[Array]) -> "DNICarry":
        """One step of φ towards the target at these."""
        vectors, targets = self.vectors(reals), self.vectors(target)

        def error(synthesizer: Any) -> Array:
            away = jax.vmap(functools.partial(self.apply, synthesizer))(vectors) - targets
            return jnp.mean(jnp.sum(away**2, axis=1) / (1 + jnp.sum(vectors**2, axis=1))) / 2

        gradient = jax.grad(error)(carry.synthesizer)
        updates, state = self.optimizer.update(gradient, carry.optimizer, carry.synthesizer)
        synthesizer = jax.tree.map(lambda a, more: a + more.astype(a.dtype), carry.synthesizer, updates)
        return carry._replace(synthesizer=synthesizer, optimizer=state)


class DNICarry(NamedTuple):
    """The present segment, and the synthesizer."""

    state: State
    filled: Array  # steps of the segment so far
    is_first: Array  # whether it is the first one
    states: Slots  # k, before each step
    xs: Slots
    cotangents: Slots  # ∂l/∂s after each step
    synthesizer: Any
    optimizer: Any


@functools.lru_cache
def _learner(problem: Problem, guess: _Guess, k: int, start: Held) -> Learner:
    make = functools.partial(_learner, guess=guess._replace(is_batch=True), k=k, start=start)
    of_batch = functools.partial(learner_of_batch, make, problem)
    return Learner(
        functools.partial(checked_init, problem, functools.partial(_init, guess, k, start)),
        functools.partial(checked_update, functools.partial(_update, problem, guess), DNICarry),
        functools.partial(_rest, problem),
        of_batch,
    )


def _linear(synthesizer: dict[str, Array], vector: Array) -> Array:
    return synthesizer["weight"] @ vector + synthesizer["bias"]


def _init(
    guess: _Guess, k: int, start: Held, params: Params, state: State, x: Any, key: Array | None = None
) -> DNICarry:
    """An empty segment."""
    del params, key
    reals = split(state)[0]
    vector = guess.vectors(reals)[0]
    synthesizer = start.value
    if synthesizer is None:
        synthesizer = {"weight": jnp.zeros((vector.size, vector.size), vector.dtype), "bias": jnp.zeros_like(vector)}
    synthesizer = jax.tree.map(jnp.asarray, synthesizer)
    found = jax.eval_shape(guess.apply, synthesizer, vector)
    if getattr(found, "shape", None) != vector.shape:
        raise ValueError(f"synthesizer gives {describe(found)}, expected {describe(vector)}, as the state's numbers")
    states, xs, cotangents = (Slots.filled(a, k) for a in (state, x, reals))
    optimizer = guess.optimizer.init(synthesizer)
    filled, is_first = jnp.zeros((), jnp.int32), jnp.ones((), bool)
    return DNICarry(state, filled, is_first, states, xs, cotangents, synthesizer, optimizer)


@jax.named_scope("jaxrnn.gradients.dni")
def _update(
    problem: Problem, guess: _Guess, params: Params, carry: DNICarry, x: Any, y: Any
) -> tuple[DNICarry, Array, Params]:
    """The segment before is propagated if it is full; then one step."""
    carry, recurrent = lax.cond(
        carry.filled == len(carry.states),
        lambda: _closed(problem, guess, params, carry),
        lambda: (carry, jax.tree.map(jnp.zeros_like, (split(problem.select(params))[0], split(carry.state)[0]))),
    )
    function, weights, reals = local_step(problem, params, carry.state, x)
    _, new_state = function(weights, reals)
    value, direct, cotangent = loss_gradient(problem, params, new_state, y)

    carry = carry._replace(
        state=new_state,
        filled=carry.filled + 1,
        states=carry.states.put(carry.filled, carry.state),
        xs=carry.xs.put(carry.filled, x),
        cotangents=carry.cotangents.put(carry.filled, cotangent),
    )
    return carry, value, with_recurrent(problem, params, direct, *recurrent)


def _closed(
    problem: Problem, guess: _Guess, params: Params, carry: DNICarry
) -> tuple[DNICarry, tuple[list[Array], list[Array]]]:
    """The next segment begins: the gradient of the last one, λ_0 if it was the first, and the synthesizer trained."""
    future = guess.of(carry.synthesizer, split(carry.state)[0])
    target, gradient = _propagate(problem, params, carry, future)
    carry = guess.trained(carry, split(carry.states[jnp.zeros((), jnp.int32)])[0], target)
    initial = [jnp.where(carry.is_first, a, jnp.zeros_like(a)) for a in target]
    new_segment = carry._replace(filled=jnp.zeros_like(carry.filled), is_first=jnp.zeros_like(carry.is_first))
    return new_segment, (gradient, initial)


def _rest(problem: Problem, params: Params, carry: DNICarry) -> Params:
    """The gradient of the last segment, after which nothing comes."""
    nothing = jax.tree.map(jnp.zeros_like, split(carry.state)[0])
    target, gradient = _propagate(problem, params, carry, nothing)
    initial = [jnp.where(carry.is_first, a, jnp.zeros_like(a)) for a in target]
    return with_recurrent(problem, params, jax.tree.map(jnp.zeros_like, params), gradient, initial)


def _propagate(
    problem: Problem, params: Params, carry: DNICarry, future: list[Array]
) -> tuple[list[Array], list[Array]]:
    """λ before the segment, and Σ λ_t ∂s_t/∂θ over it."""

    def back(inner: tuple[list[Array], list[Array]], slot: Array) -> tuple[tuple[list[Array], list[Array]], None]:
        cotangent, sums = inner
        state, x, direct = carry.states[slot], carry.xs[slot], carry.cotangents[slot]
        function, weights, reals = local_step(problem, params, state, x)
        _, pull, _ = jax.vjp(function, weights, reals, has_aux=True)
        more, before = pull(jax.tree.map(jnp.add, cotangent, direct))
        used = functools.partial(jnp.where, slot < carry.filled)
        more = [used(a, jnp.zeros_like(a)) for a in more]
        return (jax.tree.map(used, before, cotangent), add_up(sums, more)), None

    weights = split(problem.select(params))[0]
    slots = jnp.arange(len(carry.states), dtype=jnp.int32)
    (cotangent, sums), _ = lax.scan(back, (future, zero_sums(weights)), slots, reverse=True)
    return cotangent, narrowed(sums, weights)


@functools.partial(jax.jit, static_argnames=("learner", "passes"))
def _warm(learner: Learner, passes: int, params: Params, state: State, xs: Any, ys: Any) -> Gradient:
    """The gradient by a synthesizer that has been over the sequence before."""
    start = learner.init(params, state, at(xs, 0))

    def again(carry: DNICarry, _: None) -> tuple[DNICarry, None]:
        end = run_learner(learner, params, carry, xs, ys)[0]
        return start._replace(synthesizer=end.synthesizer, optimizer=end.optimizer), None

    carry, _ = lax.scan(again, start, None, length=passes)
    end, value, sums = run_learner(learner, params, carry, xs, ys)
    assert learner.rest is not None
    return Gradient(value, narrowed(add_up(sums, learner.rest(params, end)), params), end.state)
