"""What commands read and write: input, results on stdout, everything else on stderr.

Knows chunks with text, and nothing of where they come from.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec

from clients.errors import UsageError

if TYPE_CHECKING:
    from clients.calls import Chunk
    from clients.streams import Stream


def read_input() -> str:
    """Read standard input to its end.

    Raises:
        UsageError: it is not text.
    """
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not {error.encoding} (byte {error.start})") from None


def write_json(value: Any) -> None:
    """Write a result for a program."""
    document = msgspec.json.format(msgspec.json.encode(value), indent=2)
    sys.stdout.write(document.decode() + "\n")


def note(text: str) -> None:
    """Tell the user something that is no result."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def write_stream(stream: Stream[Chunk]) -> str:
    """Write a running answer as it comes; return all of it."""
    parts = []
    for chunk in stream:
        sys.stdout.write(chunk.text)
        sys.stdout.flush()
        parts.append(chunk.text)
    text = "".join(parts)
    if not text.endswith("\n") and sys.stdout.isatty():
        sys.stdout.write("\n")
    note_cut(stream.finish_reason)
    return text


def note_cut(finish_reason: str | None) -> None:
    """Say so when an answer is not whole."""
    if finish_reason == "length":
        note("(cut at the token limit; --max-tokens raises it)")
