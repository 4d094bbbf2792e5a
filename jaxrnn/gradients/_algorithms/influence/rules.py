"""What the results of each operation depend on.

The functions that are looked at are linear, in tangents or cotangents. So what is not linear has operands that depend
on nothing, and only its zeros are of interest.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np
from jax import lax

from ...._core.compat import evaluate, output_shapes
from .dependence import (
    Pattern,
    Value,
    none,
    numbers_of,
    one_each,
    ones,
    related,
    rows,
    stacked,
    taken,
    union,
    united,
)

# Of one operation and its operands, the results.
Rule: TypeAlias = Callable[[Any, list[Value]], list[Value]]
RULES: dict[str, Rule] = {}  # by the primitive's name


def _rule(primitives: str) -> Callable[[Rule], Rule]:
    """Makes a function the rule of these primitives."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(primitives.split(), rule))
        return rule

    return register


# Elementwise: each output element is a function of the elements at the same place in the inputs.


@_rule("""
    abs asin asinh atan atanh cbrt ceil complex conj convert_element_type copy copy_p div erf expm1 floor imag log1p
    name neg pvary real reduce_precision round sign sin sinh sqrt square stop_gradient tan tanh
""")
def _zero_of_zero(equation: Any, operands: list[Value]) -> list[Value]:
    zero, *others = _zeros(equation, operands)
    if equation.primitive.name == "complex":
        zero = zero & others[0]
    return [united(operands, zero)]


@_rule("and mul")
def _zero_where_one_is(equation: Any, operands: list[Value]) -> list[Value]:
    left, right = _zeros(equation, operands)
    return [united(operands, left | right)]


@_rule("add add_any max min or sub")
def _zero_where_all_are(equation: Any, operands: list[Value]) -> list[Value]:
    left, right = _zeros(equation, operands)
    return [united(operands, left & right)]


@_rule("select_n")
def _select(equation: Any, operands: list[Value]) -> list[Value]:
    """The elements of the case that is chosen, where that is known."""
    which, *cases = operands
    zeros = _zeros(equation, cases)
    if which.known is None:
        return [united(cases, np.logical_and.reduce(zeros))]
    shape = output_shapes(equation)[0]
    chosen = np.broadcast_to(which.known, shape).astype(int)
    parts = [rows(case, shape, chosen == index) for index, case in enumerate(cases)]
    return [Value(union(parts), np.choose(chosen, zeros))]


@_rule("optimization_barrier")
def _same(equation: Any, operands: list[Value]) -> list[Value]:
    del equation
    return operands


def _zeros(equation: Any, operands: list[Value]) -> list[np.ndarray]:
    """Where each operand is zero, in the result's shape."""
    return [np.broadcast_to(operand.zero, output_shapes(equation)[0]) for operand in operands]


# Moves: output elements are input elements, or constants.


@_rule("broadcast_in_dim concatenate expand_dims pad reshape rev slice split squeeze stack tile transpose unstack")
def _move(equation: Any, operands: list[Value]) -> list[Value]:
    """The operation, run on the elements' numbers: those of all operands in one row, from 1."""
    starts = np.cumsum([1, *(operand.zero.size for operand in operands)])
    numbers = [(numbers_of(operand) + start).astype(np.int32) for operand, start in zip(operands, starts, strict=False)]
    depends = stacked([operand.depends for operand in operands])
    zero = np.concatenate([operand.zero.ravel() for operand in operands])
    return [_moved(depends, zero, np.asarray(places) - 1) for places in evaluate(equation, numbers)]


def _moved(depends: Pattern, zero: np.ndarray, places: np.ndarray) -> Value:
    """The elements of these numbers; where there is none, something else."""
    inside = (places >= 0) & (places < zero.size)
    return Value(taken(depends, places), np.append(zero, False)[np.where(inside, places, zero.size)])


@_rule("gather")
def _gather(equation: Any, operands: list[Value]) -> list[Value]:
    operand, indices = operands
    anywhere = () if indices.known is not None else equation.params["dimension_numbers"].start_index_map
    return [_from_places(equation, operand, [_or_zeros(indices)], anywhere)]


