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
from jax import Array, lax

from ...._core.cell import Cell, Params, State
from ..._learner import Learner, checked_init, checked_update
from ..._leaves import ravel, unravel, wide_dtype
from ..._local import local_step, loss_gradient, real_shapes, traced_shapes, with_traced
from ..._problem import Problem
from .dependence import Pattern
from .pattern import SparsityPattern, hashable, structure_of, warn_of_density
from .transition import affine_by_unit, affine_transition, transition

BUDGET = 2**31  # bytes
_SIZES = 16  # of blocks, before they are padded


class Kept(NamedTuple):
    """The part of the influence on what parameters reach within `order` steps."""

    order: int
    pattern: SparsityPattern | None  # of a step; None for the one that is found


@functools.lru_cache
def influence_learner(problem: Problem, kept: Kept | None, budget: int) -> Learner:
    """The learner that keeps this part of the influence, all of it for None."""
    name = "rtrl" if kept is None else "snap"
    update = jax.named_scope(f"jaxrnn.gradients.{name}")(functools.partial(_update, problem, kept))
    return Learner(
        functools.partial(checked_init, problem, functools.partial(_init, problem, kept, budget)),
        functools.partial(checked_update, update, InfluenceCarry),
    )


class Blocks(NamedTuple):
    """G blocks of J of equal size: which K rows they have, and which M columns; n and P where there is padding."""

    rows: np.ndarray  # (G, K)
    columns: np.ndarray  # (G, M)


class Layout(NamedTuple):
    """Where things are, for one step function and its shapes."""

    cell: Cell | None  # the step, if ∂s_t/∂s_{t-1} follows from its affine structure
    blocks: tuple[Blocks, ...]  # J is stored as a vector, blocks one after the other
    padded: bool  # whether some blocks have rows that are nowhere
    size: int  # of that vector
    seeds: np.ndarray  # (C, n): which rows of I each of C vector-Jacobian products adds up
    targets: np.ndarray  # (C, P): where in the vector its entries belong; `size` if nowhere
    identity: np.ndarray  # where in the vector a learnt initial state's influence on itself is, 1 before the first step
    sources: np.ndarray | None  # (size,): which of the C P entries belongs there, C P if none; where most have one
    gather: np.ndarray  # (P,): where a parameter is among all blocks' columns; their number if nowhere


class InfluenceCarry(NamedTuple):
    """The state, and its influence matrix in the order of the layout."""

    state: State
    influence: Array


def _init(
    problem: Problem, kept: Kept | None, budget: int, params: Params, state: State, x: Any, key: Array | None = None
) -> InfluenceCarry:
    """J_0, which is 0 but for a learnt initial state; kept=None is all of J."""
    del key
    reals, weights = real_shapes(problem, params, state)
    dtype = wide_dtype([*reals, *weights])
    if kept is None:
        columns = sum(a.size for a in traced_shapes(problem, reals, weights))
        _check_budget("rtrl", sum(a.size for a in reals) * columns, dtype, budget)
    layout = layout_of(problem, kept, params, state, x)
    _check_budget("snap", layout.size, dtype, budget)
    return InfluenceCarry(state, jnp.zeros(layout.size, dtype).at[layout.identity].set(1))


def _update(
    problem: Problem, kept: Kept | None, params: Params, carry: InfluenceCarry, x: Any, y: Any
) -> tuple[InfluenceCarry, Array, Params]:
    """One step: the state and the influence go on."""
    layout = layout_of(problem, kept, params, carry.state, x)
    function, weights, reals = local_step(problem, params, carry.state, x)
    _, pull, new_state = jax.vjp(function, weights, reals, has_aux=True)

    if layout.cell is None:
        onward = transition(lambda cotangent: pull(cotangent)[1], reals)
    else:
        onward = affine_transition(layout.cell, problem.select(params), carry.state, x)
    dtype = carry.influence.dtype
    onward, seeds = (jnp.asarray(a, dtype) for a in (onward, layout.seeds))
    immediate = jax.vmap(lambda seed: ravel(pull(unravel(seed, reals))[0], dtype))(seeds)
    nowhere = (0, int(layout.padded))  # a row of zeros, if blocks have it
    influence = _advance(layout, jnp.pad(onward, nowhere), immediate, carry.influence)

    value, direct, cotangent = loss_gradient(problem, params, new_state, y)
    recurrent = _contract(layout, jnp.pad(ravel(cotangent, dtype), nowhere), influence)
    grads = with_traced(problem, params, direct, recurrent, reals, weights)
    return InfluenceCarry(new_state, influence), value, grads


