"""Which entries of a function's Jacobian can be other than zero, read off the jaxpr of its tangent.

Each element of each intermediate array gets the set of input elements whose tangents it depends on. Operations that
only move elements are run on the elements' numbers; elementwise ones, sums, products of matrices and convolutions unite
the sets, loops do step by step. Products with constant zeros, as of a mask on a weight, depend on nothing. Of an
operation without a rule every result is taken to depend on all its operands. So the pattern may hold too many entries,
never too few. A function that holds a `custom_vjp` has no tangent: its cotangent is looked at then.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import scipy.sparse as sp

from ...._core.compat import called_jaxpr, evaluate, is_pure, is_reverse_only, output_shapes, run_jaxpr
from .dependence import (
    Pattern,
    Value,
    constant,
    dense,
    either,
    independent,
    none,
    one_each,
    related,
    stacked,
)
from .rules import RULES

_STEPS = 100  # a longer scan is not followed step by step


class Structure(NamedTuple):
    """What was found of a Jacobian."""

    pattern: Pattern  # (elements of the outputs, elements of the arguments)
    without_rule: tuple[str, ...]  # primitives that have none, so that the pattern may be too dense


class _Search(NamedTuple):
    """What is the same for all operations."""

    inputs: int  # how many elements they have
    without_rule: set[str]  # so far


def jacobian_pattern(function: Callable, arguments: tuple[Any, ...], others: tuple[Any, ...] = ()) -> Structure:
    """Where a derivative of the outputs by the arguments may be other than zero.

    Of `function(*arguments, *others)`. All are pytrees of arrays, or of their shapes; arguments and outputs are
    floating-point; elements are numbered leaf by leaf, in C order.
    """
    tangent = tangent_jaxpr(function, arguments, others)
    if tangent is not None:
        return _pattern(tangent, jax.tree.leaves(arguments))
    cotangent, outputs = _cotangent_jaxpr(function, arguments, others)
    found = _pattern(cotangent, jax.tree.leaves(outputs))
    return found._replace(pattern=sp.csr_array(found.pattern.T))


def tangent_jaxpr(function: Callable, arguments: tuple[Any, ...], others: tuple[Any, ...]) -> Any:
    """The tangent of `function(*arguments, *others)` as a function of those, and of the arguments' tangents last.

    None if there is none, as of a function that holds a `custom_vjp`.
    """

    def tangent(primals: tuple[Any, ...], others: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
        return jax.jvp(lambda *primals: function(*primals, *others), primals, tangents)[1]

    closed = jax.make_jaxpr(tangent)(arguments, others, arguments)
    return None if is_reverse_only(closed) else closed


def _cotangent_jaxpr(function: Callable, arguments: tuple[Any, ...], others: tuple[Any, ...]) -> tuple[Any, Any]:
    """The cotangent of the arguments as a function of all, and of the outputs' cotangents last; the outputs' shapes."""

    def cotangent(primals: tuple[Any, ...], others: tuple[Any, ...], cotangents: Any) -> Any:
        return jax.vjp(lambda *primals: function(*primals, *others), *primals)[1](cotangents)

    outputs = jax.eval_shape(function, *arguments, *others)
    return jax.make_jaxpr(cotangent)(arguments, others, outputs), outputs


def _pattern(closed: Any, last: Sequence[Any]) -> Structure:
    """That of a jaxpr's outputs by its last arguments, arrays of these shapes."""
    sizes = [math.prod(leaf.shape) for leaf in last]
    search = _Search(sum(sizes), set())
    operands = [independent(aval.shape, search.inputs) for aval in closed.in_avals]
    start = 0
    for index, size in enumerate(sizes, len(operands) - len(sizes)):
        depends = one_each(np.arange(start, start + size), search.inputs)
        operands[index] = operands[index]._replace(depends=depends)
        start += size
    outputs = [none(0, search.inputs), *(value.depends for value in _run(closed, operands, search))]
    return Structure(stacked(outputs), tuple(sorted(search.without_rule)))


def _run(closed: Any, arguments: list[Value], search: _Search) -> list[Value]:
    """The outputs of a jaxpr."""

    def apply(equation: Any, operands: list[Value]) -> list[Value]:
        return _apply(equation, operands, search)

    return run_jaxpr(closed, arguments, apply, lambda value: constant(value, search.inputs))


