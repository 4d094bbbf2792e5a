"""One training step, and a chunk of them as one compiled scan."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.sharding import Mesh

from .._core.checks import describe
from ._mesh import BATCH, REPLICATED, constrain

Loss: TypeAlias = Callable[[Any, Any, Any, Array], tuple[Array, tuple[Any, dict[str, Array]]]]


class _Outcome(NamedTuple):
    loss: Array
    carry: Any
    metrics: dict[str, Array]
    gradient: Any


class TrainState(NamedTuple):
    """All that a run needs to go on."""

    step: Array  # (), steps done, and so the position in the data
    params: Any
    opt_state: Any
    carry: Any  # what the loss hands from step to step, batch first: a recurrent state, or None
    key: Array  # folded with the step into the key that the loss gets


def initial_state(
    params: Any, optimizer: optax.GradientTransformation, carry: Any = None, key: Array | None = None
) -> TrainState:
    """The state before the first step; under `jax.eval_shape`, what a checkpoint of it looks like."""
    key = jax.random.key(0) if key is None else key
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), carry, key)


@functools.partial(jax.jit, static_argnames=("loss", "optimizer", "accumulate", "mesh"), donate_argnames="state")
def run_chunk(
    state: TrainState,
    batches: Any,
    *,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    accumulate: int,
    mesh: Mesh | None,
) -> tuple[TrainState, dict[str, Array]]:
    """One step per entry of `batches`; from the first step that is not finite on, the state stays as it was."""

    def advance(carry: tuple[TrainState, Array], batch: Any) -> tuple[tuple[TrainState, Array], dict[str, Array]]:
        state, finite = carry
        following, metrics = _step(loss, optimizer, accumulate, mesh, state, batch)
        finite &= jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
        following = _select(finite, following, state)
        following = constrain(following._replace(carry=None), mesh, REPLICATED)._replace(
            carry=constrain(following.carry, mesh, BATCH)
        )
        return (following, finite), metrics

    (state, _), metrics = lax.scan(advance, (state, jnp.array(True)), batches)
    return state, constrain(metrics, mesh, REPLICATED)


def _step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    accumulate: int,
    mesh: Mesh | None,
    state: TrainState,
    batch: Any,
) -> tuple[TrainState, dict[str, Array]]:
    key = jax.random.fold_in(state.key, state.step)
    value, carry, metrics, gradient = _gradient(loss, accumulate, mesh, state.params, state.carry, batch, key)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    following = TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state, carry, state.key)
    return following, {"loss": value, "grad_norm": optax.tree.norm(gradient), **metrics}


def _gradient(
    loss: Loss, accumulate: int, mesh: Mesh | None, params: Any, carry: Any, batch: Any, key: Array
) -> _Outcome:
    """Loss, carry, metrics and gradient: each device's, averaged.

    Each device differentiates the loss of its own share, so that they talk once a step. Left to itself, the compiler
    would add up the devices' gradients at every time step of the backward scan.
    """
    run = functools.partial(_accumulated, loss, accumulate, params)
    if mesh is None:
        return run(carry, batch, key)
    shares = constrain(_split((carry, batch), mesh.size), mesh, BATCH)
    keys = jax.random.split(key, mesh.size)
    outcome = jax.vmap(run, spmd_axis_name=mesh.axis_names[0])(shares[0], shares[1], keys)
    means = jax.tree.map(lambda a: a.mean(axis=0), outcome._replace(carry=None))
    return means._replace(carry=_join(outcome.carry))


def _accumulated(loss: Loss, accumulate: int, params: Any, carry: Any, batch: Any, key: Array) -> _Outcome:
    """The same of `accumulate` parts of the batch, one after the other."""
    if accumulate == 1:
        return _outcome(loss, params, carry, batch, key)

    def add(total: _Outcome, part: tuple[Any, Any, Array]) -> tuple[_Outcome, Any]:
        outcome = _outcome(loss, params, *part)
        return jax.tree.map(jnp.add, total, outcome._replace(carry=None)), outcome.carry

    parts = (*_split((carry, batch), accumulate), jax.random.split(key, accumulate))
    like = jax.eval_shape(functools.partial(_outcome, loss, params), *jax.tree.map(lambda a: a[0], parts))
    zeros = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), like._replace(carry=None))
    total, carries = lax.scan(add, zeros, parts)
    return jax.tree.map(lambda a: a / accumulate, total)._replace(carry=_join(carries))


def _outcome(loss: Loss, params: Any, carry: Any, batch: Any, key: Array) -> _Outcome:
    value_and_grad = jax.value_and_grad(functools.partial(_checked, loss), has_aux=True)
    (value, (carry, metrics)), gradient = value_and_grad(params, carry, batch, key)
    return _Outcome(value, carry, metrics, gradient)


def _checked(loss: Loss, params: Any, carry: Any, batch: Any, key: Array) -> tuple[Array, tuple[Any, dict[str, Array]]]:
    """What the loss returns has the form that `fit` asks for."""
    returned = loss(params, carry, batch, key)
    match returned:
        case (value, (following, dict() as metrics)):
            pass
        case _:
            raise TypeError(f"loss must return (value, (carry, metrics)), metrics a dict, got {describe(returned)}")
    if jnp.shape(value) != ():
        raise ValueError(f"loss must return a scalar value, got shape {jnp.shape(value)}")
    if taken := {"step", "loss", "grad_norm", "seconds"} & set(metrics):
        raise ValueError(f"metrics must not be named {sorted(taken)}: fit writes them itself")
    if describe(following) != describe(carry):
        raise ValueError(
            f"loss must return a carry like the one it was given, {describe(carry)}, got {describe(following)}"
        )
    return value, (following, metrics)


def _select(condition: Array, yes: TrainState, no: TrainState) -> TrainState:
    return jax.tree.map(functools.partial(jnp.where, condition), yes, no)


def _split(tree: Any, parts: int) -> Any:
    """(B, ...) -> (parts, B/parts, ...)."""
    return jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), tree)


def _join(tree: Any) -> Any:
    """The inverse of `_split`."""
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), tree)
