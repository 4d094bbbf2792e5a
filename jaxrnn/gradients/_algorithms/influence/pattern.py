"""The sparsity of a step: looked at by `jaxrnn.gradients.sparsity_pattern`, given to `snap`."""

import dataclasses
import functools
import hashlib
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import scipy.sparse as sp
from jax import Array

from ...._core.cell import Cell, Params, State, Step, as_step
from ..._leaves import slices
from ..._local import local_step, real_shapes
from ..._problem import Problem, check_problem, checked_start
from .dependence import Pattern
from .sparsity import Structure, jacobian_pattern


@dataclasses.dataclass(frozen=True)
class SparsityPattern:
    """Which entries of a step's two Jacobians can be other than zero, n numbers in the state, P parameters.

    Elements are numbered leaf by leaf in the order of `jax.tree.leaves`, each in C order; leaves of the state that are
    not floating-point are left out, a complex leaf has its real parts and then its imaginary ones. Matrices of NumPy,
    JAX and SciPy are taken, and kept as copies that cannot be written to. Two patterns are equal, and hash alike, if
    their entries are the same: equal ones do not retrace.

    Fields:
      state: (n, n), of ∂s′/∂s.
      params: (n, P), of ∂s′/∂θ, θ = select(params).
      state_leaves: the leaves' names and their slices of the n numbers, `{"h": slice(0, 8), "c": slice(8, 16)}`.
      params_leaves: the same for the P numbers.

    Raises:
      ValueError: matrices of other shapes.
      TypeError: entries that are no bools.
    """

    state: Pattern = dataclasses.field(compare=False)
    params: Pattern = dataclasses.field(compare=False)
    state_leaves: Mapping[str, slice] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    params_leaves: Mapping[str, slice] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    _digest: bytes = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        state, params = _matrix("state", self.state), _matrix("params", self.params)
        n = len(params.indptr) - 1
        if state.shape != (n, n):
            raise ValueError(f"state has shape {state.shape}, expected {(n, n)}: params has shape {params.shape}")
        parts = (part for a in (state, params) for part in (np.array(a.shape), a.indptr, a.indices))
        digest = hashlib.sha256(b"".join(part.astype(np.int64).tobytes() for part in parts)).digest()
        for name, value in (("state", state), ("params", params), ("_digest", digest)):
            object.__setattr__(self, name, value)


def _matrix(name: str, entries: Any) -> Pattern:
    """A copy in which equal entries are equal arrays."""
    matrix = entries if sp.issparse(entries) else np.asarray(entries)
    if matrix.ndim != 2:
        raise ValueError(f"{name} has shape {matrix.shape}, expected a matrix")
    if matrix.dtype != bool:
        raise TypeError(f"{name} has dtype {matrix.dtype}, expected bool")
    copy = sp.csr_array(matrix, copy=True)
    copy.eliminate_zeros()
    copy.sum_duplicates()
    for part in (copy.data, copy.indices, copy.indptr):
        part.flags.writeable = False
    return copy


def sparsity_pattern(problem: Problem, params: Params, state: State, x: Any) -> SparsityPattern:
    """Which entries of ∂s′/∂s and of ∂s′/∂θ can be other than zero, s′ = step(select(θ), s, x).

    Found from the operations of the step (its jaxpr) and the shapes of the arguments. Constants of the step, such as a
    mask that it closes over, are known; the values of params, state and x are not, so that it holds for all of them. It
    may have too many entries, never too few. An operation without a rule makes it dense behind it: then a warning names
    the operation, once for a step.

    Args:
      problem: step, loss and select.
      params, state: see `bptt`.
      x: an example of an input.

    Raises:
      TypeError, ValueError: as `bptt`.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(jr.rnn, loss=lambda params, h, y: jnp.sum(h))
    >>> params = jr.rnn.init(jax.random.key(0), 3, 4)
    >>> pattern = gradients.sparsity_pattern(problem, params, jnp.zeros(4), jnp.zeros(3))
    >>> pattern.state.shape, pattern.params.shape
    ((4, 4), (4, 36))
    >>> print(pattern.params[:, pattern.params_leaves["weight_ih"]].toarray().astype(int))  # each unit its own weights
    [[1 1 1 0 0 0 0 0 0 0 0 0]
     [0 0 0 1 1 1 0 0 0 0 0 0]
     [0 0 0 0 0 0 1 1 1 0 0 0]
     [0 0 0 0 0 0 0 0 0 1 1 1]]
    """
    check_problem(problem)
    shapes = jax.eval_shape(lambda: (params, checked_start(problem, params, state, x), x))
    found = structure_of(problem, *hashable(shapes))
    warn_of_density(problem.step, found.without_rule)
    selected = jax.eval_shape(lambda params: problem.select(params), shapes[0])
    state_leaves, params_leaves = _named(shapes[1]), _named(selected)
    total = found.pattern.shape[1] - found.pattern.shape[0]
    return SparsityPattern(found.pattern[:, total:], found.pattern[:, :total], state_leaves, params_leaves)


def _named(tree: Any) -> dict[str, slice]:
    """Where the reals of a tree's leaves are."""
    return {jax.tree_util.keystr(path, simple=True, separator="."): where for path, where in slices(tree)}


def hashable(shapes: Any) -> tuple[tuple[Any, ...], Any]:
    """The leaves of a pytree of shapes, and its structure."""
    leaves, structure = jax.tree.flatten(shapes)
    return tuple(leaves), structure


@functools.lru_cache(maxsize=32)
def structure_of(problem: Problem, leaves: tuple[Any, ...], structure: Any) -> Structure:
    """That of (∂s′/∂θ, ∂s′/∂s), side by side, for (params, state, x) of these shapes."""
    params, state, x = structure.unflatten(leaves)
    reals, weights = real_shapes(problem, params, state)

    def step(weights: list[Array], reals: list[Array], params: Params, state: State, x: Any) -> list[Array]:
        return local_step(problem, params, state, x)[0](weights, reals)[0]

    return jacobian_pattern(step, (weights, reals), (params, state, x))


@functools.lru_cache
def warn_of_density(step: Cell | Step, without_rule: tuple[str, ...]) -> None:
    """Say what has no rule, once for a step."""
    if without_rule:
        function = as_step(step)
        name = getattr(function, "__qualname__", type(function).__name__)
        warnings.warn(
            f"the sparsity pattern of {name} is dense behind {', '.join(without_rule)}, for which there is no rule: "
            "snap may keep more than it need; see gradients.sparsity_pattern, and give snap(pattern=) what you know",
            stacklevel=2,
        )
