"""Read the calls that begin at a place in the text, or say that more text is needed to tell.

Every decision holds for whatever text may follow: that is what makes streaming equal to reading
the whole. Knows nothing of where to look and of what is content.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from serve.chat.tools import balance, tagged
from serve.chat.tools.calls import ToolCall, from_json, from_named, from_python, is_known

if TYPE_CHECKING:
    from collections.abc import Collection

    from serve.chat.tools.grammar import Grammar

_FIRST_KEYS = tuple(
    f'"{key}"' for key in ("name", "function", "type", "id", "arguments", "parameters", "input")
)
_BLANK = re.compile(r"\s*")
_BETWEEN = re.compile(r"[\s;,]*")
_CALL_NAME = re.compile(r"([A-Za-z_][\w.]*)\s*(\(?)")
_NAMED = re.compile(r"([\w.\-]+)(?:\[ARGS\])?(\{?)")
_ARGS_MARK = "[ARGS]{"


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """Calls, and the index behind them."""

    calls: list[ToolCall]
    end: int


Reading = Match | Literal["pending"] | None
"""`None`: no call begins here, whatever follows."""


def read_calls(
    text: str, start: int, grammar: Grammar, known: Collection[str] | None, *, final: bool
) -> Reading:
    """Read one value that holds calls, and those that follow it directly.

    `known` None takes any name: the markup has already said that this is a call.
    """
    first = _read_value(text, _skip(_BLANK, text, start), grammar, known)
    if not isinstance(first, Match):
        return None if final else first
    calls, end = list(first.calls), first.end
    while True:
        following = _read_value(text, _skip(_BETWEEN, text, end), grammar, known)
        if following == "pending" and not final:
            return "pending"
        if not isinstance(following, Match):
            return Match(calls=calls, end=end)
        calls += following.calls
        end = following.end


def _read_value(text: str, start: int, grammar: Grammar, known: Collection[str] | None) -> Reading:
    if start == len(text):
        return "pending"
    if text[start] == "{":
        return _read_json(text, start, known)
    if text[start] == "<" and grammar.family.tagged:
        return _read_tagged(text, start, grammar, known)
    if text[start] == "[":
        return _read_list(text, start, grammar, known)
    return _read_named(text, start, known) if grammar.family.named else None


def _read_list(text: str, start: int, grammar: Grammar, known: Collection[str] | None) -> Reading:
    inside = _skip(_BLANK, text, start + 1)
    if inside == len(text):
        return "pending"
    if text[inside] == "{":
        return _read_json(text, start, known)
    return _read_python(text, start, inside, known) if grammar.family.pythonic else None


def _read_json(text: str, start: int, known: Collection[str] | None) -> Reading:
    if known is not None and not _may_be_call(text, start):
        return None
    end = balance.end_of_value(text, start, balance.JSON)
    if end is None:
        return "pending"
    return _match(from_json(text[start:end], known), end, known)


def _may_be_call(text: str, start: int) -> bool:
    """Look at the first key only, so that an answer in JSON is not held back to its end."""
    brace = text.find("{", start)
    head = text[brace + 1 :].lstrip()[:16]
    return any(key.startswith(head) or head.startswith(key) for key in _FIRST_KEYS)


def _read_python(text: str, start: int, inside: int, known: Collection[str] | None) -> Reading:
    found = _CALL_NAME.match(text, inside)
    if found is None:
        return None
    name, bracket = found.groups()
    if not bracket:
        return "pending" if found.end() == len(text) and _may_become(name, known) else None
    if known is not None and name not in known:
        return None
    end = balance.end_of_value(text, start, balance.PYTHON)
    return "pending" if end is None else _match(from_python(text[start:end]), end, known)


def _read_named(text: str, start: int, known: Collection[str] | None) -> Reading:
    found = _NAMED.match(text, start)
    if found is None:
        return None
    name, brace = found.groups()
    if known is not None and not _may_become(name, known):
        return None
    if not brace:
        rest = text[found.end(1) :]
        return "pending" if _ARGS_MARK.startswith(rest) else None
    if known is not None and name not in known:
        return None
    end = balance.end_of_value(text, found.end() - 1, balance.JSON)
    if end is None:
        return "pending"
    return _match(from_named(name, text[found.end() - 1 : end]), end, known)


def _skip(blank: re.Pattern[str], text: str, start: int) -> int:
    found = blank.match(text, start)
    return found.end() if found else start


def _read_tagged(text: str, start: int, grammar: Grammar, known: Collection[str] | None) -> Reading:
    opening = tagged.OPENING
    if not text.startswith(opening, start):
        return "pending" if opening.startswith(text[start:]) else None
    name, bracket, _ = text[start + len(opening) :].partition(">")
    if not _may_become(name, known) or (bracket and known is not None and name not in known):
        return None
    end = text.find(tagged.CLOSING, start)
    if end < 0:
        return "pending"
    end += len(tagged.CLOSING)
    return _match(tagged.from_tags(text[start:end], grammar.typed), end, known)


def _may_become(beginning: str, known: Collection[str] | None) -> bool:
    return known is None or any(name.startswith(beginning) for name in known)


def _match(calls: list[ToolCall] | None, end: int, known: Collection[str] | None) -> Reading:
    if calls is None or not is_known(calls, known):
        return None
    return Match(calls=calls, end=end)
