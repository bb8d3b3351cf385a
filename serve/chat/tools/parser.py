r"""Split a growing answer into content and tool calls.

    "Let me look.\n<tool_call>{...}</tool_call>"  →  "Let me look.", ToolCall

Any split of the same text gives the same result: text is held back exactly while a call may still
begin in it. What turns out not to be a call comes out as content, unchanged. White space beside a
call belongs to the markup. Where the markup leaves no doubt, a call comes out as it is written, in
parts (`running`); otherwise it comes whole. Knows one answer and no dialect.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from serve.chat.tools.payload import Match, Reading, read_calls
from serve.chat.tools.running import Head, Parsed, RunningCalls, read_head

if TYPE_CHECKING:
    from serve.chat.tools.grammar import Grammar, Mark

_AFTER_CALL = " \t\r\n;"


class ToolParser:
    """One answer's text in, content and calls out."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._text = ""  # not yet given out
        self._at_line_start = True  # whether only blanks stand before it on its line
        self._is_after_call = False
        self._is_untouched = True  # whether nothing was given out yet
        self._running: RunningCalls | None = None
        self._openings = re.compile(f"[{re.escape(_first_characters(grammar))}]")

    def push(self, text: str) -> list[Parsed]:
        """Take new text and return what is certain now."""
        self._text += text
        return self._advance(final=False)

    def flush(self) -> list[Parsed]:
        """Return the rest: no more text comes."""
        return self._advance(final=True)

    def _advance(self, *, final: bool) -> list[Parsed]:
        pieces = self._go_on(final=final)
        if self._is_in_calls():
            return pieces
        start = self._skip_after_call()
        while (found := self._openings.search(self._text, start)) is not None:
            start = found.start()
            reading = self._read(start, final=final)
            if isinstance(reading, Head):
                pieces += self._begin(reading, start)
                pieces += self._go_on(final=final)
                if self._is_in_calls():
                    return pieces
                start = self._skip_after_call()
            elif isinstance(reading, Match):
                rest = self._text[reading.end :]
                pieces += self._give(self._text[:start].rstrip())
                pieces += reading.calls
                self._text = rest
                self._is_untouched = False
                self._at_line_start = self._is_after_call = True
                start = self._skip_after_call()
            elif reading == "pending":
                return pieces + self._give(self._text[:start].rstrip())
            else:
                start += 1
        return pieces + self._give(self._text if final else self._text.rstrip())

    def _is_in_calls(self) -> bool:
        return self._running is not None

    def _begin(self, head: Head, start: int) -> list[Parsed]:
        """Give out the content before a head, and the call that it begins."""
        rest = self._text[head.end :]
        content = self._give(self._text[:start].rstrip())
        self._text = rest
        self._running = RunningCalls(head, self._grammar)
        return [*content, head.begun]

    def _go_on(self, *, final: bool) -> list[Parsed]:
        """Give out what is certain of the calls that are being written."""
        if self._running is None:
            return []
        pieces, end = self._running.advance(self._text, final=final)
        self._text = self._text[end:]
        if self._running.is_over:
            self._running = None
            self._at_line_start = self._is_after_call = True
        return [*pieces]

    def _skip_after_call(self) -> int:
        if self._is_after_call:
            self._text = self._text.lstrip(_AFTER_CALL)
            self._is_after_call = not self._text
        return 0

    def _give(self, content: str) -> list[Parsed]:
        """Hand out the beginning of the held text."""
        self._is_untouched = self._is_untouched and not content.strip()
        self._at_line_start = self._is_line_start(len(content))
        self._text = self._text[len(content) :]
        return [content] if content else []

    def _is_line_start(self, place: int) -> bool:
        newline = self._text.rfind("\n", 0, place)
        is_blank = not self._text[newline + 1 : place].strip(" \t")
        return is_blank and (newline >= 0 or self._at_line_start)

    def _read(self, start: int, *, final: bool) -> Reading | Head:
        for mark in self._grammar.marks:
            reading = self._read_marked(start, mark, final=final)
            if reading is not None:
                return reading
        if not self._is_line_start(start):
            return None
        if self._grammar.trusts_start and self._is_untouched and not self._text[:start].strip():
            head = read_head(self._text, start, self._grammar, None)
            if head is not None and head.name in self._grammar.known and not head.in_list:
                return head
        return read_calls(self._text, start, self._grammar, self._grammar.known, final=final)

    def _read_marked(self, start: int, mark: Mark, *, final: bool) -> Reading | Head:
        if mark.weak and not self._is_line_start(start):
            return None
        if not self._text.startswith(mark.opening, start):
            is_cut = not final and mark.opening.startswith(self._text[start:])
            return "pending" if is_cut else None
        known = self._grammar.known if mark.weak else None
        inside = start + len(mark.opening)
        head = None if mark.weak else read_head(self._text, inside, self._grammar, mark)
        if head is not None:
            return head
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
