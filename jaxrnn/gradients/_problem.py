"""What every gradient algorithm is given, checked, and taken apart into what is differentiated and what is not."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from .._core.cell import Cell, Params, State, Step, as_step
from .._core.checks import check_tree_like, describe, dtype_of
from .._core.compat import is_concrete
from .._core.numerics import widened


def _itself(params: Params) -> Params:
    return params


class Problem(NamedTuple):
    """A recurrent network and its loss, to be differentiated with respect to its parameters.

        s_t = step(select(θ), s_{t-1}, x_t)        L = Σ_t loss(θ, s_t, y_t)        t = 1 … T

    It is about one sequence without a batch axis: a batch is `jax.vmap` over (state, xs, ys), then a sum or mean.
    Ragged sequences: weights inside ys, 0 past the end.

    Fields:
      step: a `jr.Cell`, or a function (params, state, x) -> state with any pytree as state.
      loss: (params, state, y) -> scalar, at one time; sees all params, so a read-out's too.
      select: params -> what step gets; with `params = {"cell": ..., "out": ...}`, `operator.itemgetter("cell")`.
        Leaves that only the loss sees get their direct gradient from every algorithm.

    Leaves of state and xs that are integers, bools or keys are carried along and never differentiated. All three
    functions are static: give the same objects again, not new lambdas, and a second call does not retrace.

    >>> import operator, jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients
    >>> read = jr.Linear(8, 2)
    >>> def loss(params, h, y):
    ...     return jnp.sum((read.apply(params["out"], h) - y) ** 2)
    >>> problem = gradients.Problem(jr.gru, loss, select=operator.itemgetter("cell"))
    >>> params = {"cell": jr.gru.init(jax.random.key(0), 3, 8), "out": read.init(jax.random.key(1))}
    >>> value, grads = gradients.bptt(problem, params, jnp.zeros(8), jnp.ones((5, 3)), jnp.ones((5, 2)))
    >>> value.shape, grads["out"]["weight"].shape, grads["cell"].weight_hh.shape
    ((), (2, 8), (24, 8))
    """

    step: Cell | Step
    loss: Callable[[Params, State, Any], Array]
    select: Callable[[Params], Params] = _itself


def check_problem(problem: Any) -> None:
    """A `Problem` of functions that can be static arguments."""
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a jaxrnn.gradients.Problem, got {type(problem).__name__}")
    as_step(problem.step)
    for name in ("loss", "select"):
        if not callable(getattr(problem, name)):
            raise TypeError(f"problem.{name} must be a function, got {type(getattr(problem, name)).__name__}")
    for name, value in problem._asdict().items():
        if getattr(type(value), "__hash__", None) is None:
            raise TypeError(f"problem.{name} must be hashable, got {type(value).__name__}: it is a static argument")


def check_sequences(xs: Any, ys: Any) -> int:
    """T, which all leaves of xs and ys have first."""
    leaves = [
        (name + jax.tree_util.keystr(path), jnp.shape(leaf))
        for name, tree in (("xs", xs), ("ys", ys))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
    if not leaves:
        raise ValueError("xs and ys hold no arrays, so the number of time steps is not known")
    for name, shape in leaves:
        if not shape or not shape[0]:
            raise ValueError(f"{name} has shape {shape}, expected (T, ...), time first, T >= 1")
    first, (steps, *_) = leaves[0]
    for name, shape in leaves:
        if shape[0] != steps:
            raise ValueError(f"{name} has {shape[0]} time steps, {first} has {steps}")
    return steps


def check_parts(problem: Problem, params: Params, state: State, x: Any) -> None:
    """The parameters can be differentiated, and a step, for an x like this, gives a state like the one it got."""
    check_differentiable(params, state)

    def step(params: Params, state: State, x: Any) -> State:
        function, *arguments = local_step(problem, params, state, x)
        return function(*arguments)[1]

    jax.eval_shape(step, params, state, x)


def at(sequence: Any, index: Array | int) -> Any:
    """One entry of a sequence, time first."""
    return jax.tree.map(lambda a: a[index], sequence)


def steps_of(*sequences: Any) -> int:
    """T, of sequences that have been checked."""
    return len(jax.tree.leaves(sequences)[0])


def check_differentiable(params: Params, state: State) -> None:
    """All parameters can be differentiated, and some of the state."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not is_real(leaf):
            name = jax.tree_util.keystr(path)
            raise TypeError(f"params{name} has dtype {dtype_of(leaf)}: only real floating-point can be differentiated")
    if not any(map(is_real, jax.tree.leaves(state))):
        raise TypeError(f"state must have a floating-point leaf, got {describe(state)}")


