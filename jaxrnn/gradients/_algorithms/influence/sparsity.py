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
from jax.extend.core import Literal

from ...._core.compat import is_concrete

Pattern: TypeAlias = Any  # a scipy.sparse.csr_array of bools


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Each output element is a function of the elements at the same place in the inputs.
_ELEMENTWISE = _names("""
    abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy copy_p cos cosh
    digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le lgamma log log1p logistic lt max
    min mul name ne neg nextafter not or pow pvary real reduce_precision rem round rsqrt select_n sign sin sinh sqrt
    square sub tan tanh xor
""")
# Output elements are input elements, or constants.
_MOVES = _names("""
    broadcast_in_dim concatenate dynamic_slice dynamic_update_slice expand_dims gather pad reshape rev scatter slice
    split squeeze transpose
""")
_REDUCTIONS = _names("argmax argmin reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum")
# Operations that hold a jaxpr, and where.
_CALLS = {
    "closed_call": "call_jaxpr",
    "jit": "jaxpr",
    "remat2": "jaxpr",
}
_KEEP_ZERO = _names("abs convert_element_type copy neg sign sin sqrt square tan tanh")


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
    inputs = [
        _Value(_none(math.prod(var.aval.shape), total), np.zeros(var.aval.shape, bool)) for var in closed.jaxpr.invars
    ]
    start = 0
    for index, shape in enumerate(shapes, len(inputs) - len(shapes)):
        depends = _one_each(np.arange(start, start + math.prod(shape)), total)
        inputs[index] = inputs[index]._replace(depends=depends)
        start += math.prod(shape)
    outputs = _run(closed.jaxpr, closed.consts, inputs, total)
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
        if "custom_vjp" not in str(error):
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


def _run(jaxpr: Any, consts: Any, arguments: list[_Value], inputs: int) -> list[_Value]:
    """The outputs of a jaxpr."""
    environment: dict[Any, _Value] = {}

    def read(atom: Any) -> _Value:
        return _constant(atom.val, inputs) if isinstance(atom, Literal) else environment[atom]

    environment.update(zip(jaxpr.constvars, (_constant(const, inputs) for const in consts), strict=True))
    environment.update(zip(jaxpr.invars, arguments, strict=True))
    for equation in jaxpr.eqns:
        results = _apply(equation, [read(atom) for atom in equation.invars], inputs)
        environment.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _constant(value: Any, inputs: int) -> _Value:
    if not is_concrete(value):
        return _Value(_none(math.prod(value.shape), inputs), np.zeros(value.shape, bool))
    if jnp.issubdtype(jnp.result_type(value), jax.dtypes.extended):  # keys
        return _Value(_none(math.prod(value.shape), inputs), np.zeros(value.shape, bool), value)
    array = np.asarray(value)
    return _Value(_none(array.size, inputs), array == 0, array)


def _apply(equation: Any, operands: list[_Value], inputs: int) -> list[_Value]:
    """The results of one operation."""
    name = equation.primitive.name
    if name in _CALLS:
        inner = equation.params[_CALLS[name]]
        jaxpr, consts = (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())
        return _run(jaxpr, consts, operands, inputs)
    if all(operand.known is not None for operand in operands) and not equation.effects:
        with jax.ensure_compile_time_eval():
            results = equation.primitive.bind(*(operand.known for operand in operands), **equation.params)
        return [_constant(a, inputs) for a in (results if equation.primitive.multiple_results else [results])]
    shapes = [var.aval.shape for var in equation.outvars]
    if name == "stop_gradient":
        return [_Value(_none(*operands[0].depends.shape), operands[0].zero)]
    if name in _ELEMENTWISE:
        return [_elementwise(name, operands, shapes[0])]
    if name in _MOVES:
        moved = _which_move(name, len(operands))
        if all(operand.known is not None for index, operand in enumerate(operands) if index not in moved):
            return _moved(equation, operands, moved)
    if not any(operand.depends.nnz for operand in operands):
        return [_Value(_none(math.prod(shape), inputs), np.zeros(shape, bool)) for shape in shapes]
    if name in _REDUCTIONS:
        return [_reduced(operands[0], equation.params["axes"], shapes[0])]
    if name == "dot_general":
        return [_product(operands[0], operands[1], equation.params["dimension_numbers"], shapes[0])]
    return [_mixed(operands, shape) for shape in shapes]


