"""The conversations that every hop must turn into the same prompt. Renders and compares nothing.

None ends with the assistant's turn: a server continues such a turn, `apply_chat_template` closes
it, and both are right.
"""

from typing import Any

import msgspec

Message = dict[str, Any]

_TOOL = {
    "type": "function",
    "function": {
        "name": "count_lines",
        "description": "Count the lines of a file.",
        "parameters": {
            "type": "object",
            "properties": {"path": {"type": "string", "description": "größe <of> & 'file'"}},
            "required": ["path"],
        },
    },
}
_CALL = {
    "id": "call00001",
    "type": "function",
    "function": {"name": "count_lines", "arguments": {"path": "src/ä.py"}},
}


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Name one conversation, and the tools offered with it."""

    name: str
    messages: list[Message]
    tools: list[dict[str, Any]] | None = None


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


def _assistant(content: str, **more: Any) -> Message:
    return {"role": "assistant", "content": content, **more}


def _system(content: str) -> Message:
    return {"role": "system", "content": content}


CASES = (
    Case(name="plain", messages=[_user("Write a function that returns the larger of two.")]),
    Case(
        name="system",
        messages=[_system("Answer with code only."), _user("def add(a, b):\n    '''Add.'''\n")],
    ),
    Case(
        name="several turns",
        messages=[_user("First question?"), _assistant("First answer."), _user("And the second?")],
    ),
    Case(
        name="unicode",
        messages=[_user("Größe → 大きさ, café, 🙂, \u00a0tab\there,   three blanks")],
    ),
    Case(
        name="line ends and digits",
        messages=[_user("x = 1\n\n\n\tif x:\r\n    print('12345 67')  \n")],
    ),
    Case(
        name="blanks around",
        messages=[_system(" s \n"), _user("\n  q  \n"), _assistant(" a "), _user(" ")],
    ),
    Case(name="empty content", messages=[_user("")]),
    Case(
        name="empty system and answer",
        messages=[_system(""), _user("a"), _assistant(""), _user("b")],
    ),
    Case(name="tools offered", messages=[_user("How long is it?")], tools=[_TOOL]),
    Case(
        name="tool called",
        messages=[
            _user("How long is it?"),
            _assistant("", tool_calls=[_CALL]),
            {
                "role": "tool",
                "content": '{"lines": 12}',
                "tool_call_id": "call00001",
                "name": "count_lines",
            },
        ],
        tools=[_TOOL],
    ),
)


def numbered(conversations: list[list[Message]]) -> list[Case]:
    """Return a run's own conversations as cases."""
    return [
        Case(name=f"held-out example {number}", messages=messages)
        for number, messages in enumerate(conversations, start=1)
    ]
