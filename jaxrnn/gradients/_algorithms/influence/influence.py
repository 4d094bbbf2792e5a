"""Real-time recurrent learning: the influence ∂s_t/∂θ carried forward, all of it or the part that SnAp keeps.

    J_t = D_t J_{t-1} + I_t        D = ∂s_t/∂s_{t-1}        I = ∂s_t/∂θ, at fixed s_{t-1}

J is n x P, for n numbers in the state and P parameters. Which of its entries are kept, and which of I are other than
zero, follows from the step's jaxpr. Parameters that keep the same rows of J make a block; J is stored block by block,
and a block needs of D only its own rows and columns. I is never formed: rows of it that share no parameter, as those of
all units of a layer do, come out of one vector-Jacobian product together, and are added where they belong.
"""

import functools
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax import Array

from ...._core.cell import Cell, Params, State
from ..._learner import Learner, checked_init, checked_update
from ..._leaves import ravel, unravel, wide_dtype
from ..._local import local_step, loss_gradient, real_shapes, with_recurrent
from ..._problem import Problem
from .sparsity import Pattern, jacobian_pattern
from .transition import affine_by_unit, affine_transition, transition

BUDGET = 2**31  # bytes


@functools.lru_cache
def influence_learner(problem: Problem, order: int | None, budget: int) -> Learner:
    """The learner that keeps the influence of parameters on what they reach within `order` steps, all for None."""
    name = "rtrl" if order is None else "snap"
    update = jax.named_scope(f"jaxrnn.gradients.{name}")(functools.partial(_update, problem, order))
    return Learner(
        functools.partial(checked_init, problem, functools.partial(_init, problem, order, budget)),
        functools.partial(checked_update, update, InfluenceCarry),
    )


class Blocks(NamedTuple):
    """G blocks of J of equal size: which K rows they have, and which M columns."""

    rows: np.ndarray  # (G, K)
    columns: np.ndarray  # (G, M)


class Layout(NamedTuple):
    """Where things are, for one step function and its shapes."""

    cell: Cell | None  # the step, if ∂s_t/∂s_{t-1} follows from its affine structure
    blocks: tuple[Blocks, ...]  # J is stored as a vector, blocks one after the other
    size: int  # of that vector
    seeds: np.ndarray  # (C, n): which rows of I each of C vector-Jacobian products adds up
    targets: np.ndarray  # (C, P): where in the vector its entries belong; `size` if nowhere
    sources: np.ndarray | None  # (size,): which of the C P entries belongs there, C P if none; where most have one
    gather: np.ndarray  # (P,): where a parameter is among all blocks' columns; their number if nowhere


class InfluenceCarry(NamedTuple):
    """The state, and its influence matrix in the order of the layout."""

    state: State
    influence: Array


def _init(
    problem: Problem, order: int | None, budget: int, params: Params, state: State, x: Any, key: Array | None = None
) -> InfluenceCarry:
    """No influence yet; order None is all of it."""
    del key
    reals, weights = real_shapes(problem, params, state)
    dtype = wide_dtype([*reals, *weights])
    if order is None:
        _check_budget("rtrl", sum(a.size for a in reals) * sum(a.size for a in weights), dtype, budget)
    layout = layout_of(problem, order, params, state, x)
    _check_budget("snap", layout.size, dtype, budget)
    return InfluenceCarry(state, jnp.zeros(layout.size, dtype))


