"""What the hand on the keyboard does in each session: which file, and which steps in it.

A step that types fills a gap that was cut out of the file beforehand, so that every text on the
way is a real one. Knows neither the editor nor the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from pathlib import Path


class Step(msgspec.Struct, frozen=True):
    """One thing to do.

    fill    go to line `line`, where `count` lines are missing, and write them
    keys    press `keys` as a command, leaving insert mode first; to move about or edit
    rest    wait for `seconds`
    """

    kind: Literal["fill", "keys", "rest"]
    line: int = 0
    count: int = 0
    keys: str = ""
    seconds: float = 0.0


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """A session: a file of `num_lines`, made of `sources`, and the steps in their order."""

    sources: tuple[str, ...]
    num_lines: int
    steps: tuple[Step, ...]

    def text(self, root: Path) -> str:
        """Return the whole file, as it is when everything is written."""
        parts = []
        for pattern in self.sources:
            parts += [path.read_text("utf-8") for path in sorted(root.glob(pattern))]
        lines = "\n\n".join(parts).splitlines()
        return "\n".join(lines[: self.num_lines]) + "\n"


def fill(line: int, count: int) -> Step:
    """Write `count` lines from `line` on (lines of the whole file, the first is 1)."""
    return Step("fill", line=line, count=count)


def keys(text: str) -> Step:
    """Press keys."""
    return Step("keys", keys=text)


def rest(seconds: float) -> Step:
    """Stop to think."""
    return Step("rest", seconds=seconds)


SCRIPTS = {
    "write-117": Script(
        sources=("serve/chat/fim.py",),
        num_lines=117,
        steps=(fill(83, 10), rest(3), fill(105, 9)),
    ),
    "move-600": Script(
        sources=("serve/engine/s[a-l]*.py",),
        num_lines=600,
        steps=(
            fill(210, 8),
            rest(2),
            keys("30jA  # rows\x1b"),
            keys("12kA  # first\x1b"),
            fill(420, 8),
            rest(4),
            keys("25kA  # here\x1b"),
            fill(440, 6),
        ),
    ),
    "slide-2000": Script(
        sources=("clients/*.py", "clients/commands/*.py"),
        num_lines=2000,
        steps=(fill(1400, 24), rest(2), fill(1440, 8)),
    ),
    "above-2000": Script(
        sources=("clients/*.py", "clients/commands/*.py"),
        num_lines=2000,
        steps=(
            fill(900, 6),
            keys("780GOimport decimal\x1b"),
            fill(910, 6),
            keys("860GA  # checked above\x1b"),
            rest(3),
            fill(920, 6),
        ),
    ),
}
