"""Source files as text. Knows no command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def read_source(path: Path) -> str:
    """Read a file with its line endings as they are.

    Raises:
        UsageError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start}); convert it first") from None
