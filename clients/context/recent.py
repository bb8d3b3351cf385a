"""Regions of a repository that were edited since the last commit.

Knows git as a command, and no budget.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from clients.errors import UsageError
from clients.staged import git

_HUNK = re.compile(r"@@ -\d+(?:,\d+)? \+(\d+)(?:,\d+)? @@")
_LINES_AROUND = 3


class Region(msgspec.Struct, frozen=True, kw_only=True):
    """Lines as they are now, with a few around them. `line` counts from 1."""

    path: Path
    line: int
    text: str


def edited_regions(root: Path) -> list[Region]:
    """Return the regions, the file touched last at the end: the rest of the order holds.

    A folder that is no repository, or has no commit yet, has none.
    """
    flags = ("--no-color", "--no-ext-diff", "--src-prefix=a/", "--dst-prefix=b/")
    try:
        diff = git(root, "-c", "core.quotePath=off", "diff", *flags, f"-U{_LINES_AROUND}", "HEAD")
        top = Path(git(root, "rev-parse", "--show-toplevel").strip())
    except UsageError:
        return []
    found = [each for each in _regions(diff, top) if each.path.is_file()]
    return sorted(found, key=lambda each: (each.path.stat().st_mtime, each.path, each.line))


def _regions(diff: str, top: Path) -> list[Region]:
    found = []
    for part in re.split(r"^diff --git ", diff, flags=re.MULTILINE)[1:]:
        head, *hunks = re.split(r"^(?=@@ )", part, flags=re.MULTILINE)
        name = re.search(r"^\+\+\+ b/(.+?)\t?$", head, re.MULTILINE)
        if name is None:  # deleted, or no text
            continue
        for hunk in hunks:
            line, text = _now(hunk)
            found.append(Region(path=top / name[1], line=line, text=text))
    return found


def _now(hunk: str) -> tuple[int, str]:
    """Return where a hunk begins in the new file, and its lines there."""
    match = _HUNK.match(hunk)
    lines = hunk.split("\n")[1:]
    kept = [line[1:] for line in lines if line.startswith((" ", "+"))]
    return int(match[1]) if match else 1, "\n".join(kept) + "\n"
