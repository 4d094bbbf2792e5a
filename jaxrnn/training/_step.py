"""One training step, and a chunk of them as one compiled scan."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.sharding import Mesh

from .._core.checks import check_arrays, check_key
from .._core.numerics import narrowed
from ..gradients._sums import add_up, zero_sums
from ._clipping import clipped_in
from ._gradient import Outcome, StepGradient, outcome_of
from ._mesh import BATCH, REPLICATED, constrain


class TrainState(NamedTuple):
    """All that a run needs to go on."""

    step: Array  # (), steps done, and so the position in the data
    params: Any
    opt_state: Any
    carry: Any  # what the gradient hands from step to step, batch first: a recurrent state, a learner's memory, or None
    key: Array  # folded with the step into the key that the gradient gets


class Rule(NamedTuple):
    """How a batch changes the state: static."""

    gradient: StepGradient
    optimizer: optax.GradientTransformation
    accumulate: int  # parts of the batch, one after the other
    mesh: Mesh | None


def initial_state(
    params: Any, optimizer: optax.GradientTransformation, carry: Any = None, key: Array | None = None
) -> TrainState:
    """The state before the first step; under `jax.eval_shape`, what a checkpoint of it looks like.

    Raises:
      TypeError: optimizer is no optax.GradientTransformation, params or carry has a leaf that is no array, key no key.
      ValueError: key is a batch of keys.
    """
    check_optimizer(optimizer)
    check_arrays("params", params)
    check_arrays("carry", carry)
    key = jax.random.key(0) if key is None else key
    check_key("key", key)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), carry, key)


def check_optimizer(optimizer: Any) -> None:
    """An `optax.GradientTransformation`."""
    if not isinstance(optimizer, optax.GradientTransformation):
        words = "an optax.GradientTransformation, such as optax.adam(0.01)"
        raise TypeError(f"optimizer must be {words}, got {type(optimizer).__name__}")


@functools.partial(jax.jit, static_argnames="rule", donate_argnames="state")
def run_chunk(state: TrainState, batches: Any, *, rule: Rule) -> tuple[TrainState, dict[str, Array]]:
    """One step per entry of `batches`; from the first step that is not finite on, the state stays as it was."""

    def advance(carry: tuple[TrainState, Array], batch: Any) -> tuple[tuple[TrainState, Array], dict[str, Array]]:
        state, finite = carry
        new_state, metrics = _step(rule, state, batch)
        finite &= jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
        new_state = _select(finite, new_state, state)
        new_state = constrain(new_state._replace(carry=None), rule.mesh, REPLICATED)._replace(
            carry=constrain(new_state.carry, rule.mesh, BATCH)
        )
        return (new_state, finite), metrics

    (state, _), metrics = lax.scan(advance, (state, jnp.array(True)), batches)
    return state, constrain(metrics, rule.mesh, REPLICATED)


def _step(rule: Rule, state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Array]]:
    key = jax.random.fold_in(state.key, state.step)
    value, carry, metrics, grads = _spread(rule, state.params, state.carry, batch, key)
    updates, opt_state = rule.optimizer.update(grads, state.opt_state, state.params)
    new_state = TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state, carry, state.key)
    return new_state, {"loss": value, "grad_norm": optax.tree.norm(grads), **clipped_in(opt_state), **metrics}


def _spread(rule: Rule, params: Any, carry: Any, batch: Any, key: Array) -> Outcome:
    """Value, carry, metrics and gradient: each device's, averaged.

    Each device differentiates the loss of its own share, so that they talk once a step. Left to itself, the compiler
    would add up the devices' gradients at every time step of the backward scan.
    """
    run, mesh = functools.partial(_accumulated, rule, params), rule.mesh
    if mesh is None:
        return run(carry, batch, key)
    shares = constrain(_split((carry, batch), mesh.size), mesh, BATCH)
    keys = jax.random.split(key, mesh.size)
    outcome = jax.vmap(run, spmd_axis_name=mesh.axis_names[0])(shares[0], shares[1], keys)
    means = jax.tree.map(lambda a: a.mean(axis=0), outcome._replace(carry=None))
    return means._replace(carry=_join(outcome.carry))


def _accumulated(rule: Rule, params: Any, carry: Any, batch: Any, key: Array) -> Outcome:
    """The same of `accumulate` parts of the batch, one after the other."""
    run = functools.partial(outcome_of, rule.gradient, params)
    if rule.accumulate == 1:
        return run(carry, batch, key)

    def add(total: Outcome, part: tuple[Any, Any, Array]) -> tuple[Outcome, Any]:
        outcome = run(*part)
        return add_up(total, outcome._replace(carry=None)), outcome.carry

    parts = (*_split((carry, batch), rule.accumulate), jax.random.split(key, rule.accumulate))
    like = jax.eval_shape(run, *jax.tree.map(lambda a: a[0], parts))
    zeros = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), like._replace(carry=None))
    total, carries = lax.scan(add, zero_sums(zeros), parts)
    means = jax.tree.map(lambda a: a / rule.accumulate, total)._replace(carry=_join(carries))
    return means._replace(value=narrowed(means.value, like.value), grads=narrowed(means.grads, like.grads))


def _select(condition: Array, yes: TrainState, no: TrainState) -> TrainState:
    return jax.tree.map(functools.partial(jnp.where, condition), yes, no)


def _split(tree: Any, parts: int) -> Any:
    """(B, ...) -> (parts, B/parts, ...)."""
    return jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), tree)


def _join(tree: Any) -> Any:
    """The inverse of `_split`."""
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), tree)
