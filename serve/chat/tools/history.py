"""Check and complete the tool calls and results that a conversation brings along.

Works on messages that `chat.messages` has made plain. Knows neither the answer nor HTTP.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from serve.chat.errors import MessageError, TemplateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from serve.chat.template import ChatTemplate

_PROBE_ARGUMENTS = {"probe": "1"}
_PROBE_TOOL = {
    "type": "function",
    "function": {"name": "probe", "description": "probe", "parameters": {"type": "object"}},
}


def complete(messages: Sequence[Mapping[str, Any]], template: ChatTemplate) -> list[dict[str, Any]]:
    """Return the messages with results named and arguments in the form the template reads.

    Raises:
        MessageError: a call without id, or a result that answers no call before it.
    """
    names: dict[str, str] = {}
    completed = []
    for index, message in enumerate(messages):
        plain = dict(message)
        if plain.get("tool_calls"):
            names |= _call_names(plain["tool_calls"], f"messages.{index}.tool_calls")
            plain["tool_calls"] = [_written(call, template) for call in plain["tool_calls"]]
        if plain.get("role") == "tool":
            name = _answered(plain.get("tool_call_id"), names, f"messages.{index}.tool_call_id")
            plain["name"] = plain.get("name") or name
        completed.append(plain)
    return completed


def _call_names(calls: Sequence[Mapping[str, Any]], where: str) -> dict[str, str]:
    names = {}
    for index, call in enumerate(calls):
        call_id = call.get("id")
        if not isinstance(call_id, str) or not call_id:
            param = f"{where}.{index}.id"
            raise MessageError(param, f"{param} is {call_id!r}; a call needs an id, a string")
        names[call_id] = call["function"]["name"]
    return names


def _answered(call_id: object, names: Mapping[str, str], where: str) -> str:
    if isinstance(call_id, str) and call_id in names:
        return names[call_id]
    known = ", ".join(map(repr, names)) or "none"
    raise MessageError(
        where, f"{where} is {call_id!r}; it must be the id of a call made before: {known}"
    )


def _written(call: Mapping[str, Any], template: ChatTemplate) -> dict[str, Any]:
    if not _reads_text(template):
        return dict(call)
    function = call["function"]
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {**function, "arguments": arguments}}


@functools.lru_cache(maxsize=8)
def _reads_text(template: ChatTemplate) -> bool:
    """Return whether the template puts arguments into the prompt as they are.

    Most serialise an object themselves; some paste text, and would fail on an object or show it
    as Python writes it.
    """
    from_object = _rendered(template, _PROBE_ARGUMENTS)
    if from_object is not None and repr(_PROBE_ARGUMENTS) not in from_object:
        return False
    text = json.dumps(_PROBE_ARGUMENTS)
    return text in (_rendered(template, text) or "")


def _rendered(template: ChatTemplate, arguments: object) -> str | None:
    function = {"name": "probe", "arguments": arguments}
    call = {"id": "probe0123", "type": "function", "function": function}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "probe"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    try:
        return template.render(messages, tools=[_PROBE_TOOL])
    except TemplateError:
        return None
