"""The flags that say which neighbours go along with a request, and what came of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clients.commands.source import read_source
from clients.commands.terminal import note
from clients.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from clients.context.neighbours import Context


def add_context_flags(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    group = parser.add_argument_group("neighbours")
    group.add_argument(
        "--context",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="a file that the model should know, such as one you have open; repeatable",
    )
    group.add_argument(
        "--context-tokens",
        type=int,
        default=512,
        metavar="N",
        help="for these, what the file imports and what was edited since the last commit "
        "(default: %(default)s; 0: only what --context names)",
    )


def context_of(args: argparse.Namespace, file: Path, text: str) -> Context:
    """Gather the neighbours, and say on stderr which.

    Raises:
        UsageError: a file that was asked for cannot be read.
    """
    from clients.context import neighbours

    if args.context_tokens < 0:
        raise UsageError(f"--context-tokens is {args.context_tokens}; it must be 0 or more")
    root = neighbours.repository_of(file)
    files = [(path, read_source(path)) for path in args.context]
    opened = neighbours.opened_files(files, root)
    found = neighbours.gather(file, text, opened, max_tokens=args.context_tokens)
    if found.neighbours:
        names = ", ".join(dict.fromkeys(each.filename for each in found.neighbours))
        note(f"neighbours, about {found.num_tokens} tokens: {names}")
    if found.left_out and args.context_tokens:
        note(f"left out (--context-tokens {args.context_tokens}): {', '.join(found.left_out)}")
    return found