def _advance(layout: Layout, onward: Array, immediate: Array, influence: Array) -> Array:
    """D J + I; where D is 0, as at the beginning of an episode, nothing of J goes on, overflowed or not."""
    if not layout.blocks:  # the step has no parameters
        return influence
    blocks = _split(layout, influence)
    pairs = [
        (onward[rows[:, :, None], rows[:, None, :]], block)
        for (rows, _), block in zip(layout.blocks, blocks, strict=True)
    ]
    carried = lax.cond(
        jnp.any(onward != 0),
        lambda: jnp.concatenate([jnp.einsum("gkl,glm->gkm", *pair).ravel() for pair in pairs]),
        lambda: jnp.zeros_like(influence),
    )
    if layout.sources is None:
        return carried.at[jnp.asarray(layout.targets)].add(immediate, mode="drop")
    return carried + jnp.append(immediate.ravel(), 0)[layout.sources]


def _contract(layout: Layout, cotangent: Array, influence: Array) -> Array:
    """(∂l/∂s) J, a number for each parameter.

    A cotangent of 0 has no part in it, also where the influence has overflowed and 0 times it is NaN. That is looked
    after where it has happened, as it takes one more pass over the matrix.
    """
    blocks = _split(layout, influence)
    pairs = [(cotangent[rows], block) for (rows, _), block in zip(layout.blocks, blocks, strict=True)]
    plain = _products(pairs, influence.dtype)
    found = lax.cond(
        jnp.all(jnp.isfinite(plain)),
        lambda: plain,
        lambda: _products([(c, jnp.where(c[:, :, None] == 0, 0, block)) for c, block in pairs], influence.dtype),
    )
    return jnp.append(found, 0)[layout.gather]


def _products(pairs: list[tuple[Array, Array]], dtype: Any) -> Array:
    """The vectors (G, K) times their blocks (G, K, M), one after the other."""
    return jnp.concatenate([jnp.zeros(0, dtype), *(jnp.einsum("gk,gkm->gm", *pair).ravel() for pair in pairs)])


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


def layout_of(problem: Problem, kept: Kept | None, params: Params, state: State, x: Any) -> Layout:
    """The layout for arguments of these shapes."""
    return _layout(problem, kept, *hashable(jax.eval_shape(lambda: (params, state, x))))


@functools.lru_cache(maxsize=32)
def _layout(problem: Problem, kept: Kept | None, leaves: tuple[Any, ...], structure: Any) -> Layout:
    found = structure_of(problem, leaves, structure)
    n, inputs = found.pattern.shape
    pattern = sp.csc_array(found.pattern)
    immediate, onward = pattern[:, : inputs - n], pattern[:, inputs - n :]
    if kept is None:
        reached = None
    elif kept.pattern is None:
        warn_of_density(problem.step, found.without_rule)
        reached = _reached(immediate, onward, kept.order)
    else:
        _check_pattern(kept.pattern, n, inputs - n)
        given, onward = map(sp.csc_array, (kept.pattern.params, kept.pattern.state))
        reached = _reached(given, onward, kept.order)
        immediate = given if found.without_rule else immediate
    initial = 0 if problem.initial_state is None else n
    if kept is not None and initial:
        of_itself = _reached(sp.eye_array(n, dtype=bool, format="csc"), onward, kept.order)
        reached = sp.csc_array(sp.hstack([reached, of_itself], format="csc", dtype=bool))
    cell = affine_by_unit(problem, *structure.unflatten(leaves))
    return _arranged(cell, immediate, reached, initial)


def _check_pattern(pattern: SparsityPattern, n: int, parameters: int) -> None:
    if pattern.params.shape != (n, parameters):
        raise ValueError(
            f"pattern.params has shape {pattern.params.shape}, expected {(n, parameters)}: "
            "numbers in the state, parameters that the step sees"
        )


def _reached(immediate: Pattern, onward: Pattern, order: int) -> Pattern:
    """Where I + D I + ... + D^(order-1) I may be other than zero."""
    reached = immediate
    for _ in range(order - 1):
        new_state = sp.csc_array(immediate + onward @ reached)
        if new_state.nnz == reached.nnz:
            break
        reached = new_state
    return reached


