"""The calls behind one opening mark while the model writes them.

    <tool_call>{"name": "look", "arguments": {"at": "a.p        CallBegun, CallArguments ...
    [TOOL_CALLS][{"name": ..., "arguments": {...}}, {...}]
    [TOOL_CALLS]look[ARGS]{...}

A call is certain once its name and the beginning of its arguments stand there; from then on it is
a call, whatever follows. What breaks off, or turns out to be no JSON, leaves arguments that end
early. Other orders of keys and other forms are read whole, by `payload`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import msgspec

from serve.chat.tools.calls import ToolCall
from serve.chat.tools.json_text import JsonText
from serve.chat.tools.payload import Match, read_calls

if TYPE_CHECKING:
    from serve.chat.tools.grammar import Grammar, Mark

_BETWEEN = re.compile(r"[\s;,]*")
_OBJECT_BEGUN = r'(?=\{\s*["}])'
_JSON_HEAD = re.compile(
    r'\s*(\[\s*)?\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*'
    + _OBJECT_BEGUN
)
_NAMED_HEAD = re.compile(r"\s*([\w.\-]+)(?:\[ARGS\])?" + _OBJECT_BEGUN)


class CallBegun(msgspec.Struct, frozen=True):
    """A call is certain; its arguments follow."""

    name: str


class CallArguments(msgspec.Struct, frozen=True):
    """More of the arguments' JSON text."""

    text: str


class CallEnded(msgspec.Struct, frozen=True):
    """No more arguments come; `is_whole`: they are an object."""

    is_whole: bool


Part = CallBegun | CallArguments | CallEnded
Parsed = str | ToolCall | Part


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The beginning of a call; `end` is where its arguments begin.

    `mark` opened it, None for a call that stands alone. `outer` is the text of the object around
    the arguments, up to there.
    """

    name: str
    end: int
    mark: Mark | None
    outer: str = ""
    in_list: bool = False

    @property
    def begun(self) -> CallBegun:
        """Return what is certain with it."""
        return CallBegun(self.name)


def read_head(text: str, start: int, grammar: Grammar, mark: Mark | None) -> Head | None:
    """Return the head that stands at `start`; None: not yet, or none of this form."""
    found = _JSON_HEAD.match(text, start)
    if found is not None:
        bracket, quoted = found.groups()
        name = _name(quoted)
        outer = found.group().lstrip().removeprefix(bracket or "")
        is_list = bracket is not None
        end = found.end()
        return Head(name=name, end=end, mark=mark, outer=outer, in_list=is_list) if name else None
    found = _NAMED_HEAD.match(text, start) if grammar.family.named else None
    return found and Head(name=found.group(1), end=found.end(), mark=mark)


def _name(quoted: str) -> str | None:
    try:
        name: str = json.loads(quoted, strict=False)
    except ValueError:
        return None
    return name if name.isprintable() else None


class RunningCalls:
    """What follows a head, up to the end of the markup or of what is a call: `is_over`."""

    def __init__(self, head: Head, grammar: Grammar) -> None:
        self.is_over = False
        self._mark = head.mark
        self._grammar = grammar
        self._in_list = False
        self._begin(head)

    def _begin(self, head: Head) -> None:
        self._json = JsonText()
        self._json.take(head.outer, 0, to_depth=0)
        self._depth = self._json.depth  # around the arguments
        self._in_list = self._in_list or head.in_list
        self._read = self._arguments

    def advance(self, text: str, *, final: bool) -> tuple[list[Parsed], int]:
        """Return what is certain of the text, and the index behind it."""
        pieces: list[Parsed] = []
        place, before = 0, None
        while before != (place, self._read) and not self.is_over:
            before = place, self._read
            more, place = self._read(text, place, final=final)
            pieces += more
        return pieces, place

    def _arguments(self, text: str, place: int, *, final: bool) -> tuple[list[Parsed], int]:
        told, end = self._json.take(text, place, to_depth=self._depth)
        pieces: list[Parsed] = [CallArguments(told)] if told else []
        is_whole = bool(told) and self._json.depth == self._depth
        if is_whole:
            self._read = self._outer if self._depth else self._between
        elif self._json.is_broken or final:
            self.is_over = True
            end = end if self._json.is_broken else len(text)
        else:
            return pieces, end
        return [*pieces, CallEnded(is_whole)], end

    def _outer(self, text: str, place: int, *, final: bool) -> tuple[list[Parsed], int]:
        """Pass over what else is in the object around the arguments."""
        _, end = self._json.take(text, place, to_depth=0)
        if self._json.depth == 0:
            self._read = self._between
        else:
            self.is_over = self._json.is_broken or final
        return [], end

    def _between(self, text: str, place: int, *, final: bool) -> tuple[list[Parsed], int]:
        """Look for the end of the markup, or for another call."""
        if self._mark is None:
            self.is_over = True
            return [], place
        closing, found = self._mark.closing, _BETWEEN.match(text, place)
        begin = found.end() if found else place
        rest = text[begin:]
        if self._in_list and rest.startswith("]"):
            self._in_list = False
            return [], begin + 1
        if closing and rest.startswith(closing):
            self.is_over = True
            return [], begin + len(closing)
        if not final and closing.startswith(rest):
            return [], place
        return self._another(text, begin, place, final=final)

    def _another(
        self, text: str, begin: int, place: int, *, final: bool
    ) -> tuple[list[Parsed], int]:
        """Read a call that stands at `begin`; without one all from `place` on is content."""
        head = read_head(text, begin, self._grammar, self._mark)
        if head is not None:
            self._begin(head)
            return [head.begun], head.end
        reading = read_calls(text, begin, self._grammar, None, final=final)
        if isinstance(reading, Match):
            return [*reading.calls], reading.end
        self.is_over = final or reading is None
        return [], place
