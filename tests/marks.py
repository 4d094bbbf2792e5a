"""Which cases of a table of tests take long, and are run with -m slow alone."""

from collections.abc import Collection, Iterable

import pytest


def slow_but(quick: Collection[str], names: Iterable[str]) -> list:
    """The names as parameters, slow but for these few that stand for all."""
    names = list(names)
    assert set(quick) <= set(names), "a name that is no case"
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]
