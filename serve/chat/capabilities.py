"""Find out what a chat template can express, by rendering probes and looking at the text.

Editors read these flags before they offer tools. Knows nothing of the model behind the template.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from serve.chat.errors import TemplateError

if TYPE_CHECKING:
    from serve.chat.template import ChatTemplate, Message, Tool

_TOOL_NAME = "probe_tool_name"
_CALL_NAME = "probe_call_name"
_SYSTEM = "probe system text"
_THOUGHT = "probe thought text"
_USER: dict[str, Any] = {"role": "user", "content": "probe"}
_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": _TOOL_NAME,
        "description": "probe",
        "parameters": {"type": "object", "properties": {"x": {"type": "string"}}},
    },
}
_CALL: dict[str, Any] = {
    "id": "call_0123",
    "type": "function",
    "function": {"name": _CALL_NAME, "arguments": {"x": "1"}},
}


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What survives rendering.

    `generic_tools`: the template knows no tools, and they are put into words for it; the model was
    hardly trained on that.
    """

    supports_system_role: bool
    supports_tools: bool
    supports_tool_calls: bool
    supports_thinking: bool
    generic_tools: bool = False


def probe(template: ChatTemplate) -> Capabilities:
    """Render one conversation per question."""
    system: Message = {"role": "system", "content": _SYSTEM}
    call: Message = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
    thought: Message = {"role": "assistant", "content": "ok", "reasoning_content": _THOUGHT}
    return Capabilities(
        supports_system_role=_SYSTEM in _rendered(template, [system, _USER]),
        supports_tools=_TOOL_NAME in _rendered(template, [_USER], tools=[_TOOL]),
        supports_tool_calls=_CALL_NAME in _rendered(template, [_USER, call], tools=[_TOOL]),
        supports_thinking=_THOUGHT in _rendered(template, [_USER, thought]),
    )


def _rendered(
    template: ChatTemplate, messages: list[Message], *, tools: list[Tool] | None = None
) -> str:
    try:
        return template.render(messages, tools=tools)
    except TemplateError:
        return ""
