"""`setup EDITOR`: an editor's configuration for the model actually served."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from clients.commands.connection import add_server_flags, api_key, connected
from clients.commands.terminal import consents, note
from clients.errors import ClientError, UsageError

if TYPE_CHECKING:
    import argparse

    from clients.client import Client
    from clients.editors.recipe import Recipe, Server
    from clients.editors.writing import Plan

EXAMPLES = """\
examples:
  python -m clients setup continue
  python -m clients setup zed --print
  python -m clients setup codex --yes --base-url http://127.0.0.1:8080/v1
"""
EDITORS = (
    *("continue", "llama-vscode", "llama-vim", "vim", "neovim", "zed", "aider", "cline"),
    *("copilot", "codex", "claude-code", "opencode", "llm"),
)
_DEFAULT_CONTEXT = 4096


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("editor", choices=EDITORS, metavar="EDITOR", help=", ".join(EDITORS))
    parser.add_argument("--print", action="store_true", help="write the files' texts to stdout")
    parser.add_argument("--yes", action="store_true", help="write without asking")
    add_server_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Show what changes, ask, keep a backup, write."""
    from clients.editors.places import Places
    from clients.editors.recipes import RECIPES
    from clients.editors.writing import plan

    with connected(args) as client:
        server = look_at(client, wants_key=api_key(args.api_key_file) is not None)
    recipe = RECIPES[args.editor](server, Places.here())
    plans = [plan(change) for change in recipe.changes]
    if args.print:
        for each in plans:
            sys.stdout.write(f"# {each.file}\n{each.after.rstrip()}\n\n")
    elif not _write([each for each in plans if each.is_needed], is_given=args.yes):
        return 1
    _tell(recipe)
    return 0


def look_at(client: Client, *, wants_key: bool) -> Server:
    """Ask the server what it serves.

    Raises:
        UsageError: it names no model.
    """
    from clients.editors.recipe import Server

    model = next((each for each in client.models() if each.id == client.model), None)
    if model is None:
        raise UsageError(f"{client.address.api_url} does not list a model {client.model!r}")
    able = model.capabilities
    return Server(
        root_url=client.address.api_url.removesuffix("/v1"),
        model=model.id,
        context=model.context_length or _context_of(client) or _DEFAULT_CONTEXT,
        has_fim=able is None or "fim" in able,
        has_tools=able is None or "tools" in able,
        wants_key=wants_key,
    )


def _context_of(client: Client) -> int | None:
    """Ask the way llama.cpp's server answers; others know no such route."""
    try:
        settings = client.props().default_generation_settings or {}
    except ClientError:
        return None
    context = settings.get("n_ctx")
    return context if isinstance(context, int) else None


def _write(plans: list[Plan], *, is_given: bool) -> bool:
    from clients.editors.writing import apply

    for each in plans:
        sys.stdout.write(each.diff())
    sys.stdout.flush()
    if plans and not consents("write this?", is_given=is_given):
        note("nothing was written; --yes writes without asking, --print only prints")
        return False
    for each in plans:
        backup = apply(each)
        kept = f" (before: {backup})" if backup else ""
        note(f"wrote {each.file}{kept}")
    return True


def _tell(recipe: Recipe) -> None:
    for line in recipe.notes:
        note(line)
