r"""Read a call that spells its parameters out in tags, as Qwen3-Coder does.

    <function=write>\n<parameter=path>\na.py\n</parameter>\n</function>

Values are text as it stands, one line break at either end left out, so code needs no escaping.
Knows nothing of the tags around a call.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from serve.chat.tools.calls import ToolCall, from_named

if TYPE_CHECKING:
    from collections.abc import Collection

OPENING, CLOSING = "<function=", "</function>"
_PARAMETER = re.compile(r"\s*<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>\s*", re.DOTALL)


def from_tags(text: str, typed: Collection[tuple[str, str]]) -> list[ToolCall] | None:
    """Return the call of `<function=...>...</function>`, None when it is anything else.

    `typed` names the parameters, by tool, that are not strings: their values are read as JSON.
    """
    name, bracket, body = text.removeprefix(OPENING).partition(">")
    body = body.removesuffix(CLOSING)
    arguments: dict[str, Any] = {}
    place = 0
    while (found := _PARAMETER.match(body, place)) is not None:
        key, value = found.groups()
        arguments[key] = _typed(value) if (name, key) in typed else value
        place = found.end()
    if not bracket or body[place:].strip():
        return None
    return from_named(name.strip(), json.dumps(arguments))


def typed_parameters(name: str, schema: object) -> list[tuple[str, str]]:
    """Return the parameters of a tool that its JSON schema does not call strings."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return []
    return [
        (name, key)
        for key, value in properties.items()
        if isinstance(value, dict) and "string" not in _types(value)
    ]


def _types(schema: dict[str, Any]) -> list[Any]:
    kinds = schema.get("type", "string")
    return kinds if isinstance(kinds, list) else [kinds]


def _typed(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return {"True": True, "False": False, "None": None}.get(value, value)
