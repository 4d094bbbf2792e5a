"""The optimal Kronecker-sum approximation of the influence matrix."""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from ..._core.cell import Params, State
from ..._core.checks import check_int
from .._affine import affine_of
from .._learner import Gradient, Learner, sequence_gradient
from .._norms import nonzero, norm
from .._problem import Problem
from .kronecker import Scheme, kronecker_learner


def ok(
    problem: Problem, params: Params, state: State, xs: Any, ys: Any, *, key: Array | None = None, rank: int = 1
) -> Gradient:
    """Optimal Kronecker-sum RTRL: the best r random Kronecker products for r + 1 of them, at each step.

        J_t ≈ Σ_i u_i ⊗ A_i        Σ_{i≤r} u_i ⊗ ∂s_t/∂s_{t-1} A_i + ĥ_t ⊗ D_t  →  r terms, equal on average

    The r + 1 terms are written in orthonormal bases of the u and of the A, as a matrix C of r + 1 rows, whose singular
    values d_1 ≥ … ≥ d_{r+1} say what can be kept: those that are large as they are, the others, from m on, mixed by
    random signs s into one product fewer,

        C = U diag(d) Vᵀ        diag(d) = E[L Lᵀ]        L Lᵀ = diag(d_1 … d_{m-1}) ⊕ σ/k diag(s) (I - z zᵀ) diag(s)

        σ = Σ_{j≥m} d_j        k = r - m + 1        z_j = √(1 - k d_j/σ)        m the least with k d_m ≤ σ

    Unbiased, with the least variance of all such sums, KF-RTRL's and UORO's among them; exact while T ≤ r. Time
    O(r n² M + r² n M) a step, memory O(r n M), for M numbers in a, see `kf_rtrl`, which says ĥ, D and a too, and what
    becomes of parameters without Kronecker form.

    Args:
      problem, params, state, xs, ys: see `bptt`; the step is a `jr.Cell` with `affine`.
      key: for the signs.
      rank: r.

    Returns:
      `Gradient`: L, the estimate of its gradient and the last state.

    Raises:
      ValueError: a step without affine parts, rank < 1, no key; as `bptt`.
      TypeError: rank is no int; as `bptt`.

    Source: Benzing et al. 2019, arXiv:1902.03993.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import gradients
    >>> problem = gradients.Problem(jr.rnn, loss=lambda params, h, y: jnp.sum(h))
    >>> params, key = jr.rnn.init(jax.random.key(0), 3, 8), jax.random.key(1)
    >>> args = params, jnp.zeros(8), jnp.ones((4, 3)), None
    >>> value, grads, state = gradients.ok(problem, *args, key=key, rank=4)
    >>> bool(jnp.allclose(grads.weight_ih, gradients.bptt(problem, *args).grads.weight_ih, atol=1e-5))       # T ≤ r
    True
    """
    return sequence_gradient(ok_learner(problem, rank=rank), params, state, xs, ys, key)


def ok_learner(problem: Problem, *, rank: int = 1) -> Learner:
    """Optimal Kronecker-sum RTRL, see `jaxrnn.gradients.ok`; `init` needs a key.

    Args:
      problem: step, loss and select; the step is a `jr.Cell` with `affine`.
      rank: how many Kronecker products the influence is kept as.

    Raises:
      ValueError: a step without affine parts, rank < 1; from `init`, no key.
      TypeError: problem is no Problem, rank is no int.
    """
    affine_of("ok", problem)
    check_int("rank", rank)
    return kronecker_learner(problem, Scheme("ok", rank, rank, _join, 1.0))


def _join(inputs: Array, pushed: Array, entering: Array, outward: Array, signs: Array) -> tuple[Array, Array]:
    """r + 1 terms as r; of their signs only the relative ones matter, so that of the first is 1."""
    signs = jnp.concatenate([jnp.ones_like(signs[:1]), signs])
    inputs = jnp.concatenate([inputs, entering[None]])
    matrices = jnp.concatenate([pushed, outward[None]]).reshape(len(signs), -1)
    basis_u, in_u = _orthonormal(inputs)
    basis_a, in_a = _orthonormal(matrices)
    left, values, right = jnp.linalg.svd(in_u.T @ in_a)
    mixing = _mixing(values, signs)
    influence = (right.T @ mixing).T @ basis_a
    return (left @ mixing).T @ basis_u, influence.reshape(-1, *outward.shape)


def _orthonormal(rows: Array) -> tuple[Array, Array]:
    """A basis of what the rows span, and the rows in it, as Gram and Schmidt find them one after the other.

    Where a row adds nothing its axis is 0. A tenth of the time of LAPACK's QR for many numbers and few rows.
    """
    rounding = 10 * jnp.finfo(rows.dtype).eps

    def add(basis: Array, numbered: tuple[Array, Array]) -> tuple[Array, Array]:
        index, row = numbered
        inside = basis @ row
        rest = row - inside @ basis
        again = basis @ rest  # once leaves rounding errors along the basis, twice is enough
        rest = rest - again @ basis
        size = norm(rest)
        size = jnp.where(size > rounding * norm(row), size, 0)
        axis = jnp.where(size > 0, rest / nonzero(size), 0)
        return basis.at[index].set(axis), (inside + again).at[index].set(size)

    return lax.scan(add, jnp.zeros_like(rows), (jnp.arange(len(rows)), rows))


def _mixing(values: Array, signs: Array) -> Array:
    """L (r + 1, r), whose L Lᵀ has diag(values), from the largest to the smallest, as its mean over signs."""
    rank = len(values) - 1
    rounding = 10 * len(values) * jnp.finfo(values.dtype).eps * values[:1]  # mixed, it would be as large as its root
    values = jnp.where(values > rounding, values, 0)
    tails = jnp.cumsum(values[::-1])[::-1]
    first = jnp.argmax(jnp.arange(rank, -1, -1, dtype=values.dtype) * values <= tails)  # m - 1
    kept, total = (rank - first).astype(values.dtype), tails[first]
    is_mixed = jnp.arange(rank + 1) >= first
    squares = jnp.where(is_mixed, jnp.maximum(0, total - kept * values) / nonzero(total), 0)
    last = jnp.zeros_like(values).at[-1].set(1)
    z = jnp.where(total > 0, jnp.sqrt(squares), last)
    scales = jnp.sqrt(jnp.where(is_mixed, total / kept, values))
    # Columns orthogonal to z and to each other: those of a reflection that takes z to the last axis.
    normal = z + last
    orthogonal = jnp.eye(rank + 1, dtype=values.dtype) - jnp.outer(normal, normal) * (2 / (normal @ normal))
    return (signs * scales)[:, None] * orthogonal[:, :-1]
