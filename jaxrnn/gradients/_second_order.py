"""Second derivatives along a vector: of the Hessian, and of the part of it that Gauss and Newton keep."""

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._core.cell import Params, State, as_step
from .._core.checks import check_arrays, check_tree_like
from ._algorithms.bptt import Memory, bptt
from ._leaves import at, split
from ._output_loss import OutputLoss
from ._problem import Problem, check_arguments, check_problem, checked_start, starting_state


def hvp(
    problem: Problem,
    params: Params,
    state: State,
    xs: Any,
    ys: Any,
    vector: Params,
    *,
    memory: Memory | None = None,
    snapshots: int | None = None,
) -> Params:
    """The Hessian of L times a vector, forward over reverse: as exact as `bptt`, no matrix is formed.

        H v = d/dε ∇L(θ + ε v) at ε = 0

    About twice the time and memory of `bptt`, in each of its amounts of memory: with "sqrt", O(√T).

    Args:
      problem, params, state, xs, ys, memory, snapshots: see `bptt`.
      vector: v, a pytree like params.

    Returns:
      H v, a pytree like params.

    Raises:
      ValueError: vector is unlike params; as `bptt`.
      TypeError: as `bptt`.

    Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian".

    >>> import jax.numpy as jnp
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(lambda w, h, x: w * h + x, loss=lambda w, h, y: y * h)
    >>> y = jnp.array([0., 0., 1.])                                 # L = w² + w + 1
    >>> float(gradients.hvp(problem, 3., 0., jnp.ones(3), y, 10., memory="sqrt"))
    20.0
    """
    params, vector = _checked(problem, params, state, xs, ys, vector)
    return _hvp(problem, memory, snapshots, params, vector, state, xs, ys)


@functools.partial(jax.jit, static_argnames=("problem", "memory", "snapshots"))
@jax.named_scope("jaxrnn.gradients.hvp")
def _hvp(
    problem: Problem, memory: Any, snapshots: Any, params: Params, vector: Params, state: State, xs: Any, ys: Any
) -> Params:
    """At module level, so that a second call does not trace again."""

    def gradient(params: Params) -> Params:
        return bptt(problem, params, state, xs, ys, memory=memory, snapshots=snapshots).grads

    return jax.jvp(gradient, (params,), (vector,))[1]


def ggn_vector_product(
    problem: Problem,
    params: Params,
    state: State,
    xs: Any,
    ys: Any,
    vector: Params,
    *,
    memory: Memory | None = None,
    snapshots: int | None = None,
) -> Params:
    """The generalised Gauss-Newton matrix of L times a vector: the Hessian without the network's own curvature.

        G = Σ_t (do_t/dθ)ᵀ ∂²l_t/∂o² do_t/dθ

    Positive semidefinite if the loss is convex in o. The output o_t is what `read` of an `OutputLoss` gives; of any
    other loss it is all that the loss sees, the state and the parameters, o_t = (s_t, θ), so that the recurrence alone
    is linearised, and a read-out inside the loss keeps its curvature.

    One pass in which the states go along with their tangents along v, and a pass back: about twice the time and memory
    of `bptt`, in each of its amounts of memory: with "sqrt", O(√T).

    Args:
      problem, params, state, xs, ys, memory, snapshots: see `bptt`.
      vector: v, a pytree like params.

    Returns:
      G v, a pytree like params.

    Raises:
      ValueError: vector is unlike params; as `bptt`.
      TypeError: as `bptt`.

    Sources: Schraudolph 2002, "Fast curvature matrix-vector products for second-order gradient descent"; Martens and
    Sutskever 2011, "Learning recurrent neural networks with Hessian-free optimization".

    >>> import jax.numpy as jnp
    >>> from jaxrnn import gradients
    >>> loss = gradients.OutputLoss(read=lambda w, h: h, loss=lambda output, y: 0.5 * y * output ** 2)
    >>> problem = gradients.Problem(lambda w, h, x: w * h + x, loss)
    >>> y = jnp.array([0., 0., 1.])                                 # h_3 = w² + w + 1, dh_3/dw = 7, squared
    >>> float(gradients.ggn_vector_product(problem, 3., 0., jnp.ones(3), y, 1.))
    49.0
    """
    params, vector = _checked(problem, params, state, xs, ys, vector)
    start = None if state is None else (state, [jnp.zeros_like(a) for a in split(state)[0]])
    return bptt(_linearised(problem), (params, vector), start, xs, ys, memory=memory, snapshots=snapshots).grads[0]


def _checked(problem: Problem, params: Params, state: State, xs: Any, ys: Any, vector: Params) -> tuple[Params, Params]:
    """The parameters and the vector, as arrays that are alike."""
    check_problem(problem)
    check_arguments(params, state, xs, ys)
    checked_start(problem, params, state, at(xs, 0))
    check_arrays("vector", vector)
    params, vector = jax.tree.map(jnp.asarray, (params, vector))
    check_tree_like("vector", vector, params, "as params")
    return params, vector


@functools.lru_cache
def _linearised(problem: Problem) -> Problem:
    """A problem of (params, vector) whose gradient with respect to params is the product: its loss is linear in o."""
    start = None if problem.initial_state is None else functools.partial(_initial_state, problem)
    return Problem(functools.partial(_step, problem), functools.partial(_loss, problem), initial_state=start)


def _initial_state(problem: Problem, both: tuple[Params, Params]) -> tuple[State, list[Array]]:
    """A learnt s_0, and its tangent along the vector."""

    def reals_of(params: Params) -> tuple[list[Array], State]:
        state = starting_state(problem, params, None)
        return split(state)[0], state

    _, pushed, state = jax.jvp(reals_of, both[:1], both[1:], has_aux=True)
    return state, lax.stop_gradient(pushed)


def _step(problem: Problem, both: tuple[Params, Params], carried: tuple[State, list[Array]], x: Any) -> Any:
    """The next state, and its tangent along the vector, a constant on the way back."""
    (params, vector), (state, tangents) = both, carried
    reals, with_reals = split(state)

    def reals_of(params: Params, reals: list[Array]) -> tuple[list[Array], State]:
        new_state = as_step(problem.step)(problem.select(params), with_reals(reals), x)
        return split(new_state)[0], new_state

    _, pushed, new_state = jax.jvp(reals_of, (params, reals), (vector, tangents), has_aux=True)
    return new_state, lax.stop_gradient(pushed)


def _loss(problem: Problem, both: tuple[Params, Params], carried: tuple[State, list[Array]], y: Any) -> Array:
    """⟨∂²l/∂o² ȯ, o⟩, of which only o is differentiated."""
    (params, vector), (state, tangents) = both, carried
    reals, with_reals = split(state)

    def output(params: Params, reals: list[Array]) -> Any:
        if isinstance(problem.loss, OutputLoss):
            return problem.loss.read(params, with_reals(reals))
        return params, reals

    def of_output(output: Any) -> Array:
        if isinstance(problem.loss, OutputLoss):
            return problem.loss.loss(output, y)
        params, reals = output
        return problem.loss(params, with_reals(reals), y)

    seen, along = jax.jvp(output, (params, reals), (vector, tangents))
    curved = lax.stop_gradient(jax.jvp(jax.grad(of_output), (seen,), (along,))[1])
    return jax.tree.reduce(operator.add, jax.tree.map(jnp.vdot, curved, seen))