def _elementwise(name: str, operands: list[_Value], shape: tuple[int, ...]) -> _Value:
    zeros = [np.broadcast_to(operand.zero, shape) for operand in operands]
    if name == "select_n" and operands[0].known is not None:
        which = np.broadcast_to(operands[0].known, shape).astype(int)
        parts = [_rows(operand, shape, which == index) for index, operand in enumerate(operands[1:])]
        return _Value(_union(parts), np.choose(which, zeros[1:]))
    zero = np.zeros(shape, bool)
    if name == "mul":
        zero = zeros[0] | zeros[1]
    elif name in ("add", "add_any", "sub"):
        zero = zeros[0] & zeros[1]
    elif name in _KEEP_ZERO or name == "div":
        zero = zeros[0]
    return _Value(_union([_rows(operand, shape, ~zero) for operand in operands]), zero)


def _rows(operand: _Value, shape: tuple[int, ...], where: np.ndarray) -> Pattern:
    """What the operand's elements depend on, broadcast to a shape; nothing but `where`."""
    numbers = np.broadcast_to(np.arange(operand.zero.size).reshape(operand.zero.shape), shape)
    return _taken(operand.depends, np.where(where, numbers, -1))


def _taken(depends: Pattern, numbers: np.ndarray) -> Pattern:
    """The rows of these numbers, empty ones for those that are out of range."""
    return sp.csr_array(_one_each(numbers, depends.shape[0]) @ depends)


def _union(parts: list[Pattern]) -> Pattern:
    return functools.reduce(operator.add, parts)


def _which_move(name: str, count: int) -> tuple[int, ...]:
    """Which operands' elements come out again: the others say where."""
    if name == "concatenate":
        return tuple(range(count))
    return {"pad": (0, 1), "dynamic_update_slice": (0, 1), "scatter": (0, 2)}.get(name, (0,))


def _moved(equation: Any, operands: list[_Value], which: tuple[int, ...]) -> list[_Value]:
    """The operation, run on the elements' numbers: all the moved operands' elements in one row, numbers from 1."""
    moved = [operands[index] for index in which]
    arguments, start = [operand.known for operand in operands], 1
    for index in which:
        zero = operands[index].zero
        arguments[index] = np.arange(start, start + zero.size, dtype=np.int32).reshape(zero.shape)
        start += zero.size
    with jax.ensure_compile_time_eval():
        results = equation.primitive.bind(*arguments, **equation.params)
    depends = sp.csr_array(sp.vstack([operand.depends for operand in moved], format="csr", dtype=bool))
    zero = np.concatenate([operand.zero.ravel() for operand in moved])
    values = []
    for result in results if equation.primitive.multiple_results else [results]:
        places = np.asarray(result) - 1
        inside = (places >= 0) & (places < zero.size)
        values.append(_Value(_taken(depends, places), zero[np.where(inside, places, 0)] & inside))
    return values


def _reduced(operand: _Value, axes: tuple[int, ...], shape: tuple[int, ...]) -> _Value:
    numbers = np.arange(operand.zero.size).reshape(operand.zero.shape)
    group = math.prod(operand.zero.shape[axis] for axis in axes)
    groups = np.moveaxis(numbers, axes, range(-len(axes), 0)).reshape(math.prod(shape), group)
    rows = np.repeat(np.arange(len(groups)), groups.shape[1])
    depends = sp.csr_array(_ones(rows, groups.ravel(), (len(groups), numbers.size)) @ operand.depends)
    return _Value(depends, np.zeros(shape, bool))


def _product(left: _Value, right: _Value, dimensions: Any, shape: tuple[int, ...]) -> _Value:
    (contract_left, contract_right), (batch_left, batch_right) = dimensions
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
    return _Value(depends, np.reshape(~used.any(axis=3), shape))


def _matrices(shape: tuple[int, ...], batch: tuple[int, ...], contract: tuple[int, ...]) -> np.ndarray:
    """The numbers of an array's elements as (batch, free, contracted)."""
    free = [axis for axis in range(len(shape)) if axis not in (*batch, *contract)]
    numbers = np.arange(math.prod(shape)).reshape(shape).transpose(*batch, *free, *contract)
    sizes = [math.prod(shape[axis] for axis in axes) for axes in (batch, free, contract)]
    return numbers.reshape(sizes)


def _mixed(operands: list[_Value], shape: tuple[int, ...]) -> _Value:
    """Every element depends on all that any operand depends on."""
    columns = np.unique(np.concatenate([operand.depends.indices for operand in operands]))
    size = math.prod(shape)
    rows = np.repeat(np.arange(size), len(columns))
    width = operands[0].depends.shape[1]
    return _Value(_ones(rows, np.tile(columns, size), (size, width)), np.zeros(shape, bool))
