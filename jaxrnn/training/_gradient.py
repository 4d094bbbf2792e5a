"""The gradient of a training step: that of a loss by JAX, or any algorithm of `jaxrnn.gradients`."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from .._core.cell import Cell
from .._core.checks import (
    check_arrays,
    check_function,
    check_static,
    describe,
    dtype_of,
    is_real_number,
    shown,
)
from .._core.numerics import narrowed
from ..gradients import Gradient, Learner, Problem
from ..gradients._learner import run_learner
from ..gradients._problem import check_problem
from ..gradients._signature import ARGUMENTS, GIVES, takes_key
from ..gradients.online import batched

Loss: TypeAlias = Callable[[Any, Any, Any, Array], tuple[Array, tuple[Any, dict[str, Array]]]]
ValueAndGrad: TypeAlias = Callable[[Any, Any, Any, Array], tuple[tuple[Array, tuple[Any, dict[str, Array]]], Any]]


def _the_state(params: Any, state: Any, x: Any, key: Array | None = None) -> Any:
    del params, x, key
    return state


_ARGUMENTS = "params, carry, batch, key"


@dataclasses.dataclass(frozen=True)
class StepGradient:
    """The gradient of one training step, which `fit` takes in place of a loss.

        ((value, (carry, metrics)), grads) = function(params, carry, batch, key)

    as `jax.value_and_grad(loss, has_aux=True)` is one. Value and grads are means over the batch. Static: build it once.

    Args:
      function: with batch and carry as a loss gets them.
      init: `(params, state, x, key=None) -> carry`, what `fit` is to begin with; by default the state itself.

    Raises:
      TypeError: function or init is no function of these arguments.

    Example: signs of the gradient in place of the gradient.

    >>> import jax, jax.numpy as jnp, optax
    >>> from jaxrnn import training
    >>> def loss(params, carry, batch, key):
    ...     return jnp.mean((params - batch) ** 2), (carry, {})
    >>> def signs(params, carry, batch, key):
    ...     found, grads = jax.value_and_grad(loss, has_aux=True)(params, carry, batch, key)
    ...     return found, jnp.sign(grads)
    >>> batches = lambda start, stop: jnp.ones((stop - start, 8))
    >>> result = training.fit(training.StepGradient(signs), jnp.zeros(()), optax.sgd(0.125), batches, steps=8)
    >>> float(result.state.params)
    1.0
    """

    function: ValueAndGrad
    init: Callable[..., Any] = dataclasses.field(default=_the_state, compare=False)

    def __post_init__(self) -> None:
        check_static("function", self.function, _ARGUMENTS, "((value, (carry, metrics)), grads)")
        check_function("function", self.function, _ARGUMENTS, "((value, (carry, metrics)), grads)")
        check_function("init", self.init, "params, state, x, key", "carry")


class Outcome(NamedTuple):
    """What a gradient gave for a step."""

    value: Array
    carry: Any
    metrics: dict[str, Array]
    grads: Any


@dataclasses.dataclass(frozen=True)
class _ByJAX:
    """`jax.value_and_grad` of a loss; equal for the same loss, so that it does not compile anew."""

    loss: Any

    def __call__(self, params: Any, carry: Any, batch: Any, key: Array) -> Any:
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            if not jnp.issubdtype(dtype_of(leaf), jnp.inexact):
                name = f"params{jax.tree_util.keystr(path)}"
                raise TypeError(f"{name} has dtype {dtype_of(leaf)}: only floating-point can be differentiated")
        return jax.value_and_grad(self._checked_loss, has_aux=True)(params, carry, batch, key)

    def _checked_loss(self, params: Any, carry: Any, batch: Any, key: Array) -> Any:
        """Checked before JAX looks at it, whose messages speak of functions of its own."""
        return _checked("loss", self.loss(params, carry, batch, key), carry)


def gradient_of(loss: Loss | StepGradient) -> StepGradient:
    """That of a loss by JAX; what is a gradient already stays as it is."""
    if isinstance(loss, StepGradient):
        return loss
    if isinstance(loss, Learner | Problem) or not callable(loss):
        adapters = "training.over_streams(learner), training.over_sequences(problem, algorithm)"
        raise TypeError(
            f"loss must be a function ({_ARGUMENTS}) -> (value, (carry, metrics)), or a gradient such as "
            f"{adapters}, got {type(loss).__name__}"
        )
    check_static("loss", loss, _ARGUMENTS, "(value, (carry, metrics))")
    check_function("loss", loss, _ARGUMENTS, "(value, (carry, metrics))")
    return StepGradient(_ByJAX(loss))


def outcome_of(gradient: StepGradient, params: Any, carry: Any, batch: Any, key: Array) -> Outcome:
    """What the gradient gives, in the form that `fit` asks for."""
    returned = gradient.function(params, carry, batch, key)
    match returned:
        case (found, grads):
            value, (new_carry, metrics) = _checked("a gradient", found, carry)
        case _:
            raise TypeError(
                f"a gradient must return ((value, (carry, metrics)), grads), metrics a dict, got {describe(returned)}"
            )
    if describe(grads) != describe(params):
        raise ValueError(f"a gradient must return grads like params, {describe(params)}, got {describe(grads)}")
    return Outcome(value, new_carry, metrics, grads)


def _checked(who: str, found: Any, carry: Any) -> tuple[Array, tuple[Any, dict[str, Array]]]:
    """(value, (carry, metrics)): a scalar, the next carry, and values to be logged."""
    match found:
        case (value, (new_carry, dict() as metrics)):
            pass
        case _:
            raise TypeError(f"{who} must return (value, (carry, metrics)), metrics a dict, got {describe(found)}")
    if not is_real_number(value):
        raise ValueError(f"{who} must return a real scalar value, got {describe(value)}")
    for name, metric in metrics.items():
        _check_metric(name, metric)
    if taken := {"step", "loss", "grad_norm", "clipped", "seconds"} & set(metrics):
        raise ValueError(f"metrics must not be named {sorted(taken)}: fit writes them itself")
    if describe(new_carry) != describe(carry):
        raise ValueError(
            f"{who} must return a carry like the one it was given, {describe(carry)}, got {describe(new_carry)}"
        )
    return value, (new_carry, metrics)


def _check_metric(name: Any, metric: Any) -> None:
    """A name, and an array of any shape."""
    if not isinstance(name, str):
        raise TypeError(f"metrics must have str as names, got {shown(name)} of type {type(name).__name__}")
    check_arrays(f"metrics[{name!r}]", metric)
    if not jax.tree_util.all_leaves([metric]) or jnp.issubdtype(dtype_of(metric), jax.dtypes.prng_key):
        raise TypeError(f"metrics[{name!r}] must be an array of numbers, got {describe(metric)}")


def over_sequences(problem: Problem, algorithm: Callable[..., Gradient]) -> StepGradient:
    """A gradient for `fit` by any algorithm for whole sequences, of a batch (xs, ys) of them in each step.

        grads = mean_b algorithm(problem, params, state_b, xs_b, ys_b)

    A batch is a tuple (xs, ys) with leaves (B, T, ...), and carry the states (B, ...) that the sequences begin with;
    those after the last step go on to the next batch, as the parts of a stream. With carry=None each sequence begins
    with the problem's `initial_state`, or if it has none with the cell's. For exact gradients give `fit` a loss
    instead: it adds up over the batch within one product of matrices, where here each sequence has a gradient of its
    own first.

    Args:
      problem: step, loss and select, see `jaxrnn.gradients.Problem`.
      algorithm: `(problem, params, state, xs, ys, *, key=None) -> (value, grads, state)`: those of `jaxrnn.gradients`,
        with their arguments bound by `functools.partial`, or your own. What takes a key gets one for each sequence.

    Raises:
      TypeError: problem is no Problem, or algorithm cannot be called so; from `fit`, a batch that is no pair.
      ValueError: from `fit`, no carry for a step that is no `jr.Cell`.

    Example: sequences of 4 steps, by RTRL.

    >>> import jax, jax.numpy as jnp, optax, jaxrnn as jr
    >>> from jaxrnn import gradients, training
    >>> problem = gradients.Problem(jr.rnn, loss=lambda params, h, y: jnp.mean((h - y) ** 2))
    >>> gradient = training.over_sequences(problem, gradients.rtrl)
    >>> def batches(start, stop):
    ...     xs = jnp.sin(jnp.arange(8.0)).reshape(2, 4, 1)                          # B=2, T=4
    ...     return jax.tree.map(lambda a: jnp.stack([a] * (stop - start)), (xs, 0.5 * xs))
    >>> result = training.fit(gradient, jr.rnn.init(jax.random.key(0), 1, 8), optax.adam(0.01), batches, steps=100)
    >>> result.history[-1]["loss"] < 0.1 * result.history[0]["loss"]
    True
    """
    check_problem(problem)
    check_static("algorithm", algorithm, ARGUMENTS, GIVES)
    takes_key(algorithm, "algorithm")
    return StepGradient(_OverSequences(problem, algorithm))


@dataclasses.dataclass(frozen=True)
class _OverSequences:
    problem: Problem
    algorithm: Callable[..., Gradient]

    def __call__(self, params: Any, carry: Any, batch: Any, key: Array) -> Any:
        xs, ys = _pair(batch)
        count = jax.tree.leaves(batch)[0].shape[0]
        states = self._initial_states(params, count) if carry is None else carry
        keys = jax.random.split(key, count) if takes_key(self.algorithm, "algorithm") else None
        values, grads, states = jax.vmap(self._one, in_axes=(None, 0, 0, 0, 0))(params, states, xs, ys, keys)
        means = jax.tree.map(lambda a: jnp.mean(a, axis=0), grads)
        return (jnp.mean(values), (None if carry is None else states, {})), means

    def _one(self, params: Any, state: Any, xs: Any, ys: Any, key: Array | None) -> Gradient:
        keys = {} if key is None else {"key": key}
        return Gradient(*self.algorithm(self.problem, params, state, xs, ys, **keys))

    def _initial_states(self, params: Any, count: int) -> Any:
        cell = self.problem.step
        if self.problem.initial_state is not None:
            return None
        if not isinstance(cell, Cell):
            raise ValueError(
                "carry is None, and problem.step is no jaxrnn.Cell: give fit states to begin with as carry"
            )
        return cell.initial_state(self.problem.select(params), (count,))


def over_streams(learner: Learner) -> StepGradient:
    """A gradient for `fit` by an online learner: a batch of streams, whose memory is carried from step to step.

        grads = mean_b Σ_t of what the learner gives for x_bt, y_bt at these parameters

    A batch is a tuple (xs, ys) with leaves (B, T, ...), the next T steps of each stream; with T = 1 the parameters
    change at every step of the stream. Nothing is unrolled: memory is what the learner keeps, whatever T. The carry is
    `gradient.init(params, state, x, key=None)`, of the states (B, ...) that the streams begin with and an example
    (B, ...) of an input; its leaves have the batch first, so that meshes, accumulate and checkpoints take it as any
    other, and `result.state.carry.state` is the state.

    Args:
      learner: from `jaxrnn.gradients.online`, or your own.

    Raises:
      TypeError: learner is no Learner; from `fit`, a batch that is no pair, a carry that is not from `init`.
      ValueError: from `init`, leaves of state and x without a batch axis, or with different ones.

    Example: two streams, a change of the parameters at every step, by RTRL.

    >>> import jax, jax.numpy as jnp, optax, jaxrnn as jr
    >>> from jaxrnn import gradients, training
    >>> problem = gradients.Problem(jr.rnn, loss=lambda params, h, y: (h[0] - y[0]) ** 2)
    >>> gradient = training.over_streams(gradients.online.rtrl(problem))
    >>> def batches(start, stop):                                       # (steps, B=2, T=1, 1), to say what comes next
    ...     times = 0.3 * jnp.arange(start, stop)[:, None, None, None] + jnp.array([0.0, 1.0])[:, None, None]
    ...     return jnp.sin(times), jnp.sin(times + 0.3)
    >>> params = jr.rnn.init(jax.random.key(0), 1, 8)
    >>> carry = gradient.init(params, jnp.zeros((2, 8)), jnp.zeros((2, 1)))
    >>> result = training.fit(gradient, params, optax.adam(0.01), batches, steps=1000, carry=carry)
    >>> losses = [row["loss"] for row in result.history]
    >>> sum(losses[-100:]) < 0.1 * sum(losses[:100]), result.state.carry.state.shape
    (True, (2, 8))
    """
    streams = _OverStreams(batched(learner))
    return StepGradient(streams, streams.init)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StreamCarry:
    """What a learner remembers of a batch of streams."""

    memory: Any  # the carry of `online.batched(learner)`, but with the batch axis first in every leaf
    axes: tuple[int | None, ...] = dataclasses.field(metadata={"static": True})  # where the learner has it, by leaf

    @property
    def state(self) -> Any:
        """(B, ...) per leaf."""
        return self.memory.state


@dataclasses.dataclass(frozen=True)
class _OverStreams:
    learner: Learner  # of a batch

    def init(self, params: Any, state: Any, x: Any, key: Array | None = None) -> StreamCarry:
        inner = self.learner.init(params, state, x, key)
        wider = jax.eval_shape(self.learner.init, params, *jax.tree.map(_one_more, (state, x)), key)
        axes = tuple(map(_differing_axis, jax.tree.leaves(inner), jax.tree.leaves(wider)))
        return _batch_first(inner, axes, jax.tree.leaves((state, x))[0].shape[0])

    def __call__(self, params: Any, carry: Any, batch: Any, key: Array) -> Any:
        del key
        if not isinstance(carry, StreamCarry):
            raise TypeError(
                f"carry must be from the gradient's init(params, state, x, key=None), got {describe(carry)}"
            )
        xs, ys = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), _pair(batch))
        count = jax.tree.leaves(batch)[0].shape[0]
        inner, value, sums = run_learner(self.learner, params, _as_learner_has_it(carry), xs, ys)
        means = narrowed(jax.tree.map(lambda a: a / count, sums), params)
        return (value / count, (_batch_first(inner, carry.axes, count), {})), means


def _one_more(leaf: Any) -> Any:
    """The shape of a batch with one more stream."""
    leaf = jnp.asarray(leaf)
    return jax.ShapeDtypeStruct((leaf.shape[0] + 1, *leaf.shape[1:]), leaf.dtype)


def _differing_axis(leaf: Array, wider: Any) -> int | None:
    """The axis that grows with the batch; None of what streams share."""
    axes = [axis for axis, sizes in enumerate(zip(leaf.shape, wider.shape, strict=True)) if sizes[0] != sizes[1]]
    if len(axes) > 1:
        raise ValueError(f"a learner's carry must have the batch on one axis, got {leaf.shape} and {wider.shape}")
    return axes[0] if axes else None


def _batch_first(inner: Any, axes: tuple[int | None, ...], count: int) -> StreamCarry:
    """What streams share is there once for each."""
    leaves, structure = jax.tree.flatten(inner)
    moved = [
        jnp.broadcast_to(leaf, (count, *leaf.shape)) if axis is None else jnp.moveaxis(leaf, axis, 0)
        for leaf, axis in zip(leaves, axes, strict=True)
    ]
    return StreamCarry(structure.unflatten(moved), axes)


def _as_learner_has_it(carry: StreamCarry) -> Any:
    """The inverse of `_batch_first`."""
    leaves, structure = jax.tree.flatten(carry.memory)
    moved = [
        leaf[0] if axis is None else jnp.moveaxis(leaf, 0, axis) for leaf, axis in zip(leaves, carry.axes, strict=True)
    ]
    return structure.unflatten(moved)


def _pair(batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, tuple) or len(batch) != 2:
        raise TypeError(f"a batch must be a tuple (xs, ys) of arrays (B, T, ...), got {describe(batch)}")
    return batch
