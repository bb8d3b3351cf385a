r"""Split a growing answer into content and tool calls.

    "Let me look.\n<tool_call>{...}</tool_call>"  →  "Let me look.", ToolCall

Any split of the same text gives the same result: text is held back exactly while a call may still
begin in it. What turns out not to be a call comes out as content, unchanged. White space beside a
call belongs to the markup. Knows one answer and no dialect.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from serve.chat.tools.payload import Match, Reading, read_calls

if TYPE_CHECKING:
    from serve.chat.tools.calls import ToolCall
    from serve.chat.tools.grammar import Grammar, Mark

_AFTER_CALL = " \t\r\n;"


class ToolParser:
    """One answer's text in, content and calls out."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._text = ""  # not yet given out
        self._at_line_start = True  # whether only blanks stand before it on its line
        self._is_after_call = False
        self._openings = re.compile(f"[{re.escape(_first_characters(grammar))}]")

    def push(self, text: str) -> list[str | ToolCall]:
        """Take new text and return what is certain now."""
        self._text += text
        return self._advance(final=False)

    def flush(self) -> list[str | ToolCall]:
        """Return the rest: no more text comes."""
        return self._advance(final=True)

    def _advance(self, *, final: bool) -> list[str | ToolCall]:
        pieces: list[str | ToolCall] = []
        start = self._skip_after_call()
        while (found := self._openings.search(self._text, start)) is not None:
            start = found.start()
            reading = self._read(start, final=final)
            if isinstance(reading, Match):
                rest = self._text[reading.end :]
                pieces += self._give(self._text[:start].rstrip())
                pieces += reading.calls
                self._text = rest
                self._at_line_start = self._is_after_call = True
                start = self._skip_after_call()
            elif reading == "pending":
                return pieces + self._give(self._text[:start].rstrip())
            else:
                start += 1
        return pieces + self._give(self._text if final else self._text.rstrip())

    def _skip_after_call(self) -> int:
        if self._is_after_call:
            self._text = self._text.lstrip(_AFTER_CALL)
            self._is_after_call = not self._text
        return 0

    def _give(self, content: str) -> list[str | ToolCall]:
        """Hand out the beginning of the held text."""
        self._at_line_start = self._is_line_start(len(content))
        self._text = self._text[len(content) :]
        return [content] if content else []

    def _is_line_start(self, place: int) -> bool:
        newline = self._text.rfind("\n", 0, place)
        is_blank = not self._text[newline + 1 : place].strip(" \t")
        return is_blank and (newline >= 0 or self._at_line_start)

    def _read(self, start: int, *, final: bool) -> Reading:
        for mark in self._grammar.marks:
            reading = self._read_marked(start, mark, final=final)
            if reading is not None:
                return reading
        if not self._is_line_start(start):
            return None
        return read_calls(self._text, start, self._grammar, self._grammar.known, final=final)

    def _read_marked(self, start: int, mark: Mark, *, final: bool) -> Reading:
        if mark.weak and not self._is_line_start(start):
            return None
        if not self._text.startswith(mark.opening, start):
            is_cut = not final and mark.opening.startswith(self._text[start:])
            return "pending" if is_cut else None
        known = self._grammar.known if mark.weak else None
        inside = start + len(mark.opening)
        reading = read_calls(self._text, inside, self._grammar, known, final=final)
        return self._close(reading, mark, final=final) if isinstance(reading, Match) else reading

    def _close(self, match: Match, mark: Mark, *, final: bool) -> Reading:
        """Take the closing mark along where it stands; models forget it at the end."""
        rest = self._text[match.end :].lstrip()
        if rest.startswith(mark.closing):
            end = len(self._text) - len(rest) + len(mark.closing)
            return Match(calls=match.calls, end=end) if mark.closing else match
        return "pending" if not final and mark.closing.startswith(rest) else match


def _first_characters(grammar: Grammar) -> str:
    names = "".join(name[:1] for name in grammar.known) if grammar.family.named else ""
    return "".join(sorted({*(mark.opening[0] for mark in grammar.marks), *"{[", *names}))
