"""Bring chat messages into the form that templates expect.

Clients send content as a string, as parts or as null, and tool arguments as JSON text; templates
are written for strings and objects. Knows no template and no HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from serve.chat.errors import MessageError

TEXT_PARTS = frozenset({"text", "input_text", "output_text"})


def for_template(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages with plain string content and tool arguments as objects.

    Raises:
        MessageError: a part that is not text, or tool arguments that are not a JSON object.
    """
    return [_message(message, f"messages.{index}") for index, message in enumerate(messages)]


def _message(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    role = "system" if message.get("role") == "developer" else message.get("role")
    plain = {
        **message,
        "role": role,
        "content": plain_text(message.get("content"), f"{where}.content"),
    }
    if plain.get("tool_calls"):
        calls = plain["tool_calls"]
        plain["tool_calls"] = [
            _tool_call(c, f"{where}.tool_calls.{i}") for i, c in enumerate(calls)
        ]
    return plain


def plain_text(content: object, where: str) -> str:
    """Return content as a string. Raises: MessageError, a part that is not text."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise MessageError(where, f"{where} must be a string or a list of parts")
    return "\n".join(_part(part, f"{where}.{index}") for index, part in enumerate(content))


def _part(part: object, where: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    text = part.get("text") if isinstance(part, Mapping) else None
    if kind not in TEXT_PARTS:
        raise MessageError(where, f"{where} is of type {kind!r}; this model reads text parts only")
    if not isinstance(text, str):
        raise MessageError(where, f"{where} is a text part without a string `text`")
    return text


def _tool_call(call: object, where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping):
        raise MessageError(where, f"{where} must be an object with a `function` object")
    if not isinstance(function.get("name"), str):
        raise MessageError(where, f"{where}.function.name must be a string")
    arguments = _arguments(function.get("arguments"), f"{where}.function.arguments")
    return {**call, "function": {**function, "arguments": arguments}}


def _arguments(arguments: object, where: str) -> dict[str, Any]:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError as error:
            raise MessageError(where, f"{where} is not JSON: {error}") from error
    if arguments is None:
        return {}
    if not isinstance(arguments, dict):
        raise MessageError(where, f"{where} must be a JSON object")
    return arguments
