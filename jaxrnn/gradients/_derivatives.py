"""The derivatives at one time, for algorithms of one's own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array

from .._core.cell import Params, State
from .._core.checks import check_arrays
from ._leaves import split
from ._local import loss_gradient, push_of
from ._problem import Problem, check_differentiable, check_parts, check_problem, checked_step


def reals(state: State) -> list[Array]:
    """The real arrays of a state that are differentiated, which tangents and cotangents of states are lists like.

    A real leaf is one of them, a complex one two, its real and its imaginary part; integers, bools and keys are none.

    Raises:
      TypeError: a leaf of state is no array.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import gradients
    >>> [a.shape for a in gradients.reals({"h": jnp.zeros(3), "time": 0, "z": jnp.zeros(2, complex)})]
    [(3,), (2,), (2,)]
    """
    check_arrays("state", state)
    return split(state)[0]


class StepDerivatives(NamedTuple):
    """A step, linearised at its arguments.

    Fields:
      state: s_t.
      push: `(dθ, ds) -> ∂s_t/∂θ dθ + ∂s_t/∂s_{t-1} ds`, of a pytree like params and a list like `reals(state)`.
      pull: `λ -> (λ ∂s_t/∂θ, λ ∂s_t/∂s_{t-1})`, of a list like `reals(state)`.
    """

    state: State
    push: Callable[[Params, list[Array]], list[Array]]
    pull: Callable[[list[Array]], tuple[Params, list[Array]]]


def step_derivatives(problem: Problem, params: Params, state: State, x: Any) -> StepDerivatives:
    """The step at one time, and its products with tangents and cotangents, without forming a Jacobian.

        s_t = step(select(θ), s_{t-1}, x_t)

    Both products are of the reverse derivative, `push` its transpose, so that a step with a `custom_vjp` has both.

    Args:
      problem: step, loss and select.
      params: θ.
      state: s_{t-1}.
      x: the input at this time.

    Returns:
      `StepDerivatives`: the next state, `push` and `pull`.

    Raises:
      ValueError: the state that the step returns is not like the one it was given.
      TypeError: problem is no Problem, params, state or x have a leaf that is no array.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(lambda w, h, x: w * h + x, loss=lambda w, h, y: y * h)
    >>> local = gradients.step_derivatives(problem, 3., 2., 1.)
    >>> grads, (cotangent,) = local.pull([1.])
    >>> float(local.state), float(local.push(1., [10.])[0]), float(grads), float(cotangent)
    (7.0, 32.0, 2.0, 3.0)
    """
    check_problem(problem)
    check_parts(problem, params, state, x)
    inputs, rebuild = split(state)

    def function(params: Params, inputs: list[Array]) -> tuple[list[Array], State]:
        new_state = checked_step(problem, params, rebuild(inputs), x)
        return split(new_state)[0], new_state

    _, pull, new_state = jax.vjp(function, params, inputs, has_aux=True)
    push = push_of(pull, inputs)
    return StepDerivatives(new_state, lambda params, state: push((params, state)), pull)


class LossDerivatives(NamedTuple):
    """The loss at one time, with its gradient.

    Fields:
      value: l_t.
      grads: ∂l_t/∂θ at fixed s_t, like params.
      cotangent: ∂l_t/∂s_t, a list like `reals(state)`.
    """

    value: Array
    grads: Params
    cotangent: list[Array]


def loss_derivatives(problem: Problem, params: Params, state: State, y: Any) -> LossDerivatives:
    """The loss at one time, and its derivatives by the parameters and by the state.

        l_t = loss(θ, s_t, y_t)

    Args:
      problem: step, loss and select.
      params: θ.
      state: s_t.
      y: what the loss sees beside them.

    Returns:
      `LossDerivatives`: value, grads and cotangent.

    Raises:
      ValueError: the loss is not one real number.
      TypeError: problem is no Problem, params, state or y have a leaf that is no array.

    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(lambda w, h, x: w * h + x, loss=lambda w, h, y: y * h**2)
    >>> value, grads, cotangent = gradients.loss_derivatives(problem, 3., 2., 0.5)
    >>> float(value), float(grads), float(cotangent[0])
    (2.0, 0.0, 2.0)
    """
    check_problem(problem)
    for name, tree in (("params", params), ("state", state), ("y", y)):
        check_arrays(name, tree)
    check_differentiable(params, state)
    return LossDerivatives(*loss_gradient(problem, params, state, y))