def _update(
    problem: Problem, order: int | None, params: Params, carry: InfluenceCarry, x: Any, y: Any
) -> tuple[InfluenceCarry, Array, Params]:
    """One step: the state and the influence go on."""
    layout = layout_of(problem, order, params, carry.state, x)
    function, weights, reals = local_step(problem, params, carry.state, x)
    _, pull, new_state = jax.vjp(function, weights, reals, has_aux=True)

    if layout.cell is None:
        onward = transition(lambda cotangent: pull(cotangent)[1], reals)
    else:
        onward = affine_transition(layout.cell, problem.select(params), carry.state, x)
    dtype = carry.influence.dtype
    onward, seeds = (jnp.asarray(a, dtype) for a in (onward, layout.seeds))
    immediate = jax.vmap(lambda seed: ravel(pull(unravel(seed, reals))[0], dtype))(seeds)
    influence = _advance(layout, onward, immediate, carry.influence)

    value, direct, cotangent = loss_gradient(problem, params, new_state, y)
    recurrent = _contract(layout, ravel(cotangent, dtype), influence)
    grads = with_recurrent(problem, params, direct, unravel(recurrent, weights))
    return InfluenceCarry(new_state, influence), value, grads


def _advance(layout: Layout, onward: Array, immediate: Array, influence: Array) -> Array:
    """D J + I."""
    if not layout.blocks:  # the step has no parameters
        return influence
    parts = [
        jnp.einsum("gkl,glm->gkm", onward[rows[:, :, None], rows[:, None, :]], block).ravel()
        for (rows, _), block in zip(layout.blocks, _split(layout, influence), strict=True)
    ]
    if layout.sources is None:
        return jnp.concatenate(parts).at[jnp.asarray(layout.targets)].add(immediate, mode="drop")
    padded = jnp.concatenate([immediate.ravel(), jnp.zeros(1, immediate.dtype)])
    return jnp.concatenate(parts) + padded[layout.sources]


def _contract(layout: Layout, cotangent: Array, influence: Array) -> Array:
    """(∂l/∂s) J, a number for each parameter."""
    parts = [
        jnp.einsum("gk,gkm->gm", cotangent[rows], block).ravel()
        for (rows, _), block in zip(layout.blocks, _split(layout, influence), strict=True)
    ]
    return jnp.concatenate([*parts, jnp.zeros(1, influence.dtype)])[layout.gather]


def _split(layout: Layout, influence: Array) -> list[Array]:
    """(G, K, M) for each size of blocks."""
    blocks, start = [], 0
    for rows, columns in layout.blocks:
        shape = (*rows.shape, columns.shape[1])
        blocks.append(influence[start : start + math.prod(shape)].reshape(shape))
        start += math.prod(shape)
    return blocks


def _check_budget(name: str, count: int, dtype: Any, budget: int) -> None:
    size = count * jnp.dtype(dtype).itemsize
    if size > budget:
        others = "snap(order=1), uoro or bptt" if name == "rtrl" else "a lower order, uoro or bptt"
        raise ValueError(
            f"{name} would keep an influence matrix of {count:,} numbers, {size:,} bytes, above budget={budget:,}; "
            f"use {others}, which need less, or raise the budget"
        )
    if count > np.iinfo(np.int32).max:
        raise ValueError(f"{name} would keep {count:,} numbers in one array, more than 32-bit numbers can index")


def layout_of(problem: Problem, order: int | None, params: Params, state: State, x: Any) -> Layout:
    """The layout for arguments of these shapes."""
    shapes = jax.eval_shape(lambda: (params, state, x))
    leaves, structure = jax.tree.flatten(shapes)
    return _layout(problem, order, tuple(leaves), structure)


@functools.lru_cache(maxsize=32)
def _layout(problem: Problem, order: int | None, leaves: tuple[Any, ...], structure: Any) -> Layout:
    params, state, x = structure.unflatten(leaves)
    reals, weights = real_shapes(problem, params, state)

    def step(weights: list[Array], reals: list[Array], params: Params, state: State, x: Any) -> list[Array]:
        return local_step(problem, params, state, x)[0](weights, reals)[0]

    pattern = sp.csc_array(jacobian_pattern(step, (weights, reals), (params, state, x)))
    parameters, n = (sum(a.size for a in leaves) for leaves in (weights, reals))
    immediate, onward = pattern[:, :parameters], pattern[:, parameters : parameters + n]
    kept = None if order is None else _reached(immediate, onward, order)
    return _arranged(affine_by_unit(problem, params, state, x), immediate, kept)