@_rule("dynamic_slice")
def _dynamic_slice(equation: Any, operands: list[Value]) -> list[Value]:
    operand, *starts = operands
    anywhere = _unknown_axes(starts, operand.zero.shape, equation.params["slice_sizes"])
    return [_from_places(equation, operand, list(map(_or_zeros, starts)), anywhere)]


def _from_places(equation: Any, operand: Value, indices: list[np.ndarray], anywhere: tuple[int, ...]) -> Value:
    """The operation on the elements' numbers; on the axes `anywhere` the indices are not known."""
    first = _first_along(operand, anywhere)
    (places,) = evaluate(equation, [(first + 1).astype(np.int32), *indices])
    pooled = related(ones(first.ravel(), numbers_of(operand).ravel(), (first.size, first.size)), operand)
    zero = operand.zero.ravel() if not anywhere else np.zeros(first.size, bool)
    return _moved(pooled, zero, np.asarray(places) - 1)


@_rule("scatter scatter-add scatter-sub scatter-mul scatter-min scatter-max")
def _scatter(equation: Any, operands: list[Value]) -> list[Value]:
    operand, indices, updates = operands
    dimensions = equation.params["dimension_numbers"]
    anywhere = () if indices.known is not None else dimensions.scatter_dims_to_operand_dims
    inserted = {*dimensions.inserted_window_dims, *dimensions.operand_batching_dims}
    window = iter(dimensions.update_window_dims)
    axes = range(operand.zero.ndim)
    sizes = [1 if axis in inserted else updates.zero.shape[next(window)] for axis in axes]
    backwards = lax.GatherDimensionNumbers(
        offset_dims=dimensions.update_window_dims,
        collapsed_slice_dims=dimensions.inserted_window_dims,
        start_index_map=dimensions.scatter_dims_to_operand_dims,
        operand_batching_dims=dimensions.operand_batching_dims,
        start_indices_batching_dims=dimensions.scatter_indices_batching_dims,
    )
    with jax.ensure_compile_time_eval():
        numbers = numbers_of(operand).astype(np.int32)
        mode = equation.params["mode"]
        places = lax.gather(numbers, _or_zeros(indices), backwards, sizes, mode=mode, fill_value=-1)
    return [_written(equation.primitive.name, operand, updates, np.asarray(places).ravel(), anywhere)]


@_rule("dynamic_update_slice")
def _dynamic_update_slice(equation: Any, operands: list[Value]) -> list[Value]:
    del equation
    operand, updates, *starts = operands
    anywhere = _unknown_axes(starts, operand.zero.shape, updates.zero.shape)
    with jax.ensure_compile_time_eval():
        numbers = numbers_of(operand).astype(np.int32)
        places = lax.dynamic_slice(numbers, list(map(_or_zeros, starts)), updates.zero.shape)
    return [_written("scatter", operand, updates, np.asarray(places).ravel(), anywhere)]


def _written(how: str, operand: Value, updates: Value, places: np.ndarray, anywhere: tuple[int, ...]) -> Value:
    """The operand with the updates at, added to, or multiplied with the elements of these numbers.

    On the axes `anywhere` an update may go to any place.
    """
    size, shape = operand.zero.size, operand.zero.shape
    first = _first_along(operand, anywhere).ravel()
    given = np.flatnonzero(places >= 0)
    met = one_each(first, size) @ ones(first[places[given]], given, (size, updates.zero.size))  # by an update
    touched = np.diff(met.indptr).reshape(shape) > 0
    of_zeros, of_others = ((met @ mask).reshape(shape) > 0 for mask in (updates.zero.ravel(), ~updates.zero.ravel()))
    overwritten = touched & (how == "scatter" and not anywhere)
    if how == "scatter-mul":
        zero = operand.zero | (of_zeros & (not anywhere))
    else:
        zero = (operand.zero | overwritten) & ~of_others
    kept = rows(operand, shape, ~zero & ~overwritten)
    return Value(union([kept, related(met, updates)]), zero)


