"""Which entries of a function's Jacobian can be other than zero, read off the jaxpr of its tangent.

Each element of each intermediate array gets the set of input elements whose tangents it depends on. Operations that
only move elements are run on the elements' numbers; elementwise ones, sums and products of matrices unite the sets; of
whatever else there is, loops included, every output is taken to depend on all inputs. Products with constant zeros, as
of a mask on a weight, depend on nothing. So the pattern may hold too many entries, never too few. A function that holds
a `custom_vjp` has no tangent: its own jaxpr is looked at then, and of a custom derivative all depends on all inputs.
"""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from ...._core.compat import (
    called_jaxpr,
    evaluate,
    has_no_forward_mode,
    is_concrete,
    is_pure,
    output_shapes,
    run_jaxpr,
)

Pattern: TypeAlias = Any  # a scipy.sparse.csr_array of bools


class _Value(NamedTuple):
    """What is known of an array."""

    depends: Pattern  # (elements, inputs)
    zero: np.ndarray  # its shape: which elements are 0 whatever the inputs
    known: Any = None  # its value, if no input has a part in it


def jacobian_pattern(function: Callable, arguments: tuple[Any, ...], others: tuple[Any, ...] = ()) -> Pattern:
    """(elements of the outputs, elements of the arguments), True where a derivative may be other than zero.

    Of `function(*arguments, *others)`. All are pytrees of arrays, or of their shapes; arguments and outputs are
    floating-point; elements are numbered leaf by leaf, in C order.
    """
    closed = tangent_jaxpr(function, arguments, others)
    if closed is None:
        closed = jax.make_jaxpr(lambda others, arguments: function(*arguments, *others))(others, arguments)
    shapes = [leaf.shape for leaf in jax.tree.leaves(arguments)]
    total = sum(map(math.prod, shapes))
    inputs = [_independent(aval.shape, total) for aval in closed.in_avals]
    start = 0
    for index, shape in enumerate(shapes, len(inputs) - len(shapes)):
        depends = _one_each(np.arange(start, start + math.prod(shape)), total)
        inputs[index] = inputs[index]._replace(depends=depends)
        start += math.prod(shape)
    outputs = _run(closed, inputs, total)
    return sp.csr_array(sp.vstack([value.depends for value in outputs], format="csr", dtype=bool))


