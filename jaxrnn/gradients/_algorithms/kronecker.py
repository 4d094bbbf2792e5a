"""The influence matrix of an affine cell as a sum of Kronecker products: what KF-RTRL and OK share.

    z = W_ih x + b_ih        r = W_hh h + b_hh        a = merge(z, r)        s′ = gates(a, s)

merge is linear, a = M_z z + M_r r, so that what the parameters do at one step is

    ∂s′/∂(W_hh, b_hh) = [h; 1] ⊗ D M_r        ∂s′/∂(W_ih, b_ih) = [x; 1] ⊗ D M_z        D = ∂s′/∂a

J ≈ Σ_i u_i ⊗ A_i is kept with one u like [h; 1; x; 1] and one A like D, (n, M) for M numbers in a, per term: where the
gates see z + r alone, as an LSTM's, that is the papers' own form; a GRU's a has a block more than z, for the new state,
which z and r meet apart. M_z and M_r are applied when the gradient is read off.

What enters in another way, such as an LSTM's weight_hr, a leak inside the gates, or all that a `project` of one's own
reads, has no such form. Its influence is kept as a random outer product for each term, as by UORO.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ..._cells.affine import project
from ..._core.cell import Cell, Params, State
from ..._core.numerics import affine
from .._affine import affine_of
from .._keys import as_numbers, next_key
from .._learner import Learner, checked_init, checked_update
from .._leaves import ravel, split, unravel, wide_dtype
from .._local import local_step, loss_gradient, real_shapes, traced_shapes, with_recurrent
from .._problem import Problem
from .influence.pattern import hashable
from .influence.transition import affine_by_unit, affine_transition, transition
from .outer import advanced, begun, contracted


class Scheme(NamedTuple):
    """What tells one algorithm from another."""

    name: str
    terms: int
    signs: int  # drawn at each step
    # (u (terms, m), D_s A (terms, n, M), input (m,), D (n, M), signs) -> (u, A): a step's own term joins the others
    join: Callable[[Array, Array, Array, Array, Array], tuple[Array, Array]]
    weight: float  # of a term in the sum


class KroneckerCarry(NamedTuple):
    """The state, and for each term a vector and a matrix whose Kronecker product has the influence as its mean."""

    state: State
    key: Array  # (2,) numbers
    inputs: Array  # (terms, m)
    influence: Array  # (terms, n, M)
    left: Array  # (terms, n), of the outer product of what has no Kronecker form
    right: Array  # (terms, its parameters, and the initial state if it is learnt)


@functools.lru_cache
def kronecker_learner(problem: Problem, scheme: Scheme) -> Learner:
    """The learner that keeps such a sum."""
    update = jax.named_scope(f"jaxrnn.gradients.{scheme.name}")(functools.partial(_update, problem, scheme))
    return Learner(
        functools.partial(checked_init, problem, functools.partial(_init, problem, scheme)),
        functools.partial(checked_update, update, KroneckerCarry),
    )


def _init(
    problem: Problem, scheme: Scheme, params: Params, state: State, x: Any, key: Array | None = None
) -> KroneckerCarry:
    """No influence yet, but of an initial state that is learnt on itself: I = E ν ⊗ ν."""
    if key is None:
        raise ValueError(f"{scheme.name} draws random signs: it needs a key, as from jax.random.key(0), got None")
    reals, weights = real_shapes(problem, params, state)
    dtype = wide_dtype([*reals, *weights])

    def shapes(params: Params, state: State, x: Any) -> tuple[Array, Array, Array]:
        parts = _parts(problem, params, state, x)
        return ravel(parts.inputs), ravel(parts.merged), ravel(parts.others)

    inputs, merged, others = jax.eval_shape(shapes, params, state, x)
    n, terms, numbers = sum(a.size for a in reals), scheme.terms, as_numbers(key)
    sizes = (inputs.size,), (n, merged.size), (n,), (others.size,)
    inputs, influence, left, right = (jnp.zeros((terms, *size), dtype) for size in sizes)
    numbers, left, right = begun(problem, numbers, left, right)
    return KroneckerCarry(state, numbers, inputs, influence, left, right)


class _Parts(NamedTuple):
    """A step's parameters, by how they enter, and what they meet."""

    kronecker: list[tuple[int, bool]]  # which of the weights have that form, and whether it is r that they are in
    inputs: list[Array]  # what each is multiplied by: h, 1, x, 1
    others_at: list[int]  # the weights that have not
    others: list[Array]
    merged: list[Array]  # a


def _parts(problem: Problem, params: Params, state: State, x: Any) -> _Parts:
    cell, structure = affine_of("", problem)
    weights, with_weights = split(problem.select(params))
    selected = with_weights(weights)
    h, one = cell.output(state), jnp.ones(1, selected.weight_hh.dtype)
    known = [(selected.weight_hh, True, h), (selected.bias_hh, True, one)]
    if structure.project is project:
        known += [(selected.weight_ih, False, x), (selected.bias_ih, False, one)]
    found = [
        (index, in_r, entering)
        for tensor, in_r, entering in known
        for index, weight in enumerate(weights)
        if weight is tensor
    ]
    others_at = [index for index in range(len(weights)) if index not in {index for index, *_ in found}]
    merged = structure.merge(structure.project(selected, x), affine(h, selected.weight_hh, selected.bias_hh))
    return _Parts(
        [(index, in_r) for index, in_r, _ in found],
        [entering for *_, entering in found],
        others_at,
        [weights[index] for index in others_at],
        list(merged),
    )