def concrete(tree: Any, reason: str) -> Any:
    """The tree with JAX's arrays for leaves, whose values are known; `reason` says why they must be."""
    if not all(map(is_concrete, jax.tree.leaves(tree))):
        raise TypeError(reason)
    return jax.tree.map(jnp.asarray, tree)


def is_real(leaf: Any) -> bool:
    """Whether a leaf is differentiated."""
    dtype = dtype_of(leaf)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"complex numbers are not supported, got {describe(leaf)}")
    return jnp.issubdtype(dtype, jnp.floating)


def split(tree: Any) -> tuple[list[Array], Callable[[list[Array]], Any]]:
    """The leaves that are differentiated, and the function that puts others in their place."""
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, tree))
    real = [is_real(leaf) for leaf in leaves]

    def rebuild(reals: list[Array]) -> Any:
        given = iter(reals)
        return structure.unflatten([next(given) if r else leaf for r, leaf in zip(real, leaves, strict=True)])

    return [leaf for r, leaf in zip(real, leaves, strict=True) if r], rebuild


def wide_dtype(leaves: list[Any]) -> Any:
    """float32, or float64 if a leaf is."""
    return jnp.dtype(jnp.float64 if any(leaf.dtype == jnp.float64 for leaf in leaves) else jnp.float32)


def ravel(leaves: list[Array], dtype: Any = None) -> Array:
    """All leaves as one vector of this dtype, or of their `wide_dtype`."""
    dtype = dtype or wide_dtype(leaves)
    return jnp.concatenate([jnp.zeros(0, dtype), *(leaf.reshape(-1).astype(dtype) for leaf in leaves)])


def unravel(vector: Array, like: list[Array]) -> list[Array]:
    """The inverse of `ravel`."""
    parts, start = [], 0
    for leaf in like:
        parts.append(vector[start : start + leaf.size].reshape(leaf.shape).astype(leaf.dtype))
        start += leaf.size
    return parts


def zero_sums(tree: Any) -> Any:
    """Zeros to add leaves like these to, in float32 or wider: sums over time in fewer bits stop growing."""
    return jax.tree.map(lambda a: jnp.zeros_like(widened(jnp.asarray(a))), tree)


def add_up(sums: Any, more: Any) -> Any:
    """The sums, with more added."""
    return jax.tree.map(lambda total, a: total + a.astype(total.dtype), sums, more)


def narrowed(sums: Any, like: Any) -> Any:
    """The sums in the dtypes of `like`."""
    return jax.tree.map(lambda total, a: total.astype(dtype_of(a)), sums, like)


def local_step(problem: Problem, params: Params, state: State, x: Any) -> tuple[Callable, list[Array], list[Array]]:
    """The step at one time as `(reals of select(params), reals of state) -> (reals of s′, s′)`, and those two."""
    weights, with_weights = split(problem.select(params))
    reals, with_reals = split(state)

    def function(weights: list[Array], reals: list[Array]) -> tuple[list[Array], State]:
        following = as_step(problem.step)(with_weights(weights), with_reals(reals), x)
        check_tree_like("the state that step returns", following, state, "as the state it was given")
        return split(following)[0], following

    return function, weights, reals


def real_shapes(problem: Problem, params: Params, state: State) -> tuple[list[Any], list[Any]]:
    """Shapes and dtypes of the reals of the state, and of select(params)."""
    return jax.eval_shape(lambda params, state: (split(state)[0], split(problem.select(params))[0]), params, state)


def loss_gradient(problem: Problem, params: Params, state: State, y: Any) -> tuple[Array, Params, list[Array]]:
    """The loss at one time, its direct gradient, and its gradient with respect to the reals of the state."""
    reals, with_reals = split(state)

    def loss(params: Params, reals: list[Array]) -> Array:
        return checked_loss(problem, params, with_reals(reals), y)

    value, (direct, cotangent) = jax.value_and_grad(loss, argnums=(0, 1))(params, reals)
    return value, direct, cotangent


def checked_loss(problem: Problem, params: Params, state: State, y: Any) -> Array:
    """The loss, a real scalar."""
    value = problem.loss(params, state, y)
    if not jax.tree_util.all_leaves([value]) or jnp.shape(value) != () or not is_real(value):
        raise ValueError(f"loss must return one real number, got {describe(value)}")
    return jnp.asarray(value)


def with_recurrent(problem: Problem, params: Params, direct: Params, weights: list[Array]) -> Params:
    """The direct gradient plus that of the reals of select(params)."""
    _, pull = jax.vjp(lambda params: split(problem.select(params))[0], params)
    return jax.tree.map(operator.add, direct, pull(weights)[0])
