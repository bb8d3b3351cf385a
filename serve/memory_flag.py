"""Reads `--memory SIZE`. Knows nothing of models."""

from __future__ import annotations

import argparse
import re

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def memory(text: str) -> int:
    """Return bytes from `4G`, `700M` or a plain number, for argparse; units are powers of 1024.

    Raises: ArgumentTypeError.
    """
    found = re.fullmatch(r"(?i)(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?", text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of memory, such as 4G or 700M")
    return int(float(found[1]) * _UNITS[found[2].lower()])
