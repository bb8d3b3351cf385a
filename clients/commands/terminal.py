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


def write_markdown(stream: Stream[Chunk]) -> str:
    """Write a running answer, laid out block by block at a terminal; return all of it."""
    if not sys.stdout.isatty():
        return write_stream(stream)
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    text = waiting = ""
    for chunk in stream:
        text += chunk.text
        done, waiting = whole_blocks(waiting + chunk.text)
        if done.strip():
            console.print(Markdown(done), end="\n\n")
    console.print(Markdown(waiting))
    note_cut(stream.finish_reason)
    return text


def whole_blocks(text: str) -> tuple[str, str]:
    """Split behind the last empty line outside code blocks: what is whole, and the rest."""
    is_code = False
    at = cut = 0
    for line in text.splitlines(keepends=True):
        at += len(line)
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif not line.strip() and line.endswith("\n") and not is_code:
            cut = at
    return text[:cut], text[cut:]


def show(text: str, lexer: str) -> None:
    """Write a result that ends its last line, in colours at a terminal."""
    text = text if text.endswith("\n") else text + "\n"
    if not sys.stdout.isatty():
        sys.stdout.write(text)
        return
    from rich.console import Console
    from rich.syntax import Syntax

    Console().print(Syntax(text, lexer, background_color="default", word_wrap=True))


def consents(question: str, *, is_given: bool) -> bool:
    """Ask at a terminal; elsewhere only a flag consents."""
    if is_given or not sys.stdin.isatty():
        return is_given
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
