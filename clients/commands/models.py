"""`models`: what the server offers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from clients.commands.connection import add_server_flags, connected
from clients.commands.terminal import write_json

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
examples:
  python -m clients models
  python -m clients models --base-url http://127.0.0.1:11434/v1 --json
"""


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_server_flags(parser)
    parser.add_argument("--json", action="store_true", help="write JSON")


def run(args: argparse.Namespace) -> int:
    """List the models, one a line: name, context length, owner."""
    with connected(args) as client:
        models = client.models()
    if args.json:
        write_json(models)
        return 0
    for model in models:
        context = f"{model.context_length} tokens" if model.context_length else "context unknown"
        sys.stdout.write(f"{model.id}\t{context}\t{model.owned_by or ''}".rstrip() + "\n")
    return 0
