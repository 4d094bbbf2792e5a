"""Networks trained side by side by one `training.fit`: every array has the members as its first axis."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxrnn import training


@dataclasses.dataclass(frozen=True)
class _EachItsOwn:
    function: training.ValueAndGrad

    def __call__(self, params: Any, carry: Any, batch: Any, key: Array) -> Any:
        keys = jax.random.split(key, len(jax.tree.leaves(params)[0]))
        (values, (carry, metrics)), grads = jax.vmap(self.function)(params, carry, batch, keys)
        return (jnp.mean(values), (carry, {**metrics, "losses": values})), grads


def gradient(function: training.ValueAndGrad) -> training.StepGradient:
    """Each member's own, from its params, carry and batch; the metric "losses" has their losses (members,)."""
    return training.StepGradient(_EachItsOwn(function))


def keys(of_members: Array, start: int, stop: int) -> np.ndarray:
    """(stop - start, members, ...) for a batch: each member's key folded with the step, as `jax.random.key_data`."""
    return np.asarray(_folded(of_members, jnp.arange(start, stop)))


@functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
def _folded(of_members: Array, steps: Array) -> Array:
    fold = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (None, 0))
    return jax.random.key_data(fold(of_members, steps))


@functools.cache
def optimizer(of_one: optax.GradientTransformation) -> optax.GradientTransformation:
    """Each member's own: norms are of one member's gradient."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.vmap(of_one.update)(updates, state, params)

    return optax.GradientTransformation(jax.vmap(of_one.init), update)