def _arranged(cell: Cell | None, immediate: Pattern, kept: Pattern | None, initial: int) -> Layout:
    """The layout for the pattern of I, (n, P), and for that of what is kept of J, None for all of it.

    After the parameters J has a column for each of `initial` numbers of an initial state that is learnt, I has none.
    """
    n, parameters = immediate.shape
    columns_of_j = parameters + initial
    alike = _columns_alike(immediate)
    if kept is None:
        groups = [(np.arange(n), np.arange(columns_of_j))]
    else:
        groups = alike if kept is immediate else _columns_alike(kept)
    groups = sorted(_of_few_sizes(groups, n, columns_of_j), key=_size)
    # Of each parameter, and of one for padding: its block, where its first row is stored, how far apart its rows are.
    block_of, first, stride = (np.zeros(columns_of_j + 1, int) for _ in range(3))
    rank = np.zeros((len(groups), n + 1), int)  # of a row in a block
    size, gathered = 0, 0
    gather = np.full(columns_of_j + 1, sum(len(columns) for _, columns in groups))
    for index, (rows, columns) in enumerate(groups):
        rank[index, rows] = np.arange(len(rows))
        block_of[columns], stride[columns] = index, len(columns)
        first[columns] = size + np.arange(len(columns))
        gather[columns] = gathered + np.arange(len(columns))
        size, gathered = size + len(rows) * len(columns), gathered + len(columns)
    equal = [list(alike) for _, alike in itertools.groupby(groups, key=_size)]
    blocks = tuple(Blocks(*map(np.stack, zip(*alike, strict=True))) for alike in equal)
    colours = _colours(immediate, alike)
    seeds = colours == np.arange(colours.max(initial=0) + 1)[:, None]
    row, column = (
        (immediate if kept is None or kept is immediate else immediate.multiply(kept[:, :parameters])).tocoo().coords
    )

    def place(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return first[column] + rank[block_of[column], row] * stride[column]

    targets = np.full((len(seeds), parameters), size)
    targets[colours[row], column] = place(row, column)
    identity = place(np.arange(initial), parameters + np.arange(initial)).astype(np.int32)
    padded = any(np.any(block.rows == n) for block in blocks)
    sources, targets, gather = _sources(targets, size), targets.astype(np.int32), gather[:-1].astype(np.int32)
    return Layout(cell, blocks, padded, size, seeds, targets, identity, sources, gather)


def _size(group: tuple[np.ndarray, np.ndarray]) -> tuple[int, int]:
    rows, columns = group
    return len(rows), len(columns)


def _of_few_sizes(
    groups: list[tuple[np.ndarray, np.ndarray]], n: int, parameters: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The groups; where they are of many sizes, padded with the row n and the column `parameters`, which are nowhere.

    Each size is a product of its own. SnAp-2 of a sparse GRU with 128 units has blocks of 94 sizes, padded 17, with a
    seventh more numbers, and compiles in a fifth of the time.
    """
    if len(set(map(_size, groups))) <= _SIZES:
        return groups

    def padded(numbers: np.ndarray, nowhere: int) -> np.ndarray:
        unit = 2 ** max(len(numbers).bit_length() - 3, 0)  # 8, 10, 12, 14, 16, 20, 24 and so on
        return np.pad(numbers, (0, -len(numbers) % unit), constant_values=nowhere)

    return [(padded(rows, n), padded(columns, parameters)) for rows, columns in groups]


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
    counts = np.diff(pattern.indptr)
    columns = np.flatnonzero(counts)
    if not len(columns):
        return []
    first, kind = _kinds(pattern.indices, pattern.indptr[columns], counts[columns])
    members = np.split(columns[np.argsort(kind, kind="stable")], np.cumsum(np.bincount(kind))[:-1])
    begins = pattern.indptr[columns[first]]
    return [
        (pattern.indices[begin : begin + counts[group[0]]].astype(np.int64), group)
        for begin, group in zip(begins, members, strict=True)
    ]


def _kinds(indices: np.ndarray, begins: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of runs of indices, the first of each kind, and the kind of each.

    They are told apart by sums of random numbers, and then compared. A dictionary of them takes 5 s for the two million
    columns of an LSTM with 512 units.
    """
    seed = 0
    while True:
        numbers = np.random.default_rng(seed).integers(2**63, size=indices.max() + 1, dtype=np.uint64)
        sums = np.add.reduceat(numbers[indices], begins)
        changes = np.concatenate([[True], sums[1:] != sums[:-1]])  # many neighbours are alike: there is less to sort
        starts = np.flatnonzero(changes)
        _, first, kind = np.unique(sums[starts], return_index=True, return_inverse=True)
        first, kind = starts[first], kind[np.cumsum(changes) - 1]
        if np.array_equal(counts[first][kind], counts):
            examples = np.arange(len(indices)) + np.repeat(begins[first][kind] - begins, counts)
            if np.array_equal(indices[examples], indices):
                return first, kind
        seed += 1


def _colours(pattern: Pattern, groups: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """A colour for each row, another wherever two rows have an entry in the same column, given the columns alike."""
    examples = sp.csr_array(pattern[:, [columns[0] for _, columns in groups]].astype(np.int64))
    shared: Pattern = sp.csr_array(examples @ examples.T)
    colours = np.full(pattern.shape[0], -1)
    for row, (begin, end) in enumerate(itertools.pairwise(shared.indptr)):
        taken = set(colours[shared.indices[begin:end]].tolist())
        colours[row] = next(colour for colour in itertools.count() if colour not in taken)
    return colours