def _update(
    problem: Problem, scheme: Scheme, params: Params, carry: KroneckerCarry, x: Any, y: Any
) -> tuple[KroneckerCarry, Array, Params]:
    """One step: every term goes on, and the step's own joins them."""
    numbers, now = next_key(carry.key)
    now, apart = jax.random.split(now)
    dtype = carry.influence.dtype
    function, weights, reals = local_step(problem, params, carry.state, x)
    _, pull, new_state = jax.vjp(function, weights, reals, has_aux=True)
    parts = _parts(problem, params, carry.state, x)

    onward = _onward(problem, params, carry.state, x, lambda cotangent: pull(cotangent)[1], reals).astype(dtype)
    outward = _outward(problem, params, carry.state, parts.merged, reals).astype(dtype)
    pushed = jnp.einsum("ij,tjm->tim", onward, carry.influence)
    signs = jax.random.rademacher(now, (scheme.signs,), dtype)
    inputs, influence = scheme.join(carry.inputs, pushed, ravel(parts.inputs, dtype), outward, signs)
    left, right = carry.left, carry.right
    traced = traced_shapes(problem, reals, parts.others)
    if traced:
        pull_others = functools.partial(_pull_others, pull, parts, reals, dtype)
        signs = jax.random.rademacher(apart, left.shape, dtype)
        left, right = jax.vmap(advanced)(left @ onward.T, right, signs, jax.vmap(pull_others)(signs))

    value, direct, cotangent = loss_gradient(problem, params, new_state, y)
    cotangent = ravel(cotangent, dtype)
    by_merged = scheme.weight * jnp.einsum("i,tim->tm", cotangent, influence)
    recurrent = _gradient(problem, parts, weights, inputs, by_merged)
    by_others = unravel(contracted(cotangent, left, right), traced)
    for index, gradient in zip(parts.others_at, by_others, strict=False):
        recurrent[index] = gradient
    grads = with_recurrent(problem, params, direct, recurrent, by_others[len(parts.others) :])
    return KroneckerCarry(new_state, numbers, inputs, influence, left, right), value, grads


def _onward(problem: Problem, params: Params, state: State, x: Any, pull: Callable, reals: list[Array]) -> Array:
    """∂s′/∂s, (n, n)."""
    cell = _by_unit(problem, *hashable(jax.eval_shape(lambda: (params, state, x))))
    if cell is None:
        return transition(pull, reals)
    return affine_transition(cell, problem.select(params), state, x)


@functools.lru_cache(maxsize=32)
def _by_unit(problem: Problem, leaves: tuple[Any, ...], structure: Any) -> Cell | None:
    """It looks at the jaxpr of the gates, once for all arguments of these shapes."""
    return affine_by_unit(problem, *structure.unflatten(leaves))


def _outward(problem: Problem, params: Params, state: State, merged: list[Array], reals: list[Array]) -> Array:
    """D = ∂s′/∂a, (n, M), row by row: gates without a forward mode have it too."""
    _, structure = affine_of("", problem)
    selected = problem.select(params)
    _, pull = jax.vjp(lambda merged: split(structure.gates(selected, *merged, state))[0], merged)
    flat = ravel(reals)
    return jax.vmap(lambda row: ravel(pull(unravel(row, reals))[0]))(jnp.eye(flat.size, dtype=flat.dtype))


def _pull_others(pull: Callable, parts: _Parts, reals: list[Array], dtype: Any, signs: Array) -> Array:
    """ν ∂s′/∂θ, of the parameters without Kronecker form."""
    found = pull(unravel(signs, reals))[0]
    return ravel([found[index] for index in parts.others_at], dtype)


def _gradient(problem: Problem, parts: _Parts, weights: list[Array], inputs: Array, by_merged: Array) -> list[Array]:
    """Σ_i u_i ⊗ (λ A_i) of each weight, from λ A_i (terms, M); 0 of those without Kronecker form."""
    _, structure = affine_of("", problem)
    zeros = jnp.zeros(len(weights[parts.kronecker[0][0]]), by_merged.dtype)
    merged, pull = jax.vjp(structure.merge, zeros, zeros)
    by_z, by_r = jax.vmap(lambda row: pull(tuple(unravel(row, list(merged)))))(by_merged)
    gradients, start = [jnp.zeros_like(weight) for weight in weights], 0
    for (index, in_r), entering in zip(parts.kronecker, parts.inputs, strict=True):
        part, start = inputs[:, start : start + entering.size], start + entering.size
        gradient = jnp.einsum("tg,ti->gi", by_r if in_r else by_z, part)
        gradients[index] = gradient.reshape(weights[index].shape).astype(weights[index].dtype)
    return gradients
