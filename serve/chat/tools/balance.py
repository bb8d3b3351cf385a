"""Find where a bracketed value ends, without understanding it.

    {"text": "a } in a string"}  →  the index behind the last brace

Knows neither JSON's nor Python's grammar beyond strings and brackets.
"""

from __future__ import annotations

import re

_DOUBLE = r'"(?:[^"\\]++|\\.)*+"'
_SINGLE = r"'(?:[^'\\]++|\\.)*+'"
JSON = re.compile(rf'{_DOUBLE}|["{{}}\[\]]', re.DOTALL)
PYTHON = re.compile(rf"{_DOUBLE}|{_SINGLE}|[\"'{{}}\[\]()]", re.DOTALL)

_OPENING, _CLOSING = frozenset("{[("), frozenset("}])")


def end_of_value(text: str, start: int, tokens: re.Pattern[str]) -> int | None:
    """Return the index behind the bracket that closes the one at `start`; None: not there yet."""
    depth = 0
    for match in tokens.finditer(text, start):
        token = match.group()
        if token in _OPENING:
            depth += 1
        elif token in _CLOSING:
            depth -= 1
            if depth == 0:
                return match.end()
        elif len(token) == 1:
            return None  # a quote that no other closes
    return None