def tangent_jaxpr(function: Callable, arguments: tuple[Any, ...], others: tuple[Any, ...]) -> Any:
    """The tangent of `function(*arguments, *others)` as a function of those, and of the arguments' tangents last.

    None if there is none, as of a function that holds a `custom_vjp`.
    """

    def tangent(primals: tuple[Any, ...], others: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
        return jax.jvp(lambda *primals: function(*primals, *others), primals, tangents)[1]

    try:
        return jax.make_jaxpr(tangent)(arguments, others, arguments)
    except TypeError as error:
        if not has_no_forward_mode(error):
            raise
        return None


def _none(size: int, width: int) -> Pattern:
    """Rows without any entry."""
    return sp.csr_array((size, width), dtype=bool)


def _one_each(columns: np.ndarray, width: int) -> Pattern:
    """A row for each entry of columns, with that element alone; none for entries that are no column."""
    columns = columns.ravel()
    rows = np.flatnonzero((columns >= 0) & (columns < width))
    return _ones(rows, columns[rows], (len(columns), width))


def _ones(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> Pattern:
    return sp.csr_array((np.ones(len(rows), bool), (rows, columns)), shape=shape)


def _run(closed: Any, arguments: list[_Value], inputs: int) -> list[_Value]:
    """The outputs of a jaxpr."""

    def apply(equation: Any, operands: list[_Value]) -> list[_Value]:
        return _apply(equation, operands, inputs)

    return run_jaxpr(closed, arguments, apply, lambda value: _constant(value, inputs))


def _independent(shape: tuple[int, ...], inputs: int, known: Any = None) -> _Value:
    """An array that depends on no input, and may be other than zero anywhere."""
    return _Value(_none(math.prod(shape), inputs), np.zeros(shape, bool), known)


def _constant(value: Any, inputs: int) -> _Value:
    if not is_concrete(value):
        return _independent(value.shape, inputs)
    if jnp.issubdtype(jnp.result_type(value), jax.dtypes.extended):  # keys
        return _independent(value.shape, inputs, value)
    array = np.asarray(value)
    return _Value(_none(array.size, inputs), array == 0, array)


def _apply(equation: Any, operands: list[_Value], inputs: int) -> list[_Value]:
    """The results of one operation: what it calls, what is known, or what its rule says."""
    called = called_jaxpr(equation)
    if called is not None:
        return _run(called, operands, inputs)
    if all(operand.known is not None for operand in operands) and is_pure(equation):
        return [_constant(value, inputs) for value in evaluate(equation, [operand.known for operand in operands])]
    return _RULES.get(equation.primitive.name, _dense)(equation, operands, inputs)


# Of one operation, its operands and the number of the inputs' elements, the results.
_Rule: TypeAlias = Callable[[Any, list[_Value], int], list[_Value]]
_RULES: dict[str, _Rule] = {}  # by the primitive's name; what has none is dense


def _rule(primitives: str) -> Callable[[_Rule], _Rule]:
    """Makes a function the rule of these primitives."""

    def register(rule: _Rule) -> _Rule:
        _RULES.update(dict.fromkeys(primitives.split(), rule))
        return rule

    return register


def _dense(equation: Any, operands: list[_Value], inputs: int) -> list[_Value]:
    """Every element depends on all that any operand depends on."""
    columns = functools.reduce(np.union1d, (operand.depends.indices for operand in operands), np.zeros(0, np.int32))

    def mixed(shape: tuple[int, ...]) -> _Value:
        size = math.prod(shape)
        rows = np.repeat(np.arange(size), len(columns))
        return _Value(_ones(rows, np.tile(columns, size), (size, inputs)), np.zeros(shape, bool))

    return [mixed(shape) for shape in output_shapes(equation)]


@_rule("stop_gradient")
def _stop_gradient(equation: Any, operands: list[_Value], inputs: int) -> list[_Value]:
    del equation
    return [_Value(_none(operands[0].zero.size, inputs), operands[0].zero)]


# Elementwise: each output element is a function of the elements at the same place in the inputs.


@_rule("""
    acos acosh and asin asinh atan atan2 atanh cbrt ceil clamp copy_p cos cosh digamma eq erf erf_inv erfc exp exp2
    expm1 floor ge gt integer_pow is_finite le lgamma log log1p logistic lt max min name ne nextafter not or pow
    pvary real reduce_precision rem round rsqrt sinh xor
""")
def _elementwise(equation: Any, operands: list[_Value], inputs: int) -> list[_Value]:
    del inputs
    shape = output_shapes(equation)[0]
    return [_united(operands, np.zeros(shape, bool))]


@_rule("abs convert_element_type copy div neg sign sin sqrt square tan tanh")
def _zero_of_zero(equation: Any, operands: list[_Value], inputs: int) -> list[_Value]:
    del inputs
    return [_united(operands, _zeros(equation, operands)[0])]


@_rule("mul")
def _zero_where_one_is(equation: Any, operands: list[_Value], inputs: int) -> list[_Value]:
    del inputs
    left, right = _zeros(equation, operands)
    return [_united(operands, left | right)]


@_rule("add add_any sub")
def _zero_where_all_are(equation: Any, operands: list[_Value], inputs: int) -> list[_Value]:
    del inputs
    left, right = _zeros(equation, operands)
    return [_united(operands, left & right)]


@_rule("select_n")
def _select(equation: Any, operands: list[_Value], inputs: int) -> list[_Value]:
    """The elements of the case that is chosen, where that is known."""
    which, *cases = operands
    if which.known is None:
        return _elementwise(equation, operands, inputs)
    shape = output_shapes(equation)[0]
    chosen = np.broadcast_to(which.known, shape).astype(int)
    parts = [_rows(case, shape, chosen == index) for index, case in enumerate(cases)]
    return [_Value(_union(parts), np.choose(chosen, _zeros(equation, cases)))]


def _zeros(equation: Any, operands: list[_Value]) -> list[np.ndarray]:
    """Where each operand is zero, in the result's shape."""
    return [np.broadcast_to(operand.zero, output_shapes(equation)[0]) for operand in operands]


def _united(operands: list[_Value], zero: np.ndarray) -> _Value:
    """What depends on the elements of all operands but where it is zero."""
    return _Value(_union([_rows(operand, zero.shape, ~zero) for operand in operands]), zero)


def _rows(operand: _Value, shape: tuple[int, ...], where: np.ndarray) -> Pattern:
    """What the operand's elements depend on, broadcast to a shape; nothing but `where`."""
    numbers = np.broadcast_to(np.arange(operand.zero.size).reshape(operand.zero.shape), shape)
    return _taken(operand.depends, np.where(where, numbers, -1))


def _taken(depends: Pattern, numbers: np.ndarray) -> Pattern:
    """The rows of these numbers, empty ones for those that are out of range."""
    return sp.csr_array(_one_each(numbers, depends.shape[0]) @ depends)


def _union(parts: list[Pattern]) -> Pattern:
    return functools.reduce(operator.add, parts)


# Moves: output elements are input elements, or constants.


@_rule("broadcast_in_dim dynamic_slice expand_dims gather reshape rev slice split squeeze transpose")
def _move_one(equation: Any, operands: list[_Value], inputs: int) -> list[_Value]:
    return _moved(equation, operands, inputs, (0,))


@_rule("dynamic_update_slice pad")
def _move_two(equation: Any, operands: list[_Value], inputs: int) -> list[_Value]:
    return _moved(equation, operands, inputs, (0, 1))


@_rule("scatter")
def _scatter(equation: Any, operands: list[_Value], inputs: int) -> list[_Value]:
    return _moved(equation, operands, inputs, (0, 2))


@_rule("concatenate")
def _concatenate(equation: Any, operands: list[_Value], inputs: int) -> list[_Value]:
    return _moved(equation, operands, inputs, tuple(range(len(operands))))


def _moved(equation: Any, operands: list[_Value], inputs: int, which: tuple[int, ...]) -> list[_Value]:
    """The operation, run on the elements' numbers: all of the operands `which` in one row, numbers from 1.

    The other operands say where to; if one of them is not known, the operation is dense.
    """
    if any(operand.known is None for index, operand in enumerate(operands) if index not in which):
        return _dense(equation, operands, inputs)
    moved = [operands[index] for index in which]
    arguments, start = [operand.known for operand in operands], 1
    for index in which:
        zero = operands[index].zero
        arguments[index] = np.arange(start, start + zero.size, dtype=np.int32).reshape(zero.shape)
        start += zero.size
    depends = sp.csr_array(sp.vstack([operand.depends for operand in moved], format="csr", dtype=bool))
    zero = np.concatenate([operand.zero.ravel() for operand in moved])
    values = []
    for result in evaluate(equation, arguments):
        places = np.asarray(result) - 1
        inside = (places >= 0) & (places < zero.size)
        values.append(_Value(_taken(depends, places), zero[np.where(inside, places, 0)] & inside))
    return values


# Sums over axes, and products of matrices.


@_rule("argmax argmin reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum")
def _reduce(equation: Any, operands: list[_Value], inputs: int) -> list[_Value]:
    del inputs
    operand, axes, shape = operands[0], equation.params["axes"], output_shapes(equation)[0]
    numbers = np.arange(operand.zero.size).reshape(operand.zero.shape)
    group = math.prod(operand.zero.shape[axis] for axis in axes)
    groups = np.moveaxis(numbers, axes, range(-len(axes), 0)).reshape(math.prod(shape), group)
    rows = np.repeat(np.arange(len(groups)), groups.shape[1])
    depends = sp.csr_array(_ones(rows, groups.ravel(), (len(groups), numbers.size)) @ operand.depends)
    return [_Value(depends, np.zeros(shape, bool))]


@_rule("dot_general")
def _product(equation: Any, operands: list[_Value], inputs: int) -> list[_Value]:
    if not any(operand.depends.nnz for operand in operands):
        return _dense(equation, operands, inputs)
    (left, right), shape = operands, output_shapes(equation)[0]
    (contract_left, contract_right), (batch_left, batch_right) = equation.params["dimension_numbers"]
    numbers_left = _matrices(left.zero.shape, batch_left, contract_left)  # (batch, free, contracted)
    numbers_right = _matrices(right.zero.shape, batch_right, contract_right)
    used = ~left.zero.ravel()[numbers_left][:, :, None] & ~right.zero.ravel()[numbers_right][:, None, :]
    batch, i, j, k = np.nonzero(used)
    rows = np.ravel_multi_index((batch, i, j), used.shape[:3])
    size = math.prod(shape)
    depends = _union(
        [
            sp.csr_array(_ones(rows, numbers[batch, free, k], (size, operand.zero.size)) @ operand.depends)
            for operand, numbers, free in ((left, numbers_left, i), (right, numbers_right, j))
        ]
    )
    return [_Value(depends, np.reshape(~used.any(axis=3), shape))]


def _matrices(shape: tuple[int, ...], batch: tuple[int, ...], contract: tuple[int, ...]) -> np.ndarray:
    """The numbers of an array's elements as (batch, free, contracted)."""
    free = [axis for axis in range(len(shape)) if axis not in (*batch, *contract)]
    numbers = np.arange(math.prod(shape)).reshape(shape).transpose(*batch, *free, *contract)
    sizes = [math.prod(shape[axis] for axis in axes) for axes in (batch, free, contract)]
    return numbers.reshape(sizes)
