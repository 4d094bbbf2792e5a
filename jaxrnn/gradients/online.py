"""Learners for an endless stream: at each step they take an input in and give a gradient out.

    learner = online.uoro(problem, samples=64)
    carry = learner.init(params, state, x, key)
    carry, value, grads = learner.update(params, carry, x, y)          # one step; params may change from step to step

`update` is made for `jax.lax.scan`. Over a whole sequence with fixed parameters its gradients add up to what the
function of the same name in `jaxrnn.gradients` gives, which is a scan over it (`tbptt`'s and `dni`'s with
`learner.rest` at the end); equations, costs and sources stand there. Equal arguments, of arrays the same ones, give the
same learner object, so that a second call does not retrace.

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
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .._core.cell import Params, State
from .._core.checks import check_arrays, check_optional_key
from ._algorithms.dni import dni_learner as dni
from ._algorithms.eprop import eprop_learner as eprop
from ._algorithms.influence.rtrl import rtrl_learner as rtrl
from ._algorithms.influence.snap import snap_learner as snap
from ._algorithms.kf_rtrl import kf_rtrl_learner as kf_rtrl
from ._algorithms.ok import ok_learner as ok
from ._algorithms.rflo import rflo_learner as rflo
from ._algorithms.tbptt import tbptt_learner as tbptt
from ._algorithms.uoro import uoro_learner as uoro
from ._learner import Learner as Learner

__all__ = ["Learner", "batched", "dni", "eprop", "kf_rtrl", "ok", "rflo", "rtrl", "snap", "tbptt", "uoro"]


def batched(learner: Learner) -> Learner:
    """A learner for a batch of streams that go in step, of one for a single stream.

        value, grads = Σ_b of what the learner gives for stream b

    `init` takes a state and an x whose leaves have the batch axis first, `update` such an x and y. What does not differ
    between streams, such as the clock of truncated BPTT, is there once: where plain `jax.vmap` would run both sides of
    every condition at every step, its work is done when its time has come. A key is split, one for each stream.

    Args:
      learner: any `Learner`; what has an `of_batch` is asked for it, any other is run by `jax.vmap`.

    Returns:
      A `Learner`, the same object for equal arguments.

    Raises:
      TypeError: learner is no Learner.
      ValueError: from `init`, leaves of state and x without a batch axis, or with different ones.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(jr.gru, loss=lambda params, h, y: jnp.sum((h - y) ** 2))
    >>> params, learner = jr.gru.init(jax.random.key(0), 3, 8), gradients.online.snap(problem)
    >>> learner = gradients.online.batched(learner)
    >>> carry = learner.init(params, jnp.zeros((4, 8)), jnp.ones((4, 3)))                            # 4 streams
    >>> carry, value, grads = jax.jit(learner.update)(params, carry, jnp.ones((4, 3)), jnp.ones((4, 8)))
    >>> carry.state.shape, value.shape, grads.weight_hh.shape
    ((4, 8), (), (24, 8))
    """
    if not isinstance(learner, Learner):
        raise TypeError(f"learner must be a jaxrnn.gradients.Learner, got {type(learner).__name__}")
    return _batched(learner)


@functools.lru_cache
def _batched(learner: Learner) -> Learner:
    of_batch = _by_vmap(learner) if learner.of_batch is None else learner.of_batch()
    return of_batch._replace(init=functools.partial(_checked_init, of_batch.init))


def _by_vmap(learner: Learner) -> Learner:
    rest = None if learner.rest is None else functools.partial(_rest, learner.rest)
    return Learner(functools.partial(_init, learner), functools.partial(_update, learner), rest)


def _checked_init(init: Any, params: Params, state: State, x: Any, key: Array | None = None) -> Any:
    check_arrays("state", state)
    check_arrays("x", x)
    check_optional_key("key", key)
    leaves = [
        (name + jax.tree_util.keystr(path), jnp.shape(leaf))
        for name, tree in (("state", state), ("x", x))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
    sizes = {shape[:1] for _, shape in leaves}
    if len(sizes) != 1 or sizes == {()}:
        shapes = ", ".join(f"{name} {shape}" for name, shape in leaves)
        raise ValueError(f"state and x of a batch must have the batch axis first in every leaf, got {shapes}")
    return init(params, state, x, key)


def _init(learner: Learner, params: Params, state: State, x: Any, key: Array | None) -> Any:
    batch = jax.tree.leaves((state, x))[0].shape[0]
    keys = None if key is None else jax.random.split(key, batch)
    return jax.vmap(learner.init, in_axes=(None, 0, 0, 0))(params, state, x, keys)


def _update(learner: Learner, params: Params, carry: Any, x: Any, y: Any) -> tuple[Any, Array, Params]:
    carry, values, grads = jax.vmap(learner.update, in_axes=(None, 0, 0, 0))(params, carry, x, y)
    return carry, jnp.sum(values), _sum(grads)


def _rest(rest: Any, params: Params, carry: Any) -> Params:
    return _sum(jax.vmap(rest, in_axes=(None, 0))(params, carry))


def _sum(grads: Params) -> Params:
    return jax.tree.map(lambda a: jnp.sum(a, axis=0), grads)