def _reached(immediate: Pattern, onward: Pattern, order: int) -> Pattern:
    """Where I + D I + ... + D^(order-1) I may be other than zero."""
    reached = immediate
    for _ in range(order - 1):
        new_state = sp.csc_array(immediate + onward @ reached)
        if new_state.nnz == reached.nnz:
            break
        reached = new_state
    return reached


def _arranged(cell: Cell | None, immediate: Pattern, kept: Pattern | None) -> Layout:
    """The layout for the pattern of I, (n, P), and for that of what is kept of J, None for all of it."""
    n, parameters = immediate.shape
    groups = [(np.arange(n), np.arange(parameters))] if kept is None else _columns_alike(kept)
    # Of each parameter: its block, where its first row is stored, and how far apart its rows are.
    block_of, first, stride = (np.zeros(parameters, int) for _ in range(3))
    rank = np.zeros((len(groups), n), int)  # of a row in a block
    blocks, size, gathered = [], 0, 0
    gather = np.full(parameters, sum(len(columns) for _, columns in groups))
    groups.sort(key=lambda group: (len(group[0]), len(group[1])))
    for index, (rows, columns) in enumerate(groups):
        rank[index, rows] = np.arange(len(rows))
        block_of[columns], stride[columns] = index, len(columns)
        first[columns] = size + np.arange(len(columns))
        gather[columns] = gathered + np.arange(len(columns))
        size, gathered = size + len(rows) * len(columns), gathered + len(columns)
    for _, alike in itertools.groupby(groups, key=lambda group: (len(group[0]), len(group[1]))):
        blocks.append(Blocks(*map(np.stack, zip(*alike, strict=True))))
    colours = _colours(immediate)
    seeds = colours == np.arange(colours.max(initial=0) + 1)[:, None]
    row, column = immediate.nonzero()
    targets = np.full((len(seeds), parameters), size)
    targets[colours[row], column] = first[column] + rank[block_of[column], row] * stride[column]
    return Layout(
        cell, tuple(blocks), size, seeds, targets.astype(np.int32), _sources(targets, size), gather.astype(np.int32)
    )


def _sources(targets: np.ndarray, size: int) -> np.ndarray | None:
    """The inverse of the targets: an LSTM's SnAp-1 takes 27 µs a step with it and 45 without (32 units), 0.7 and 1.2 ms
    (128); None where it would mostly point nowhere, as for RTRL."""
    if size > 2 * targets.size:
        return None
    sources = np.full(size + 1, targets.size, np.int32)
    sources[targets.ravel()] = np.arange(targets.size)
    return sources[:size]


def _columns_alike(pattern: Pattern) -> list[tuple[np.ndarray, np.ndarray]]:
    """Sets of columns with entries in the same rows, as (rows, columns); empty columns are left out."""
    pattern.sort_indices()
    indices = pattern.indices.astype(np.int64)
    groups: dict[bytes, list[int]] = {}
    for column, (begin, end) in enumerate(itertools.pairwise(pattern.indptr)):
        if begin < end:
            groups.setdefault(indices[begin:end].tobytes(), []).append(column)
    return [(np.frombuffer(rows, np.int64), np.array(columns)) for rows, columns in groups.items()]


def _colours(pattern: Pattern) -> np.ndarray:
    """A colour for each row, another wherever two rows have an entry in the same column."""
    examples = pattern[:, [columns[0] for _, columns in _columns_alike(pattern)]].toarray()
    shared = (examples.astype(np.int64) @ examples.T) > 0
    colours = np.zeros(len(shared), int)
    for row in range(1, len(shared)):
        taken = set(colours[:row][shared[row, :row]])
        colours[row] = next(colour for colour in itertools.count() if colour not in taken)
    return colours
