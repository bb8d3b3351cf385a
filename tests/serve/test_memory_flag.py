"""An amount of memory on the command line."""

import argparse

import pytest

from serve.memory_flag import memory


@pytest.mark.parametrize(
    ("text", "size"), [("4G", 4 << 30), ("700M", 700 << 20), ("1.5GiB", 3 << 29), ("4096", 4096)]
)
def test_units_are_powers_of_1024(text, size):
    assert memory(text) == size


def test_anything_else_is_refused_with_an_example():
    with pytest.raises(argparse.ArgumentTypeError, match="'lots' is not an amount of memory"):
        memory("lots")
