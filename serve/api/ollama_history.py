"""Ollama's messages as the templates want them; calls and results get the ids that it leaves out.

Knows no template and no answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.api.ollama_schemas import OllamaMessage


def plain(messages: Sequence[OllamaMessage]) -> list[dict[str, Any]]:
    """Return the messages; a result without an id answers the first open call of its name."""
    unanswered: list[tuple[str, str | None]] = []  # (id, name) of calls, oldest first
    num_calls = 0
    told = []
    for message in messages:
        turn = _fields(message)
        if message.tool_calls:
            turn["tool_calls"] = [
                {"id": _call_id(num_calls + index), "type": "function", **call}
                for index, call in enumerate(message.tool_calls)
            ]
            num_calls += len(message.tool_calls)
            unanswered += [(call["id"], _name(call)) for call in turn["tool_calls"]]
        if message.role == "tool":
            turn["tool_call_id"] = _answered(message, unanswered)
        told.append(turn)
    return told


def _fields(message: OllamaMessage) -> dict[str, Any]:
    fields = {
        "role": message.role,
        "content": message.content,
        "reasoning_content": message.thinking,
        "name": message.tool_name,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _answered(message: OllamaMessage, unanswered: list[tuple[str, str | None]]) -> str | None:
    """Return the id of the call that a result answers, and close that call."""
    for call_id, name in unanswered:
        if message.tool_call_id:
            is_meant = call_id == message.tool_call_id
        else:
            is_meant = message.tool_name in {None, "", name}
        if is_meant:
            unanswered.remove((call_id, name))
            return call_id
    return message.tool_call_id


def _name(call: dict[str, Any]) -> str | None:
    function = call.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def _call_id(number: int) -> str:
    """Nine letters and digits: some families' templates take no other."""
    return f"call{number:05d}"
