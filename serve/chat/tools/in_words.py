r"""Tools for chat templates that know none: all of it said in words of the conversation.

    the tools             at the end of the first system turn, else of one of their own, else at
                          the beginning of the first user turn
    a call of history     <tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>
    a result of history   <tool_response>\n...\n</tool_response>, in a user turn

The model is asked for the same form of call, which is the Hermes family's. Turns of one role that
follow each other are put together, since templates of this kind often insist on taking turns.
Knows nothing of parsing and of constraints.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from serve.chat.template import ChatTemplate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from serve.chat.template import Message, Tool

_ASKED = """\
You can call tools. Each line tells the name of one, what it does, and the JSON schema of its \
arguments:
{tools}

To call a tool, write exactly this, with its name and with arguments that follow its schema:
<tool_call>
{{"name": "...", "arguments": {{...}}}}
</tool_call>
Several calls follow each other. Results come in the next turn within <tool_response> marks. \
Where no tool helps, answer in plain words."""


class TemplateInWords(ChatTemplate):
    """A template that reads tools, calls and results as text."""

    def __init__(self, template: ChatTemplate, *, has_system_role: bool) -> None:
        super().__init__(template.source, tool_source=template.tool_source, **template.special)
        self._has_system_role = has_system_role

    @property
    def markup(self) -> str:
        """Return where a family's marks stand: here in what the model is told."""
        return f"{super().markup}{_ASKED}"

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the prompt text; as of any template.

        Raises:
            TemplateError: the template refused the messages or failed on them.
        """
        turns = _turns(messages)
        if tools:
            asked = _ASKED.format(tools="\n".join(_described(tool) for tool in tools))
            turns = self._with_system(turns, asked)
        return super().render(
            turns, add_generation_prompt=add_generation_prompt, variables=variables
        )

    def _with_system(self, turns: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
        """Put text where it is read first and where the next request of a conversation has it."""
        role = "system" if self._has_system_role else "user"
        roles = [turn.get("role") for turn in turns[: 1 if self._has_system_role else None]]
        if role not in roles:
            return [{"role": role, "content": text}, *turns]
        place = roles.index(role)
        said = turns[place]["content"]
        parts = (said, text) if self._has_system_role else (text, said)
        changed = {**turns[place], "content": _paragraphs(*parts)}
        return [*turns[:place], changed, *turns[place + 1 :]]


def _turns(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Return plain turns, results joined with each other and with the user's words beside them."""
    turns: list[dict[str, Any]] = []
    was_result = False
    for message in messages:
        turn, is_result = _plain(message), message.get("role") == "tool"
        follows = bool(turns) and turn.get("role") == "user" == turns[-1].get("role")
        if follows and (is_result or was_result):
            join = _lines if is_result and was_result else _paragraphs
            turns[-1] = {**turns[-1], "content": join(turns[-1]["content"], turn["content"])}
        else:
            turns.append(turn)
        was_result = is_result
    return turns


def _plain(message: Message) -> dict[str, Any]:
    """Return a message whose call or result is in its text."""
    if message.get("role") == "tool":
        content = f"<tool_response>\n{message.get('content') or ''}\n</tool_response>"
        return {"role": "user", "content": content}
    calls = message.get("tool_calls")
    if not calls:
        return dict(message)
    kept = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**kept, "content": _lines(message.get("content") or "", *map(_call, calls))}


def _call(call: Mapping[str, Any]) -> str:
    function = call["function"]
    told = {"name": function["name"], "arguments": function["arguments"]}
    return f"<tool_call>\n{json.dumps(told, ensure_ascii=False)}\n</tool_call>"


def _described(tool: Tool) -> str:
    function = tool["function"]
    told = {key: function[key] for key in ("name", "description", "parameters") if key in function}
    return json.dumps(told, ensure_ascii=False)


def _lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part)


def _paragraphs(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
