"""Amounts of bytes: as people write them, and what a disk still holds."""

import re
import shutil
from pathlib import Path

from quantize.errors import ConfigError, SpaceError

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SLACK_BYTES = 64 << 20


def parse_bytes(text: str) -> int:
    """Return bytes from `4G`, `700M` or a plain number; units are powers of 1024.

    Raises:
        ConfigError: for anything else.
    """
    found = re.fullmatch(r"(?i)\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text)
    if found is None:
        raise ConfigError(f"{text!r} is not an amount of memory; examples: 4G, 700M")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def require_space(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Refuse work the disk cannot hold.

    Raises:
        SpaceError: with both numbers.
    """
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + _SLACK_BYTES:
        raise SpaceError(
            f"{purpose} needs {needed_bytes / 1e6:,.0f} MB and some room in {folder}, "
            f"{free / 1e6:,.0f} MB are free; free some or set EDGESMITH_HOME to another disk"
        )