def _apply(equation: Any, operands: list[Value], search: _Search) -> list[Value]:
    """The results of one operation: what it calls, what is known, or what its rule says."""
    called, name = called_jaxpr(equation), equation.primitive.name
    if called is not None:
        return _run(called, operands, search)
    if all(operand.known is not None for operand in operands) and is_pure(equation):
        return [constant(value, search.inputs) for value in evaluate(equation, [o.known for o in operands])]
    if name in _CONTROL:
        return _CONTROL[name](equation, operands, search)
    if name in RULES:
        return RULES[name](equation, operands)
    if any(operand.depends.nnz for operand in operands):
        search.without_rule.add(name)
    return dense(operands, output_shapes(equation), search.inputs)


def _scan(equation: Any, operands: list[Value], search: _Search) -> list[Value]:
    """Step by step; a long one by what is true of all its steps."""
    closed, length, fixed, carried = (equation.params[n] for n in ("jaxpr", "length", "num_consts", "num_carry"))
    constants, carry, xs = operands[:fixed], operands[fixed : fixed + carried], operands[fixed + carried :]

    def step(carry: list[Value], x: list[Value]) -> tuple[list[Value], list[Value]]:
        results = _run(closed, [*constants, *carry, *x], search)
        return results[:carried], results[carried:]

    steps = range(length)
    if length > _STEPS:
        x = list(map(_over_time, xs))
        carry = _settled(lambda carry: step(carry, x)[0], carry)
        ys = [step(carry, x)[1]] * length
    else:
        ys = []
        for time in reversed(steps) if equation.params["reverse"] else steps:
            carry, y = step(carry, [_at(value, time) for value in xs])
            ys.append(y)
        ys = ys[::-1] if equation.params["reverse"] else ys
    shapes = output_shapes(equation)[carried:]
    return [*carry, *(_in_time([y[i] for y in ys], shape, search) for i, shape in enumerate(shapes))]


def _while(equation: Any, operands: list[Value], search: _Search) -> list[Value]:
    closed, skipped, fixed = (equation.params[n] for n in ("body_jaxpr", "cond_nconsts", "body_nconsts"))
    constants, carry = operands[skipped : skipped + fixed], operands[skipped + fixed :]
    return _settled(lambda carry: _run(closed, [*constants, *carry], search), carry)


def _cond(equation: Any, operands: list[Value], search: _Search) -> list[Value]:
    """The branch that is taken, or what is true of all."""
    (index, *arguments), branches = operands, equation.params["branches"]
    if index.known is not None:
        branches = [branches[np.clip(index.known, 0, len(branches) - 1)]]
    results = [_run(branch, arguments, search) for branch in branches]
    return [functools.reduce(either, values) for values in zip(*results, strict=True)]


_Control: TypeAlias = Callable[[Any, list[Value], _Search], list[Value]]
_CONTROL: dict[str, _Control] = {"scan": _scan, "while": _while, "cond": _cond}


def _settled(step: Callable[[list[Value]], list[Value]], carry: list[Value]) -> list[Value]:
    """What is true of a carry after any number of steps."""
    while True:
        wider = [either(old, new) for old, new in zip(carry, step(carry), strict=True)]
        if all(map(_is_same, carry, wider)):
            return carry
        carry = wider


def _is_same(narrow: Value, wide: Value) -> bool:
    """Whether the second, which may be more than the first, is no more."""
    same = [(value.depends.nnz, value.zero.sum(), value.known is None) for value in (narrow, wide)]
    return same[0] == same[1]


def _at(value: Value, time: int) -> Value:
    """An entry along the first axis."""
    size = math.prod(value.zero.shape[1:])
    known = None if value.known is None else value.known[time, ...]
    return Value(value.depends[time * size : (time + 1) * size], value.zero[time, ...], known)


def _over_time(value: Value) -> Value:
    """What is true of every entry along the first axis."""
    length, size = len(value.zero), math.prod(value.zero.shape[1:])
    members = one_each(np.tile(np.arange(size), length), size).T
    return Value(related(members, value), np.logical_and.reduce(value.zero, axis=0))


def _in_time(values: list[Value], shape: tuple[int, ...], search: _Search) -> Value:
    """Entries, stacked along a new first axis."""
    depends = stacked([none(0, search.inputs), *(value.depends for value in values)])
    known = np.stack([value.known for value in values]) if values and _all_known(values) else None
    return Value(depends, np.array([value.zero for value in values], bool).reshape(shape), known)


def _all_known(values: list[Value]) -> bool:
    return all(isinstance(value.known, np.ndarray) for value in values)
