"""Learners for an endless stream: at each step they take an input in and give a gradient out.

    learner = online.uoro(problem, samples=64)
    carry = learner.init(params, state, x, key)
    carry, value, grads = learner.update(params, carry, x, y)          # one step; params may change from step to step

`update` is made for `jax.lax.scan`. Over a whole sequence with fixed parameters its gradients add up to what the
function of the same name in `jaxrnn.gradients` gives, which is a scan over it; equations, costs and sources stand
there. Equal arguments give the same learner object, so that a second call does not retrace.

>>> import jax, jax.numpy as jnp, optax, jaxrnn as jr
>>> from jaxrnn import gradients
>>> def loss(params, h, y):
...     return (h[0] - y) ** 2
>>> problem = gradients.Problem(jr.rnn, loss)
>>> learner, optimizer = gradients.online.rtrl(problem), optax.adam(0.01)
>>> params = jr.rnn.init(jax.random.key(0), 1, 8)
>>> def learn(carry, inputs):
...     params, optimizer_state, inner = carry
...     inner, value, grads = learner.update(params, inner, *inputs)
...     updates, optimizer_state = optimizer.update(grads, optimizer_state)
...     return (optax.apply_updates(params, updates), optimizer_state, inner), value
>>> stream = jnp.sin(0.3 * jnp.arange(1001.))
>>> xs, ys = stream[:-1, None], stream[1:]                                   # predict what comes next
>>> start = params, optimizer.init(params), learner.init(params, jnp.zeros(8), xs[0])
>>> _, losses = jax.lax.scan(learn, start, (xs, ys))
>>> bool(losses[-100:].mean() < 0.1 * losses[:100].mean())
True
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .._core.cell import Params, State
from .._core.checks import check_int
from . import _influence, _truncated, _uoro
from ._learner import Learner as Learner
from ._problem import Problem, check_parts, check_problem

BUDGET = 2**31  # bytes


def rtrl(problem: Problem, *, budget: int = BUDGET) -> Learner:
    """Real-time recurrent learning, see `jaxrnn.gradients.rtrl`.

    Args:
      problem: step, loss and select.
      budget: bytes that the influence matrix may take; `init` raises a ValueError before it would make a larger one.

    Raises:
      TypeError: problem is no Problem.
    """
    check_problem(problem)
    check_int("budget", budget)
    return _by_influence(problem, None, budget)


def snap(problem: Problem, *, order: int = 1, budget: int = BUDGET) -> Learner:
    """Sparse n-step approximation of the influence matrix, see `jaxrnn.gradients.snap`.

    Args:
      problem: step, loss and select.
      order: keep the influence of parameters on what they reach within this many steps.
      budget: bytes that what is kept may take; `init` raises a ValueError before it would make more.

    Raises:
      ValueError: order < 1.
      TypeError: problem is no Problem, order is no int.
    """
    check_problem(problem)
    check_int("order", order)
    check_int("budget", budget)
    return _by_influence(problem, order, budget)


@functools.lru_cache
def _by_influence(problem: Problem, order: int | None, budget: int) -> Learner:
    return Learner(
        functools.partial(_checked, problem, functools.partial(_influence.influence_init, problem, order, budget)),
        functools.partial(_influence.influence_update, problem, order),
    )


def _checked(problem: Problem, init: Callable, params: Params, state: State, x: Any, key: Array | None = None) -> Any:
    """`init(params, state, x, key)`, if they fit together."""
    check_parts(problem, params, state, x)
    return init(params, jax.tree.map(jnp.asarray, state), x, key)


def uoro(problem: Problem, *, samples: int = 1) -> Learner:
    """Unbiased online recurrent optimisation, see `jaxrnn.gradients.uoro`; `init` needs a key.

    Its noise wants a small learning rate, or many samples: both bring the variance of what is learnt down alike.

    Args:
      problem: step, loss and select.
      samples: how many independent estimates are averaged.

    Raises:
      ValueError: samples < 1; from `init`, no key.
      TypeError: problem is no Problem, samples is no int.
    """
    check_problem(problem)
    check_int("samples", samples)
    return _uoro_learner(problem, samples)


@functools.lru_cache
def _uoro_learner(problem: Problem, samples: int) -> Learner:
    return Learner(
        functools.partial(_checked, problem, functools.partial(_uoro.uoro_init, problem, samples)),
        functools.partial(_uoro.uoro_update, problem),
    )


def tbptt(problem: Problem, *, k1: int, k2: int) -> Learner:
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
    _truncated.check_truncation(k1, k2)
    return _tbptt_learner(problem, k1, k2)


@functools.lru_cache
def _tbptt_learner(problem: Problem, k1: int, k2: int) -> Learner:
    return Learner(
        functools.partial(_checked, problem, functools.partial(_truncated.tbptt_init, k2)),
        functools.partial(_truncated.tbptt_update, problem, k1, k2),
        functools.partial(_truncated.tbptt_rest, problem),
    )
