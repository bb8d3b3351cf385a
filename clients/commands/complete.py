"""`complete`: continue a prompt from the argument or from standard input."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from clients.commands.connection import add_sampling_flags, add_server_flags, connected, sampling
from clients.commands.terminal import read_input, write_json, write_stream
from clients.errors import UsageError

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
examples:
  python -m clients complete "def fibonacci(n):" --temperature 0
  python -m clients complete --stop $'\\n\\n' < prompt.txt
"""


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("prompt", nargs="?", help="default: standard input")
    parser.add_argument("--suffix", help="text that the completion must lead to")
    add_server_flags(parser)
    add_sampling_flags(parser, max_tokens=256)
    parser.add_argument("--json", action="store_true", help="write the whole answer as JSON")


def run(args: argparse.Namespace) -> int:
    """Write the completion, without the prompt."""
    prompt = args.prompt if args.prompt is not None else _standard_input()
    with connected(args) as client:
        if args.json:
            write_json(client.complete(prompt, suffix=args.suffix, **sampling(args)))
            return 0
        with client.stream_complete(prompt, suffix=args.suffix, **sampling(args)) as stream:
            write_stream(stream)
    return 0


def _standard_input() -> str:
    if sys.stdin.isatty():
        raise UsageError('give a prompt: complete "def fibonacci(n):", or pipe one in')
    return read_input()
