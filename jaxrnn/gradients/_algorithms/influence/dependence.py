"""What an array depends on: of each of its elements, the elements of the inputs."""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from ...._core.compat import is_concrete

Pattern: TypeAlias = Any  # a scipy.sparse.csr_array of bools


class Value(NamedTuple):
    """What is known of an array."""

    depends: Pattern  # (elements, inputs)
    zero: np.ndarray  # its shape: which elements are 0 whatever the inputs
    known: Any = None  # its value, if no input has a part in it


def none(size: int, inputs: int) -> Pattern:
    """Rows without any entry."""
    return sp.csr_array((size, inputs), dtype=bool)


def one_each(columns: np.ndarray, width: int) -> Pattern:
    """A row for each entry of columns, with that element alone; none for entries that are no column."""
    columns = columns.ravel()
    inside = (columns >= 0) & (columns < width)
    begins = np.concatenate([[0], np.cumsum(inside)])
    return sp.csr_array((np.ones(begins[-1], bool), columns[inside], begins), shape=(len(columns), width))


def ones(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> Pattern:
    """Entries at these places."""
    return sp.csr_array((np.ones(len(rows), bool), (rows, columns)), shape=shape)


def independent(shape: tuple[int, ...], inputs: int, known: Any = None) -> Value:
    """An array that depends on no input, and may be other than zero anywhere."""
    return Value(none(math.prod(shape), inputs), np.zeros(shape, bool), known)


def constant(value: Any, inputs: int) -> Value:
    """An array that is known, unless an outer transformation traces it."""
    if not is_concrete(value):
        return independent(value.shape, inputs)
    if jnp.issubdtype(jnp.result_type(value), jax.dtypes.extended):  # keys
        return independent(value.shape, inputs, value)
    array = np.asarray(value)
    return Value(none(array.size, inputs), array == 0, array)


def numbers_of(value: Value) -> np.ndarray:
    """The elements' numbers, in its shape."""
    return np.arange(value.zero.size).reshape(value.zero.shape)


def dense(operands: Sequence[Value], shapes: Sequence[tuple[int, ...]], inputs: int) -> list[Value]:
    """Results of these shapes, each element of which depends on all that any operand depends on."""
    columns = functools.reduce(np.union1d, (operand.depends.indices for operand in operands), np.zeros(0, np.int32))

    def mixed(shape: tuple[int, ...]) -> Value:
        size = math.prod(shape)
        rows = np.repeat(np.arange(size), len(columns))
        return Value(ones(rows, np.tile(columns, size), (size, inputs)), np.zeros(shape, bool))

    return [mixed(shape) for shape in shapes]


def united(operands: Sequence[Value], zero: np.ndarray) -> Value:
    """What depends on the elements at the same place of all operands, but for where it is zero."""
    return Value(union([rows(operand, zero.shape, ~zero) for operand in operands]), zero)


def rows(operand: Value, shape: tuple[int, ...], where: np.ndarray) -> Pattern:
    """What the operand's elements depend on, broadcast to a shape; nothing but `where`."""
    if operand.zero.shape == shape and where.all():
        return operand.depends
    return taken(operand.depends, np.where(where, np.broadcast_to(numbers_of(operand), shape), -1))


def taken(depends: Pattern, numbers: np.ndarray) -> Pattern:
    """The rows of these numbers, empty ones for those that are out of range."""
    if not depends.nnz:
        return none(numbers.size, depends.shape[1])
    return sp.csr_array(one_each(numbers, depends.shape[0]) @ depends)


def related(relation: Pattern, value: Value) -> Pattern:
    """What those depend on that depend on the value's elements as the relation says."""
    if not value.depends.nnz:
        return none(relation.shape[0], value.depends.shape[1])
    return sp.csr_array(relation @ value.depends)


def union(parts: Sequence[Pattern]) -> Pattern:
    """What any of them has."""
    return functools.reduce(operator.add, [part for part in parts if part.nnz] or parts[:1])


def stacked(values: Sequence[Pattern]) -> Pattern:
    """The rows of all, one after the other."""
    return sp.csr_array(sp.vstack(values, format="csr", dtype=bool))


def either(one: Value, other: Value) -> Value:
    """What is true of an array that may be the one or the other."""
    known = isinstance(one.known, np.ndarray) and isinstance(other.known, np.ndarray)
    same = known and np.array_equal(one.known, other.known)
    return Value(union([one.depends, other.depends]), one.zero & other.zero, one.known if same else None)
