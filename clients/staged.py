"""What is staged in a git repository, as a prompt; and a model's answer as a commit message.

Knows git as a command and texts. Knows neither HTTP nor the terminal.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import msgspec

from clients.errors import ClientError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

SYSTEM = (
    "You write git commit messages. Answer with the message only: a subject of at most 72 "
    "characters in the imperative mood, then, if there is more to say, a blank line and the reason."
)
_FENCED = re.compile(r"\A```[^\n]*\n(.*?)\n?```\Z", re.DOTALL)


class Staged(msgspec.Struct, frozen=True, kw_only=True):
    """The index against HEAD. `tree` is what it would commit, and tells whether it changed."""

    tree: str
    summary: str
    diff: str


def staged(folder: Path) -> Staged:
    """Read the index.

    Raises:
        UsageError: this is no repository, the index is empty, or it cannot be committed as it is.
    """
    diff = git(folder, "diff", "--cached", "--no-color", "--no-ext-diff")
    if not diff.strip():
        raise UsageError("nothing is staged; choose what to commit with `git add`")
    return Staged(
        tree=git(folder, "write-tree").strip(),
        summary=git(folder, "diff", "--cached", "--stat", "--no-color"),
        diff=diff,
    )


def git(folder: Path, *arguments: str, text: str | None = None) -> str:
    """Run git and return what it says; `text` is its standard input.

    Raises:
        UsageError: git is missing, or refuses; with its own words.
    """
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            input=None if text is None else text.encode(),
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise UsageError("git is not installed, or not on PATH") from None
    if done.returncode:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        raise UsageError(f"git {arguments[0]} failed: {said}")
    return done.stdout.decode("utf-8", "replace")


def messages(change: Staged, max_chars: int) -> list[dict[str, str]]:
    """Return the conversation that asks for a message, with so much of the difference."""
    diff = shortened(change.diff, max_chars)
    asked = f"The files:\n{change.summary}\nThe difference:\n{diff}\nWrite the commit message."
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked}]


def shortened(diff: str, max_chars: int) -> str:
    """Give every file an equal share of `max_chars`; what a short one leaves, the others get."""
    files = [part for part in re.split(r"^(?=diff --git )", diff, flags=re.MULTILINE) if part]
    kept: dict[int, str] = {}
    room = max_chars
    for position, at in enumerate(sorted(range(len(files)), key=lambda at: len(files[at]))):
        share = room // (len(files) - position)
        text = files[at]
        if len(text) > share:
            text = text[:share].rpartition("\n")[0] + "\n(the rest of this file is left out)\n"
        kept[at] = text
        room -= min(len(files[at]), share)
    return "".join(kept[at] for at in range(len(files)))


def message_of(answer: str, finish_reason: str | None) -> str:
    """Take the message out of an answer.

    Raises:
        ClientError: it was cut off, or is empty.
    """
    if finish_reason == "length":
        raise ClientError(
            "the message was cut off at the token limit, so nothing was committed; raise "
            "--max-tokens"
        )
    text = answer.strip()
    if fenced := _FENCED.match(text):
        text = fenced[1].strip()
    subject, _, body = text.partition("\n")
    subject = subject.strip().strip("`\"'").strip()
    if not subject:
        raise ClientError("the model wrote no message; try another model, or --temperature 0.2")
    body = "\n".join(line.rstrip() for line in body.strip().splitlines())
    return f"{subject}\n\n{body}\n" if body else f"{subject}\n"
