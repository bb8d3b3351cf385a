"""Translate an Anthropic request into a chat request, which is the one the server answers.

Knows no template and no answer.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from serve.api.anthropic_schemas import AnthropicMessage, CountRequest, MessagesRequest, ToolChoice
from serve.api.chat_schemas import ChatMessage, ChatRequest
from serve.api.errors import InvalidRequestError

_NONCE = re.compile(r"\bcch=[^;\s]*")
_ROLES = frozenset({"user", "assistant", "system"})
_UNSEEN = frozenset({"redacted_thinking"})

Block = dict[str, Any]


def to_chat(data: CountRequest, *, normalise_nonces: bool) -> ChatRequest:
    """Return the same request as the chat dialect says it.

    Raises:
        InvalidRequestError: naming the field that cannot be translated.
    """
    messages = _system(data.system, normalise_nonces=normalise_nonces)
    for index, message in enumerate(data.messages):
        messages += _turn(message, f"messages.{index}")
    choice, output = data.tool_choice, data.output_config
    chat = ChatRequest(
        messages=messages,
        tools=_tools(data.tools or []),
        tool_choice=_choice(choice) if choice else None,
        parallel_tool_calls=not choice.disable_parallel_tool_use if choice else None,
        chat_template_kwargs=_variables(data),
        reasoning_effort=output.effort if output else None,
        response_format=(output.format if output else None) or data.output_format,
    )
    return _with_sampling(chat, data) if isinstance(data, MessagesRequest) else chat


def without_nonce(text: str) -> str:
    """Replace the value that is new with each call.

    The first system block of Claude Code is a billing header with fields such as `cch=1a2b3;`,
    different in every request. It stands before everything else, so that nothing behind it could
    be found in the prefix cache.
    """
    return _NONCE.sub("cch=0", text)


def _with_sampling(chat: ChatRequest, data: MessagesRequest) -> ChatRequest:
    if data.max_tokens < 1:
        raise InvalidRequestError(
            f"max_tokens is {data.max_tokens}; it must be at least 1", param="max_tokens"
        )
    return msgspec.structs.replace(
        chat,
        max_tokens=data.max_tokens,
        stop=data.stop_sequences,
        temperature=data.temperature,
        top_p=data.top_p,
        top_k=data.top_k,
    )


def _variables(data: CountRequest) -> dict[str, Any] | None:
    """Tell templates that know it to leave thinking out; with it they do as they are trained."""
    is_off = data.thinking is not None and data.thinking.type == "disabled"
    return {"enable_thinking": False} if is_off else None


def _system(system: str | list[Block] | None, *, normalise_nonces: bool) -> list[ChatMessage]:
    blocks = [{"type": "text", "text": system}] if isinstance(system, str) else system
    if not blocks:
        return []
    texts = [_text(block, f"system.{index}") for index, block in enumerate(blocks)]
    if normalise_nonces:
        texts[0] = without_nonce(texts[0])
    return [ChatMessage(role="system", content="\n".join(texts))]


def _turn(message: AnthropicMessage, where: str) -> list[ChatMessage]:
    if message.role not in _ROLES:
        raise InvalidRequestError(
            f"{where}.role is {message.role!r}; it must be 'user' or 'assistant'",
            param=f"{where}.role",
        )
    if isinstance(message.content, str):
        return [ChatMessage(role=message.role, content=message.content)]
    if message.role == "assistant":
        return [_assistant(message.content, f"{where}.content")]
    return _asking(message.role, message.content, f"{where}.content")


def _assistant(blocks: list[Block], where: str) -> ChatMessage:
    """Bring text, thoughts and calls of one turn together."""
    texts, thoughts, calls = [], [], []
    for index, block in enumerate(blocks):
        place = f"{where}.{index}"
        match block.get("type"):
            case "tool_use":
                calls.append(_call(block, place))
            case "thinking":
                thoughts.append(_string(block, "thinking", place))
            case kind if kind not in _UNSEEN:
                texts.append(_text(block, place))
    return ChatMessage(
        role="assistant",
        content="\n".join(texts),
        tool_calls=calls or msgspec.UNSET,
        reasoning_content="\n".join(thoughts) if thoughts else msgspec.UNSET,
    )


def _asking(role: str, blocks: list[Block], where: str) -> list[ChatMessage]:
    """Split a turn at its tool results: each is a message of its own in the chat dialect."""
    messages: list[ChatMessage] = []
    texts: list[str] = []
    for index, block in enumerate(blocks):
        place = f"{where}.{index}"
        if block.get("type") != "tool_result":
            texts.append(_text(block, place))
            continue
        messages += [ChatMessage(role=role, content="\n".join(texts))] if texts else []
        messages.append(_result(block, place))
        texts = []
    if texts or not messages:
        messages.append(ChatMessage(role=role, content="\n".join(texts)))
    return messages


def _call(block: Block, where: str) -> dict[str, Any]:
    arguments = block.get("input", {})
    if not isinstance(arguments, dict):
        raise InvalidRequestError(f"{where}.input must be an object", param=f"{where}.input")
    name, call_id = _string(block, "name", where), _string(block, "id", where)
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def _result(block: Block, where: str) -> ChatMessage:
    content = block.get("content") or ""
    if isinstance(content, list):
        parts = [_text(each, f"{where}.content.{index}") for index, each in enumerate(content)]
        content = "\n".join(parts)
    if not isinstance(content, str):
        raise InvalidRequestError(
            f"{where}.content must be a string or a list of blocks", param=f"{where}.content"
        )
    call_id = _string(block, "tool_use_id", where)
    return ChatMessage(role="tool", content=content, tool_call_id=call_id)


def _text(block: Any, where: str) -> str:
    kind = block.get("type") if isinstance(block, dict) else type(block).__name__
    if kind != "text":
        raise InvalidRequestError(
            f"{where} is of type {kind!r}, which cannot stand here; this model reads text, tool "
            "calls and their results",
            param=where,
        )
    return _string(block, "text", where)


def _string(block: Block, key: str, where: str) -> str:
    value = block.get(key)
    if not isinstance(value, str) or (key != "text" and not value):
        param = f"{where}.{key}"
        raise InvalidRequestError(f"{param} is {value!r}; it must be a string", param=param)
    return value


def _tools(tools: list[Block]) -> list[dict[str, Any]] | None:
    """Return the tools the client runs; those a hosted service would run itself are left out."""
    own = [
        _tool(tool, f"tools.{index}")
        for index, tool in enumerate(tools)
        if tool.get("type") in {None, "custom"}
    ]
    return own or None


def _tool(tool: Block, where: str) -> dict[str, Any]:
    schema = tool.get("input_schema", {"type": "object", "properties": {}})
    if not isinstance(schema, dict):
        raise InvalidRequestError(
            f"{where}.input_schema must be an object", param=f"{where}.input_schema"
        )
    said = {"description": tool["description"]} if tool.get("description") else {}
    # In the order that models saw in training, and that other dialects' clients send.
    function = {"name": _string(tool, "name", where), **said, "parameters": schema}
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice) -> str | dict[str, Any]:
    if choice.type == "tool":
        return {"type": "function", "function": {"name": choice.name}}
    return "required" if choice.type == "any" else choice.type
