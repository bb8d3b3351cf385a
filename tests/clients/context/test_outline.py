import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.context.outline import outline

SOURCE = '''"""Module."""
import math

LIMIT: int = 3
_TABLE = {
    "a": 1,
    "b": 2,
    "c": 3,
    "d": 4,
}


@decorated
def area(
    radius: float,
) -> float:
    """Return it.

    More words.
    """
    return math.pi * radius**2


def _hidden():
    return 1


class Shape(Base):
    """A shape."""

    sides: int = 0

    def __init__(self, sides):
        self.sides = sides

    @property
    def name(self): return "x"

    def _grow(self):
        self.sides += 1


class Empty: pass
'''


def test_signatures_promises_and_short_constants_are_kept_and_bodies_are_not():
    assert (
        outline(SOURCE)
        == '''LIMIT: int = 3
@decorated
def area(
    radius: float,
) -> float:
    """Return it."""
class Shape(Base):
    """A shape."""
    sides: int = 0
    def __init__(self, sides):
        ...
    def name(self): return "x"
class Empty: pass
'''
    )


def test_only_the_names_asked_for_come_private_ones_too():
    assert outline(SOURCE, frozenset({"_hidden", "LIMIT"})) == (
        "LIMIT: int = 3\ndef _hidden():\n    ...\n"
    )
    assert outline(SOURCE, frozenset({"absent"})) == ""


def test_what_is_no_python_comes_whole():
    assert outline("def (:\n") == "def (:\n"


@pytest.mark.parametrize("text", ["class A:\n    @d\n    def f(self):\n        pass\n", SOURCE])
def test_an_outline_is_python_itself(text):
    assert ast.parse(outline(text)).body


@given(st.text('ab:()=\n "\\', max_size=30))
def test_no_text_is_refused(text):
    outline(text)