def _unknown_axes(starts: list[Value], shape: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[int, ...]:
    """On which it is not known where a slice of these sizes begins."""
    return tuple(a for a, start in enumerate(starts) if start.known is None and sizes[a] < shape[a])


def _or_zeros(indices: Value) -> np.ndarray:
    """The indices, if they are known."""
    return np.zeros(indices.zero.shape, np.int32) if indices.known is None else indices.known


def _first_along(value: Value, axes: tuple[int, ...]) -> np.ndarray:
    """Of each element, the number of the first that differs from it along these axes only."""
    numbers = numbers_of(value)
    if numbers.size:
        for axis in axes:
            numbers = np.broadcast_to(numbers.take([0], axis), numbers.shape)
    return numbers


# Sums over axes, parts of axes, and of products.


@_rule("reduce_max reduce_min reduce_prod reduce_sum")
def _reduce(equation: Any, operands: list[Value]) -> list[Value]:
    operand, axes, shape = operands[0], equation.params["axes"], output_shapes(equation)[0]
    group = math.prod(operand.zero.shape[axis] for axis in axes)
    members = np.moveaxis(numbers_of(operand), axes, range(-len(axes), 0)).reshape(math.prod(shape), group)
    zeros = np.logical_or if equation.primitive.name == "reduce_prod" else np.logical_and
    return [_sum(operand, members, zeros.reduce(operand.zero, axis=axes))]


@_rule("cumsum cumprod cummax cummin")
def _cumulate(equation: Any, operands: list[Value]) -> list[Value]:
    (operand,), axis, reverse = operands, equation.params["axis"], equation.params["reverse"]
    lines = np.moveaxis(numbers_of(operand), axis, -1)  # (..., n)
    n = lines.shape[-1]
    until = (np.triu if reverse else np.tril)(np.ones((n, n), bool))
    members = np.moveaxis(np.where(until, lines[..., None, :], -1), -2, axis).reshape(operand.zero.size, n)
    accumulate = (np.logical_or if equation.primitive.name == "cumprod" else np.logical_and).accumulate
    zero = np.flip(accumulate(np.flip(operand.zero, axis), axis), axis) if reverse else accumulate(operand.zero, axis)
    return [_sum(operand, members, zero)]


@_rule("reduce_window_sum")
def _sum_windows(equation: Any, operands: list[Value]) -> list[Value]:
    (operand,), shape, params = operands, output_shapes(equation)[0], equation.params
    members = _windows(
        operand.zero.shape, shape, params["window_dimensions"], params["window_strides"], params["padding"],
        params["base_dilation"], params["window_dilation"],
    ).reshape(math.prod(shape), -1)  # fmt: skip
    return [
        _sum(operand, members, np.logical_and.reduce(np.append(operand.zero, True)[members], axis=1).reshape(shape))
    ]


def _sum(operand: Value, members: np.ndarray, zero: np.ndarray) -> Value:
    """Of the elements of these numbers (results, K), -1 for none."""
    row, _ = np.nonzero(members >= 0)
    relation = ones(row, members[members >= 0], (len(members), operand.zero.size))
    return Value(related(relation, operand), zero)


@_rule("dot_general")
def _product(equation: Any, operands: list[Value]) -> list[Value]:
    (contract_left, contract_right), (batch_left, batch_right) = equation.params["dimension_numbers"]

    def factors() -> tuple[np.ndarray, np.ndarray]:
        left, right = map(numbers_of, operands)
        left = _matrices(left, batch_left, contract_left)[:, :, None]
        return left, _matrices(right, batch_right, contract_right)[:, None]

    return [_sum_of_products(equation, operands, factors)]


def _matrices(numbers: np.ndarray, batch: tuple[int, ...], contract: tuple[int, ...]) -> np.ndarray:
    """The array as (batch, free, contracted)."""
    free = [axis for axis in range(numbers.ndim) if axis not in (*batch, *contract)]
    sizes = [math.prod(numbers.shape[axis] for axis in axes) for axes in (batch, free, contract)]
    return numbers.transpose(*batch, *free, *contract).reshape(sizes)


@_rule("conv_general_dilated")
def _convolve(equation: Any, operands: list[Value]) -> list[Value]:
    """Each result is a sum over channels and a window of the first operand, times the kernel."""
    params = equation.params
    specs = params["dimension_numbers"]

    def factors() -> tuple[np.ndarray, np.ndarray]:
        left = numbers_of(operands[0]).transpose(specs.lhs_spec)  # (batch, channels, *places)
        kernel = numbers_of(operands[1]).transpose(specs.rhs_spec)  # (features, channels of a group, *window)
        results = np.arange(math.prod(shape)).reshape(shape).transpose(specs.out_spec)  # (batch, features, *places)
        windows = _windows(
            left.shape[2:], results.shape[2:], kernel.shape[2:], params["window_strides"], params["padding"],
            params["lhs_dilation"], params["rhs_dilation"],
        ).reshape(-1, 1, math.prod(kernel.shape[2:]))  # fmt: skip
        features, channels = kernel.shape[:2]
        feature, batch = np.arange(features)[:, None, None, None], np.arange(len(results))[:, None, None, None, None]
        channel = feature // (features // params["feature_group_count"]) * channels + np.arange(channels)[:, None]
        batch = feature // (features // params["batch_group_count"]) * len(results) + batch
        places = left.reshape(*left.shape[:2], -1)[batch, channel, windows]  # (batch, features, places, channels, taps)
        terms = np.where(windows >= 0, places, -1).reshape(results.size, -1)
        taps = kernel.reshape(1, features, 1, -1).repeat(len(results), 0).repeat(len(windows), 2).reshape(terms.shape)
        order = np.argsort(results.ravel())
        return terms[order], taps[order]

    shape = output_shapes(equation)[0]
    return [_sum_of_products(equation, operands, factors)]


def _windows(
    sizes: Any, results: Any, window: Any, strides: Any, padding: Any, dilation: Any, window_dilation: Any
) -> np.ndarray:
    """(*results, *window): the number of the element, in an array of these sizes, that each sees there; -1 for none."""
    numbers, inside, rank = np.zeros((), int), np.ones((), bool), len(sizes)
    for axis in range(rank):
        place = np.arange(results[axis])[:, None] * strides[axis] - padding[axis][0]
        place = place + np.arange(window[axis]) * window_dilation[axis]
        is_one = (place % dilation[axis] == 0) & (place >= 0) & (place < sizes[axis] * dilation[axis])
        alone = [1] * (2 * rank)
        alone[axis], alone[rank + axis] = place.shape
        numbers = numbers * sizes[axis] + (place // dilation[axis]).reshape(alone)
        inside = inside & is_one.reshape(alone)
    return np.where(inside, numbers, -1)


def _sum_of_products(
    equation: Any, operands: list[Value], factors: Callable[[], tuple[np.ndarray, np.ndarray]]
) -> Value:
    """Of what factors gives: the numbers of both factors (results, terms), which are broadcast; -1 for none."""
    shape = output_shapes(equation)[0]
    size, inputs = math.prod(shape), operands[0].depends.shape[1]
    if not any(operand.depends.nnz or operand.zero.any() for operand in operands):
        return Value(none(size, inputs), np.zeros(shape, bool))
    numbers = factors()
    left, right = (~np.append(operand.zero, True)[n] for operand, n in zip(operands, numbers, strict=True))
    used = left & right
    terms = np.flatnonzero(used)
    row = terms // max(used.shape[-1], 1)
    parts = [
        related(ones(row, np.broadcast_to(n, used.shape).ravel()[terms], (size, operand.zero.size)), operand)
        for operand, n in zip(operands, numbers, strict=True)
        if operand.depends.nnz
    ]
    return Value(union([none(size, inputs), *parts]), np.logical_and.reduce(~used, axis=-1).reshape(shape))
