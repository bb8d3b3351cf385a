r"""A JSON object as it is being written: how much of it is certain, and where it breaks.

    {"at": "a \u00e9", "n": 12}    given out up to a string's last character, an escape or a number
                                   only once it is whole

What was given out is the beginning of a valid object, whatever follows. Knows no keys.
"""

from __future__ import annotations

import json
import re

MAX_DEPTH = 64  # deeper arguments are nonsense, and their readers recurse

_BLANK = re.compile(r"[ \t\r\n]+")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_ESCAPE_BEGUN = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_WORD = re.compile(r"[-+.\w]+")
_SCALAR = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null", re.ASCII)
_CLOSING = {"{": "}", "[": "]"}


class JsonText:
    """One object, taken in pieces. `depth` is how many brackets are open."""

    def __init__(self) -> None:
        self.is_broken = False
        self._open: list[str] = []
        self._in_string = False
        self._is_key = False  # whether the next string is one
        self._may = frozenset("{")  # which kinds of token may come next

    @property
    def depth(self) -> int:
        """Count the open brackets."""
        return len(self._open)

    def take(self, text: str, start: int, *, to_depth: int) -> tuple[str, int]:
        """Read on from `start`, until a bracket closes to `to_depth`.

        Returns what is certain and the index behind it; what breaks the object is left there.
        """
        told: list[str] = []
        place = start
        while place < len(text) and not self.is_broken:
            step = self._string(text, place) if self._in_string else self._token(text, place)
            if step is None:
                break
            piece, place = step
            told.append(piece)
            if piece in {"}", "]"} and not self._in_string and self.depth == to_depth:
                break
        return "".join(told), place

    def _string(self, text: str, place: int) -> tuple[str, int] | None:
        """Read within a string; control characters, which models forget to escape, are escaped."""
        if text[place] == '"':
            self._in_string = False
            self._may = frozenset(":" if self._is_key else self._behind_value())
            return '"', place + 1
        if text[place] == "\\":
            found = _ESCAPE.match(text, place)
            if found is None:
                self.is_broken = _ESCAPE_BEGUN.match(text, place) is None
            return found and (found.group(), found.end())
        found = _PLAIN.match(text, place)
        if found is None:
            return json.dumps(text[place])[1:-1], place + 1
        return found.group(), found.end()

    def _token(self, text: str, place: int) -> tuple[str, int] | None:
        blank = _BLANK.match(text, place)
        if blank is not None:
            return blank.group(), blank.end()
        if (mark := text[place]) in '{}[]":,':
            self.is_broken = mark not in self._may or self.depth > MAX_DEPTH
            if self.is_broken:
                return None
            self._follow(mark)
            return mark, place + 1
        word = _WORD.match(text, place)
        if word is None or "0" not in self._may:
            self.is_broken = True
        elif word.end() < len(text):
            self.is_broken = _SCALAR.fullmatch(word.group()) is None
            if not self.is_broken:
                self._may = frozenset(self._behind_value())
                return word.group(), word.end()
        return None

    def _follow(self, mark: str) -> None:
        """Note what a mark makes of what may come; `0` stands for numbers and words."""
        if mark in _CLOSING:
            self._open.append(mark)
            self._may = frozenset('"}') if mark == "{" else frozenset('{["0]')
            self._is_key = mark == "{"
        elif mark in {"}", "]"}:
            self._open.pop()
            self._may = frozenset(self._behind_value())
        elif mark == '"':
            self._in_string = True
        elif mark == ":":
            self._is_key = False
            self._may = frozenset('{["0')
        else:
            self._is_key = self._open[-1] == "{"
            self._may = frozenset('"' if self._is_key else '{["0')

    def _behind_value(self) -> str:
        return f",{_CLOSING[self._open[-1]]}" if self._open else ""
