"""What chat dialects share about tools: which are offered, and how calls look in an answer.

Knows no dialect's answer; the markup is the chat room's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from serve.api.errors import InvalidRequestError
from serve.chat.tools.grammar import Grammar, grammar_for
from serve.chat.tools.layout import layout_of
from serve.chat.tools.tagged import typed_parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.api.chat_schemas import ChatRequest
    from serve.api.served import Served


class Calling(msgspec.Struct, frozen=True, kw_only=True):
    """How calls look, and whether more than the first is wanted."""

    grammar: Grammar
    parallel: bool


def calling(served: Served, data: ChatRequest) -> Calling | None:
    """Return how to read calls in the answer, None when the request allows none."""
    if not data.tools or data.tool_choice == "none":
        return None
    return calling_of(served, data.tools, parallel=data.parallel_tool_calls is not False)


def calling_of(served: Served, tools: Sequence[dict[str, Any]], *, parallel: bool) -> Calling:
    """Return how to read calls of these tools, which have been checked."""
    functions = [tool["function"] for tool in tools]
    names = [function["name"] for function in functions]
    typed = [
        pair
        for function in functions
        for pair in typed_parameters(function["name"], function.get("parameters"))
    ]
    template = served.chat_template()
    grammar = grammar_for(
        template, names, typed=typed, trusts_start=layout_of(template).is_bare_json
    )
    return Calling(grammar=grammar, parallel=parallel)


def check_tools(tools: Sequence[dict[str, Any]]) -> None:
    """Refuse tools that have no name to be called by.

    Raises:
        InvalidRequestError: naming the field.
    """
    for index, tool in enumerate(tools):
        if tool.get("type", "function") != "function":
            raise InvalidRequestError(
                f"tools.{index} is of type {tool['type']!r}; this server offers functions only",
                param=f"tools.{index}.type",
            )
        function = tool.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not name:
            param = f"tools.{index}.function.name"
            raise InvalidRequestError(f"{param} is {name!r}; it must be a string", param=param)
