"""`edit FILE INSTRUCTION`: have a file changed, see the difference, apply it on consent."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from clients import editing
from clients.commands.connection import add_sampling_flags, add_server_flags, connected, sampling
from clients.commands.surroundings import add_context_flags, context_of
from clients.commands.terminal import consents, note, show, write_json
from clients.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from clients.wire import ChatCompletion, Usage

EXAMPLES = """\
examples:
  python -m clients edit app.py "add type annotations to load()"
  python -m clients edit app.py "rename x to count" --diff > change.patch
"""


class Edited(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an edit. `backup` is where the former content lies, when it was applied."""

    file: str
    diff: str
    is_applied: bool
    backup: str | None
    usage: Usage | None


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("file", type=Path)
    parser.add_argument("instruction", help='such as "add type annotations to load()"')
    consent = parser.add_mutually_exclusive_group()
    consent.add_argument("--yes", action="store_true", help="apply without asking")
    consent.add_argument("--diff", action="store_true", help="only write the difference")
    add_context_flags(parser)
    add_server_flags(parser)
    add_sampling_flags(parser)
    parser.add_argument("--json", action="store_true", help="write difference and usage as JSON")


def run(args: argparse.Namespace) -> int:
    """Ask for the edit, show it, apply it when allowed."""
    file = args.file.resolve()  # through links, so that the file itself is replaced
    content = read(file)
    original = content.decode("utf-8", "surrogateescape")
    answer = _ask(args, editing.shown(original))
    merged = editing.merge(original, editing.whole_file(answer.text, answer.finish_reason))
    diff = editing.shown(editing.unified(original, merged, args.file.name))
    if diff and not args.json:
        show(diff, "diff")
    backup = None
    if diff and not args.diff and consents("apply?", is_given=args.yes):
        backup = replace(file, content, merged.encode("utf-8", "surrogateescape"))
        note(f"changed {args.file}; the former content is in {backup}")
    elif not diff:
        note("the model changed nothing")
    if args.json:
        write_json(
            Edited(
                file=str(args.file),
                diff=diff,
                is_applied=backup is not None,
                backup=str(backup) if backup else None,
                usage=answer.usage,
            )
        )
    return 0


def _ask(args: argparse.Namespace, original: str) -> ChatCompletion:
    """Ask for the whole file; most of it is known, which a server may use to draft."""
    neighbours = context_of(args, args.file, original).neighbours
    prediction = {"type": "content", "content": original}
    with connected(args) as client:
        note(f"asking {client.model or 'the model'} ...")
        return client.chat(
            editing.messages(args.file.name, original, args.instruction, neighbours),
            extra={"temperature": 0.0, "prediction": prediction, **sampling(args)},
        )


def read(file: Path) -> bytes:
    """Read a file that can be edited as text, in whatever encoding keeps ASCII as it is.

    Raises:
        UsageError: it is missing or empty, or no such text.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    if not content.strip():
        raise UsageError(f"{file} is empty; there is nothing to edit")
    if b"\0" in content:
        at = content.index(b"\0")
        raise UsageError(f"{file} is no text (a zero at byte {at}); convert UTF-16 to UTF-8 first")
    return content


def replace(file: Path, expected: bytes, content: bytes) -> Path:
    """Put `content` in the place of `expected`, whole or not at all; return the backup.

    Raises:
        UsageError: the file is no longer what was sent, or cannot be written.
    """
    try:
        if file.read_bytes() != expected:
            raise UsageError(f"{file} changed meanwhile and was left alone; ask again")
        backup = _free_name(file)
        shutil.copy2(file, backup)
        _write_whole(file, content)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}; it is unchanged") from None
    return backup


def _write_whole(file: Path, content: bytes) -> None:
    """Write beside the file, then rename: nobody ever sees half of it."""
    new = file.with_name(f".{file.name}.{secrets.token_hex(4)}.partial")
    try:
        with new.open("xb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        shutil.copymode(file, new)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


def _free_name(file: Path) -> Path:
    """Return the first of FILE.bak, FILE.bak2, ... that is free."""
    number = 1
    while True:
        name = file.with_name(f"{file.name}.bak{number if number > 1 else ''}")
        if not name.exists():
            return name
        number += 1
