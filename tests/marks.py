"""Which cases of a table of tests take long, and are run with -m slow alone; which of a product are run at all."""

import itertools
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import pytest


def slow_but(quick: Collection[str], names: Iterable[str], full: Collection[str] = ()) -> list:
    """The names as parameters, slow but for these few that stand for all, and for those that are run with -m full."""
    names = list(names)
    assert {*quick, *full} <= set(names), "a name that is no case"
    marks = {name: pytest.mark.full if name in full else pytest.mark.slow for name in names if name not in quick}
    return [pytest.param(name, marks=marks[name]) if name in marks else name for name in names]


def few_of(quick: Iterable[tuple], *tables: Iterable) -> list:
    """All combinations of the tables, slow but for these few."""
    quick, combinations = list(quick), list(itertools.product(*tables))
    assert set(quick) <= set(combinations), "a combination that is none"
    return [case if case in quick else pytest.param(*case, marks=pytest.mark.slow) for case in combinations]


def pairs(*options: Sequence[Any]) -> list[tuple]:
    """Few of all combinations, chosen such that any two options meet in each of their values."""
    missing = {pair for case in itertools.product(*map(range, map(len, options))) for pair in _pairs(case)}
    cases = []
    while missing:
        best = max(itertools.product(*map(range, map(len, options))), key=lambda case: len(missing & _pairs(case)))
        missing -= _pairs(best)
        cases.append(tuple(values[index] for values, index in zip(options, best, strict=True)))
    return cases


def _pairs(case: Sequence[int]) -> set[tuple]:
    return set(itertools.combinations(enumerate(case), 2))


def in_turn(quick: Collection[tuple[str, str]], firsts: Iterable[str], seconds: Iterable[str], last: Sequence) -> list:
    """Each of a table with two of the next and of the last, all in turn; slow, but for a few with the last's first.

    All of the second are there if they are no more than twice the first.
    """
    firsts, seconds = list(firsts), list(seconds)
    assert len(seconds) <= 2 * len(firsts)
    assert {(a, b) for a, b in quick} <= set(itertools.product(firsts, seconds)), "a name that is no case"
    quickly = [pytest.param(a, b, last[0], id=f"{a}-{b}-{last[0]}") for a, b in quick]
    slowly = [
        pytest.param(a, b, value, id=f"{a}-{b}-{value}", marks=pytest.mark.slow)
        for i, a in enumerate(firsts)
        for j in (2 * i, 2 * i + 1)
        for b, value in [(seconds[j % len(seconds)], last[(i + j) % len(last)])]
        if not ((a, b) in quick and value == last[0])
    ]
    return quickly + slowly
