"""Recorded editing sessions: what an editor sent to /infill, request by request.

A session is one JSON object a line, xz-compressed: consecutive bodies are almost the same text.
Knows neither editors nor servers.
"""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from clients.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = Path(__file__).parent / "recorded"
_SUFFIX = ".jsonl.xz"


class Keystroke(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `at_seconds` counts from the session's start; `body` is as the editor sent it.

    `action` is what the hand on the keyboard did last.
    """

    at_seconds: float
    action: str
    body: dict[str, Any]

    @property
    def is_warm_up(self) -> bool:
        """Say whether nothing is wanted back."""
        return self.body.get("n_predict") == 0


def names() -> list[str]:
    """Return the sessions that come with the package."""
    return sorted(path.name.removesuffix(_SUFFIX) for path in FOLDER.glob(f"*{_SUFFIX}"))


def load(name: str) -> list[Keystroke]:
    """Read a session of the package.

    Raises:
        UsageError: there is none of that name.
    """
    path = FOLDER / f"{name}{_SUFFIX}"
    if not path.is_file():
        raise UsageError(f"no session {name!r}; there are {', '.join(names())}")
    lines = lzma.decompress(path.read_bytes()).splitlines()
    return [msgspec.json.decode(line, type=Keystroke) for line in lines]


def save(path: Path, keystrokes: Sequence[Keystroke]) -> None:
    """Write a session."""
    lines = b"\n".join(msgspec.json.encode(each) for each in keystrokes)
    path.write_bytes(lzma.compress(lines, preset=9 | lzma.PRESET_EXTREME))
