"""Translate a Responses request into a chat request, which is the one the server answers.

Items of kinds that a hosted service would act on itself, and tools of such kinds, are left out:
agents send them to every server. Knows no template and no answer.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

import msgspec

from serve.api.chat_schemas import ChatMessage, ChatRequest
from serve.api.constraint_schemas import ResponseFormat
from serve.api.errors import InvalidRequestError
from serve.api.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.api.responses_schemas import Item, ResponseRequest

LOGPROBS = "message.output_text.logprobs"
_ROLES = frozenset({"user", "assistant", "system", "developer"})


def input_items(data: ResponseRequest) -> list[Item]:
    """Return what is new in the conversation, as items.

    Raises:
        InvalidRequestError: there is nothing to answer.
    """
    if isinstance(data.input, str):
        return [{"type": "message", "role": "user", "content": data.input}]
    if not data.input and data.previous_response_id is None:
        raise InvalidRequestError("input is missing; send text or a list of items", param="input")
    return data.input or []


def to_chat(data: ResponseRequest, items: Sequence[Item]) -> ChatRequest:
    """Return the conversation of `items` as the chat dialect says it.

    Raises:
        InvalidRequestError: naming the field that cannot be translated.
    """
    turns = _Turns(data.instructions)
    for index, item in enumerate(items):
        turns.add(item, f"input.{index}")
    choice, tools = _choice(data.tool_choice), _tools(data.tools or [], data.tool_choice)
    sampling = {name: getattr(data, name) for name in Sampling.__struct_fields__}
    return ChatRequest(
        **sampling,
        messages=turns.messages(),
        tools=tools,
        tool_choice=choice if tools else None,
        parallel_tool_calls=data.parallel_tool_calls,
        max_tokens=data.max_output_tokens,
        response_format=_format(data.text.format if data.text else None),
        reasoning_effort=data.reasoning.effort if data.reasoning else None,
        chat_template_kwargs=data.chat_template_kwargs,
        service_tier=data.service_tier,
        logprobs=LOGPROBS in (data.include or []),
        top_logprobs=data.top_logprobs,
        stream=data.stream,
        return_progress=data.return_progress,
        timings_per_token=data.timings_per_token,
        cache_prompt=data.cache_prompt,
    )


class _Turns:
    """Gathers items into turns: thoughts, text and calls of one answer are one turn."""

    def __init__(self, instructions: str | None) -> None:
        self._systems = [instructions] if instructions else []
        self._turns: list[ChatMessage] = []
        self._thoughts: list[str] = []

    def messages(self) -> list[ChatMessage]:
        """Return the turns; what stands before the first is one system message."""
        system = "\n\n".join(self._systems)
        return [ChatMessage(role="system", content=system)] * bool(system) + self._turns

    def add(self, item: Item, where: str) -> None:
        """Take the next item."""
        match item.get("type", "message"):
            case "message":
                self._message(item, where)
            case "reasoning":
                self._thoughts.append(_thoughts(item))
            case "function_call":
                self._call(item, where)
            case "function_call_output":
                self._result(item, where)
            case "item_reference":
                raise InvalidRequestError(
                    f"{where} refers to an item; send the item itself, or previous_response_id",
                    param=where,
                )

    def _message(self, item: Item, where: str) -> None:
        role, content = item.get("role"), item.get("content", "")
        if role not in _ROLES:
            raise InvalidRequestError(
                f"{where}.role is {role!r}; it must be one of {', '.join(sorted(_ROLES))}",
                param=f"{where}.role",
            )
        if role == "assistant":
            self._answer(content=_text(content, f"{where}.content"))
        elif role != "user" and not self._turns:
            self._systems.append(_text(content, f"{where}.content"))
        else:
            self._turns.append(ChatMessage(role=role, content=_text(content, f"{where}.content")))

    def _call(self, item: Item, where: str) -> None:
        arguments = item.get("arguments", "")
        function = {"name": _string(item, "name", where), "arguments": arguments}
        call_id = _string(item, "call_id", where)
        self._answer(call={"id": call_id, "type": "function", "function": function})

    def _result(self, item: Item, where: str) -> None:
        """Take a result; one of a call that was left out is left out with it."""
        call_id = _string(item, "call_id", where)
        known = {call["id"] for turn in self._turns for call in turn.tool_calls or []}
        if call_id in known:
            content = _text(item.get("output", ""), f"{where}.output")
            self._turns.append(ChatMessage(role="tool", content=content, tool_call_id=call_id))

    def _answer(self, *, content: str = "", call: dict[str, Any] | None = None) -> None:
        """Go on with the assistant's turn, or begin it."""
        if not self._turns or self._turns[-1].role != "assistant":
            self._turns.append(ChatMessage(role="assistant", content=""))
        turn = self._turns[-1]
        if content:
            turn.content = f"{turn.content}\n{content}" if turn.content else content
        if call:
            turn.tool_calls = [*(turn.tool_calls or []), call]
        if self._thoughts:
            turn.reasoning_content = "\n".join(self._thoughts)
            self._thoughts = []


