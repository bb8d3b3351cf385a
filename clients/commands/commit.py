"""`commit`: a message for what is staged; the commit itself after consent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from clients import staged
from clients.commands.connection import add_sampling_flags, add_server_flags, connected, sampling
from clients.commands.flags import require_positive
from clients.commands.terminal import consents, note, show, write_json
from clients.errors import UsageError
from clients.wire import Usage  # noqa: TC001  # msgspec reads it at run time

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
examples:
  python -m clients commit
  python -m clients commit --apply
  git commit -e -F <(python -m clients commit)
"""
_SUBJECT_CHARS = 72


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A message, and the commit that was made with it."""

    message: str
    commit: str | None
    usage: Usage | None


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("--apply", action="store_true", help="commit with it, after asking")
    parser.add_argument("--yes", action="store_true", help="with --apply: commit without asking")
    parser.add_argument(
        "--max-diff-chars",
        type=int,
        default=12_000,
        metavar="N",
        help="how much of it the model reads, shared among files (default: %(default)s)",
    )
    add_server_flags(parser)
    add_sampling_flags(parser, max_tokens=256)
    parser.add_argument("--json", action="store_true", help="write message, commit and usage")


def run(args: argparse.Namespace) -> int:
    """Write the message; commit when allowed."""
    require_positive(args, "max_diff_chars", "max_tokens")
    if args.yes and not args.apply:
        raise UsageError("--yes is of use with --apply only")
    folder = Path.cwd()
    change = staged.staged(folder)
    if len(change.diff) > args.max_diff_chars:
        note(f"the difference has {len(change.diff)} characters; the model reads a part of it")
    with connected(args) as client:
        note(f"asking {client.model or 'the model'} ...")
        answer = client.chat(
            staged.messages(change, args.max_diff_chars),
            extra={"temperature": 0.0, **sampling(args)},
        )
    message = staged.message_of(answer.text, answer.finish_reason)
    if not args.json:
        show(message, "text")
    _note_long(message)
    commit = None
    if args.apply and consents("commit?", is_given=args.yes):
        commit = _commit(folder, change, message)
        note(f"committed {commit[:10]}; `git commit --amend` changes the message")
    if args.json:
        write_json(Written(message=message, commit=commit, usage=answer.usage))
    return 0


def _note_long(message: str) -> None:
    num = len(message.partition("\n")[0])
    if num > _SUBJECT_CHARS:
        note(f"(the subject has {num} characters; {_SUBJECT_CHARS} are usual)")


def _commit(folder: Path, change: staged.Staged, message: str) -> str:
    """Commit what the model has read, and nothing else.

    Raises:
        UsageError: the index is no longer what was sent, or git refuses.
    """
    if staged.git(folder, "write-tree").strip() != change.tree:
        raise UsageError("the index changed meanwhile, so nothing was committed; ask again")
    staged.git(folder, "commit", "--quiet", "--cleanup=whitespace", "-F", "-", text=message)
    return staged.git(folder, "rev-parse", "HEAD").strip()
