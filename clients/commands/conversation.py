"""A conversation at the terminal: its turns, its slash commands, its input lines.

Knows neither HTTP nor the terminal: lines come from a function, answers from the caller.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from clients.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

HELP = """\
/system TEXT   set the system message (without TEXT: show it)
/clear         forget the turns, keep the system message
/save FILE     write the last answer's code blocks to FILE (the whole answer if it has none)
/help          show this
/quit          leave (also ^D)

A line that ends with \\ goes on in the next; a line of \"\"\" opens and closes a longer text.
^C stops a running answer."""

QUOTES = '"""'
_CODE_BLOCK = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Conversation:
    """The turns so far, as the messages to send."""

    def __init__(self, system: str | None = None) -> None:
        self.system = system
        self.turns: list[dict[str, str]] = []

    def messages(self, user_text: str) -> list[dict[str, str]]:
        """Return what to send to have `user_text` answered; nothing is remembered yet."""
        head = [{"role": "system", "content": self.system}] if self.system else []
        return [*head, *self.turns, {"role": "user", "content": user_text}]

    def remember(self, user_text: str, answer: str) -> None:
        """Keep an answered turn."""
        self.turns.append({"role": "user", "content": user_text})
        self.turns.append({"role": "assistant", "content": answer})

    def command(self, line: str) -> str | None:
        """Obey a slash command; return what to tell the user, None to leave.

        Raises:
            UsageError: there is no such command, or it cannot be done.
        """
        name, _, argument = line.strip().partition(" ")
        argument = argument.strip()
        if name in {"/quit", "/exit"}:
            return None
        if name == "/help":
            return HELP
        if name == "/clear":
            self.turns.clear()
            return "(forgotten)"
        if name == "/system":
            self.system = argument or self.system
            return f"system: {self.system or '(none)'}"
        if name == "/save":
            return self._save(argument)
        raise UsageError(f"there is no {name}; /help lists the commands")

    def _save(self, name: str) -> str:
        if not name:
            raise UsageError("/save needs a file name")
        if not self.turns:
            raise UsageError("there is no answer to save yet")
        text = code_of(self.turns[-1]["content"])
        file = Path(name).expanduser()
        try:
            with file.open("x", encoding="utf-8") as out:
                out.write(text)
        except FileExistsError:
            raise UsageError(f"{file} exists and stays as it is; choose another name") from None
        except OSError as error:
            raise UsageError(f"cannot write {file}: {error.strerror}") from None
        return f"saved {len(text.splitlines())} lines to {file}"


def code_of(answer: str) -> str:
    """Return the code blocks of an answer, one after the other; all of it when it has none."""
    blocks = [match[1] for match in _CODE_BLOCK.finditer(answer)]
    return "\n".join(blocks) if blocks else answer


def read_message(read_line: Callable[[str], str]) -> str:
    """Read one message, which may have several lines.

    `read_line` shows a prompt and returns a line without its end; it raises EOFError at the end.
    """
    line = read_line("> ")
    if line.strip() == QUOTES:
        lines = []
        while (line := read_line(". ")).strip() != QUOTES:
            lines.append(line)
        return "\n".join(lines)
    text = ""
    while line.endswith("\\"):
        text += line[:-1] + "\n"
        line = read_line(". ")
    return text + line