def hidden(thought: str) -> str:
    """Return a thought as clients carry it that keep none."""
    return base64.b64encode(thought.encode()).decode()


def _thoughts(item: Item) -> str:
    content = item.get("content")
    if isinstance(content, list) and content:
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    try:
        return base64.b64decode(item.get("encrypted_content") or "", validate=True).decode()
    except (binascii.Error, TypeError, ValueError):
        return ""  # another server's


def _text(content: Any, where: str) -> str:
    """Return the text of a string or of parts."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise InvalidRequestError(f"{where} must be a string or a list of parts", param=where)
    return "\n".join(_part(part, f"{where}.{index}") for index, part in enumerate(content))


def _part(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    if kind == "refusal":
        return _string(part, "refusal", where)
    if kind not in {"input_text", "output_text", "text"}:
        raise InvalidRequestError(
            f"{where} is of type {kind!r}; this model reads text parts only", param=where
        )
    return _string(part, "text", where)


def _string(item: Item, key: str, where: str) -> str:
    value = item.get(key)
    if not isinstance(value, str):
        param = f"{where}.{key}"
        raise InvalidRequestError(f"{param} is {value!r}; it must be a string", param=param)
    return value


def _tools(tools: Sequence[Item], choice: str | Item | None) -> list[dict[str, Any]] | None:
    """Return the functions offered; kinds that a hosted service runs itself are left out."""
    allowed = _allowed(choice)
    own = [tool for tool in tools if tool.get("type") == "function"]
    kept = ("name", "description", "parameters", "strict")
    functions = [
        {key: tool[key] for key in kept if tool.get(key) is not None}
        for tool in own
        if allowed is None or tool.get("name") in allowed
    ]
    return [{"type": "function", "function": function} for function in functions] or None


def _allowed(choice: str | Item | None) -> set[str] | None:
    if not isinstance(choice, dict) or choice.get("type") != "allowed_tools":
        return None
    tools = choice.get("tools")
    return {str(each.get("name")) for each in tools or [] if isinstance(each, dict)}


def _choice(choice: str | Item | None) -> str | dict[str, Any] | None:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") == "allowed_tools":
        return str(choice.get("mode", "auto"))
    if choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return "auto"  # a tool of the kinds that are left out


def _format(wanted: dict[str, Any] | None) -> ResponseFormat | None:
    """Return the format as the chat dialect nests it."""
    if wanted is None:
        return None
    kind = wanted.get("type", "text")
    inner = {key: value for key, value in wanted.items() if key != "type"}
    nested = {"type": kind, "json_schema": inner} if kind == "json_schema" else {"type": kind}
    try:
        return msgspec.convert(nested, ResponseFormat)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"text.format: {error}", param="text.format") from error
