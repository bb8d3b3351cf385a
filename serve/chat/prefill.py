"""Render a conversation up to where the model goes on.

A client that sends a last assistant turn wants it continued: the turn stands open in the prompt,
and the answer is what follows. Thoughts that a template opens are closed again where none are
wanted and it does not know how to leave them out. Knows neither tokens nor HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serve.chat.reasoning import marks_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from serve.chat.template import ChatTemplate, Message, Tool


def render(
    template: ChatTemplate,
    messages: Sequence[Message],
    *,
    tools: Sequence[Tool] | None = None,
    variables: Mapping[str, Any] | None = None,
) -> str:
    """Return the prompt text of messages in the form of `chat.messages`.

    Raises:
        TemplateError: the template refused the messages or failed on them.
    """
    if not _is_begun(messages):
        opened = template.render(messages, tools=tools, variables=variables)
        wants_none = (variables or {}).get("enable_thinking") is False
        return opened + (_closing(template, opened) if wants_none else "")
    opened = template.render(messages[:-1], tools=tools, variables=variables)
    return opened + _beginning(template, messages[-1], opened)


def _closing(template: ChatTemplate, opened: str) -> str:
    marks = marks_of(template)
    return f"{marks.closing}\n\n" if marks is not None and marks.left_open(opened) else ""


def _is_begun(messages: Sequence[Message]) -> bool:
    """Return whether there is text to continue, and something that it answers."""
    last = messages[-1] if len(messages) > 1 else {}
    return last.get("role") == "assistant" and bool(last.get("content")) and not _calls(last)


def _calls(message: Message) -> bool:
    return bool(message.get("tool_calls"))


def _beginning(template: ChatTemplate, message: Message, opened: str) -> str:
    """Return the turn's text behind its thoughts, which end where the answer begins."""
    content = str(message["content"])
    marks = marks_of(template)
    if marks is None:
        return content
    is_open = marks.left_open(opened)
    thought = message.get("reasoning_content")
    if not thought and not is_open:
        return content
    opening = "" if is_open else f"{marks.opening}\n"
    return f"{opening}{thought or ''}\n{marks.closing}\n\n{content}"
