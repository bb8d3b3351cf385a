"""`explain`: what a file, a range of its lines or standard input does."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from clients.commands.connection import add_sampling_flags, add_server_flags, connected, sampling
from clients.commands.source import read_source
from clients.commands.terminal import read_input, write_json, write_markdown
from clients.editing import fence_for
from clients.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from clients.calls import ChatOptions

EXAMPLES = """\
examples:
  python -m clients explain src/app.py
  python -m clients explain src/app.py:40-72 --question "Why is the lock needed?"
  git show | python -m clients explain
"""
SYSTEM = (
    "You explain code to a programmer who is new to it: first what it is for, in one sentence, "
    "then how it works, then what is easily overlooked. Be brief."
)
_RANGE = re.compile(r"(?P<file>.+?):(?P<first>\d+)(?:-(?P<last>\d+))?")
_LINES_AROUND = 40


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "place",
        nargs="?",
        metavar="FILE[:FIRST[-LAST]]",
        help="lines counted from 1; default: standard input",
    )
    parser.add_argument("--question", metavar="TEXT", help="what you want to know about it")
    add_server_flags(parser)
    add_sampling_flags(parser, max_tokens=1024)
    parser.add_argument("--json", action="store_true", help="write the whole answer as JSON")


def run(args: argparse.Namespace) -> int:
    """Write the explanation as it comes."""
    asked = f"{_subject(args.place)}\n\n{args.question or 'Explain this code.'}"
    turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked}]
    options = cast("ChatOptions", {"temperature": 0.0, **sampling(args)})  # flags that chat shares
    with connected(args) as client:
        if args.json:
            write_json(client.chat(turns, **options))
            return 0
        with client.stream_chat(turns, **options) as stream:
            write_markdown(stream)
    return 0


def _subject(place: str | None) -> str:
    """Return what is to be explained, fenced."""
    if place is None:
        if sys.stdin.isatty():
            raise UsageError("give a file: explain src/app.py:40-72, or pipe code in")
        return _fenced("Standard input", read_input())
    match = None if Path(place).exists() else _RANGE.fullmatch(place)
    if match is None:
        return _fenced(place, read_source(Path(place)))
    first, last = int(match["first"]), int(match["last"] or match["first"])
    lines = read_source(Path(match["file"])).splitlines()
    if not 1 <= first <= last <= len(lines):
        raise UsageError(f"{match['file']} has lines 1 to {len(lines)}, not {first} to {last}")
    return _around(match["file"], lines, first, last)


def _around(file: str, lines: list[str], first: int, last: int) -> str:
    """Show the lines around a range too, and the range by itself last."""
    start, end = max(first - 1 - _LINES_AROUND, 0), last + _LINES_AROUND
    around = _fenced(f"{file}, for orientation", "\n".join(lines[start:end]))
    wanted = _fenced(f"Lines {first} to {last}", "\n".join(lines[first - 1 : last]))
    return wanted if end - start == last - first + 1 else f"{around}\n\n{wanted}"


def _fenced(title: str, text: str) -> str:
    if not text.strip():
        raise UsageError(f"{title} is empty; there is nothing to explain")
    fence = fence_for(text)
    return f"{title}:\n{fence}\n{text.rstrip()}\n{fence}"
