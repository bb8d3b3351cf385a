"""The door to the library: what must be visible before it is opened."""

import subprocess
import sys

import pytest

_SCRIPT = """
import ctypes
import numpy  # brings the standard library for itself alone
from serve.engine import native

def is_shared():
    return hasattr(ctypes.CDLL(None), "_ZSt9terminatev")

before = is_shared()
native._share_standard_library()
print(before, is_shared())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="symbols are looked up so on Linux only")
def test_one_standard_library_is_visible_to_all_even_when_numpy_came_first() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True
    )

    before, after = result.stdout.split()
    if before == "True":
        pytest.skip("this interpreter shares the standard library anyway")
    assert after == "True"
