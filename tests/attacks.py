"""What is no good for an argument, tried on the arguments of the public functions.

A `Door` is a function with good arguments; an attack puts one wrong thing in the place of one of them. The tables of
doors are in the modules called test_attacks and test_flax_attacks, each with the class `TestDoors` of its `Attacks`.
"""

import dataclasses
import pathlib
import re
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr

KEY = jax.random.key(0)
LIBRARY = pathlib.Path(jr.__file__).parent


class Tensor:
    """What another library's tensors have of an array; torch itself is tried in test_torch.py."""

    shape, ndim, size, dtype = (2, 3), 2, 6, "torch.float32"

    def __array__(self, dtype=None, copy=None):
        return np.ones(self.shape, np.float32)


class NoArguments:
    """A class in place of a function."""


class Unhashable:
    __hash__ = None

    def __call__(self, *arguments, **options):
        return arguments[0]


KINDS = {
    "None": None,
    "int": 3,
    "negative": -1,
    "float": 2.5,
    "bool": True,
    "str": "x",
    "bytes": b"x",
    "list": [],
    "dict": {},
    "tuple": (),
    "floats": [1.0, 2.0],
    "nested": [[1.0], [2.0, 3.0]],
    "scalar": np.float32(1),
    "ints": np.arange(3, dtype=np.int32),
    "bools": np.ones((2, 3), bool),
    "nan": np.full((2, 3), np.nan, np.float32),
    "half": np.ones((2, 3), np.float16),
    "complex": np.ones((2, 3), np.complex64),
    "five axes": np.ones((1,) * 5, np.float32),
    "empty": np.ones((0,), np.float32),
    "strings": np.array(["a", "b"]),
    "objects": np.array([None, None]),
    "tensor": Tensor(),
    "shapes": jax.ShapeDtypeStruct((2, 3), jnp.float32),
    "key": KEY,
    "old key": np.zeros(2, np.uint32),
    "keys": jax.random.split(KEY, 2),
    "old keys": np.zeros((2, 2), np.uint32),
    "class": NoArguments,
    "lambda": lambda: None,
    "unhashable": Unhashable(),
    "object": object(),
}


EVERYTHING = ", ".join(KINDS)
NO_ARRAYS = ["str", "bytes", "strings", "objects", "tensor", "shapes", "class", "lambda", "unhashable", "object"]
TREES = ", ".join(kind for kind in KINDS if kind not in NO_ARRAYS)  # of arrays and numbers


@dataclasses.dataclass(frozen=True)
class Argument:
    """A good one; which kinds are good, too; and what an error calls it, if not by its name."""

    good: Any
    takes: str = ""  # kinds, joined by ", "
    called: str = ""  # a regular expression

    @property
    def kinds(self) -> set[str]:
        return set(filter(None, self.takes.split(", ")))


@dataclasses.dataclass(frozen=True)
class Door:
    """A public function."""

    call: Callable[..., Any]
    arguments: dict[str, Argument]
    raises: type[Exception] = ValueError  # what else it says that it raises, in as many lines as it likes

    def good(self) -> dict[str, Any]:
        return {name: argument.good for name, argument in self.arguments.items()}


class Attacks:
    """The tests of a table of doors: a module's own class of them says which, and how many bad calls it tries."""

    doors: dict[str, Door]
    more_than: int

    def pytest_generate_tests(self, metafunc):
        if "name" in metafunc.fixturenames:
            cases = {f"{door} {name}": (door, name) for door in self.doors for name in self.doors[door].arguments}
            metafunc.parametrize(("door", "name"), cases.values(), ids=cases)
        elif "door" in metafunc.fixturenames:
            metafunc.parametrize("door", self.doors)

    @pytest.mark.slow  # the errors name the bad argument alone, which no other one is then
    def test_the_good_arguments_are_good(self, door):
        self.doors[door].call(**self.doors[door].good())

    def test_what_is_no_good_is_refused_by_name(self, door, name):
        """A third of the kinds, another third for the next argument."""
        turn = list(self.doors[door].arguments).index(name) % 3
        tried = list(KINDS)[turn::3]
        assert accepted(self.doors[door], name, tried) == self.doors[door].arguments[name].kinds.intersection(tried)

    @pytest.mark.slow
    @pytest.mark.timeout(600)
    def test_all_that_is_no_good_is_refused_by_name(self):
        for door in self.doors.values():
            for name, argument in door.arguments.items():
                assert accepted(door, name, KINDS) == argument.kinds, name

    def test_there_are_as_many_as_was_said(self):
        assert refused(self.doors) > self.more_than


def refused(doors: dict[str, Door]) -> int:
    """How many bad calls the table has."""
    return sum(len(KINDS.keys() - argument.kinds) for door in doors.values() for argument in door.arguments.values())


def accepted(door: Door, name: str, kinds: Iterable[str]) -> set[str]:
    """Those kinds that the argument takes; each other one is refused by the library, in one line that names it."""
    found = set()
    for kind in kinds:
        try:
            door.call(**door.good() | {name: KINDS[kind]})
        except (TypeError, ValueError) as error:
            check(error, door.arguments[name].called or rf"\b{name}\b", kind)
        except door.raises:
            pass
        else:
            found.add(kind)
    return found


def check(error: Exception, named: str, kind: str) -> None:
    """It is ours, and in one line it names the argument, what was expected and what came."""
    message, raised_in = str(error), traceback.extract_tb(error.__traceback__)[-1].filename
    for part in (named, _EXPECTED, _CAME):
        assert re.search(part, message), f"{kind}: {message}"
    assert "\n" not in message, f"{kind}: {message}"
    assert pathlib.Path(raised_in).is_relative_to(LIBRARY), f"{kind}: {message}, raised in {raised_in}"


_EXPECTED = r"must|expected|needs|only|not supported|xs has|ys has|holds? no arrays|above budget"
_CAME = r"\b(got|is|has|returned|asked for|given|keep)\b|holds? no"
