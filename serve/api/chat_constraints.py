"""The constraint of a chat answer: its form, its calls, or both, behind its thoughts.

    tool_choice  required, a name     the answer is calls
                 auto                 a call that is opened follows the tool's schema
                 auto, with a schema  the answer is calls, or a value of the schema
                 none, or no tools    the answer has the form asked for, if one was

Knows no dialect: what they have in common comes here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from serve.api.constraints import Form, compiled, form_of
from serve.api.errors import InvalidRequestError
from serve.api.thinking import thinking_of
from serve.chat.tools.constrain import call_or_value, may_call, must_call, with_plain_arguments
from serve.chat.tools.layout import OfferedTool, layout_of, offered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.api.chat_schemas import ChatRequest
    from serve.api.served import Served
    from serve.engine.request import Constraint


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which tools may be called, whether one must, and whether several calls may come."""

    tools: list[OfferedTool]
    must: bool = False
    several: bool = True


async def constrain_chat(
    served: Served, data: ChatRequest, token_ids: Sequence[int]
) -> Constraint | None:
    """Return the constraint of an answer to this prompt, compiled; None when any text will do.

    Raises:
        InvalidRequestError: a tool that was not offered, forms that exclude each other, or one that
            cannot be kept.
    """
    parallel = data.parallel_tool_calls is not False
    choice = chosen(data.tools or [], data.tool_choice, parallel=parallel)
    return await constraint_of(served, form_of(data), choice, token_ids)


async def constraint_of(
    served: Served, form: Form | None, choice: Choice, token_ids: Sequence[int]
) -> Constraint | None:
    """Return the constraint for a form and a choice of tools; as `constrain_chat`."""
    if choice.tools:
        constraint = await _of_calls(served, form, choice)
    elif form is None:
        return None
    else:
        constraint = await compiled(served, form.constraint, form.param)
    return await _behind_thoughts(served, constraint, token_ids)


def chosen(tools: Sequence[dict[str, Any]], tool_choice: object, *, parallel: bool) -> Choice:
    """Return what a `tool_choice` makes of tools that have been checked.

    Raises:
        InvalidRequestError: it is none of the known ones, or names what was not offered.
    """
    every = offered(tools)
    if tool_choice is None or tool_choice in ("auto", "none"):
        return Choice(tools=[] if tool_choice == "none" else every, several=parallel)
    if not every:
        raise InvalidRequestError(
            f"tool_choice is {tool_choice!r} and no tools were sent", param="tool_choice"
        )
    if tool_choice == "required":
        return Choice(tools=every, must=True, several=parallel)
    return Choice(tools=[_named(every, tool_choice)], must=True, several=False)


def _named(tools: Sequence[OfferedTool], tool_choice: object) -> OfferedTool:
    inner = tool_choice.get("function", tool_choice) if isinstance(tool_choice, dict) else None
    name = inner.get("name") if isinstance(inner, dict) else None
    found = next((tool for tool in tools if tool.name == name), None)
    if found is None:
        names = ", ".join(repr(tool.name) for tool in tools)
        raise InvalidRequestError(
            f"tool_choice is {tool_choice!r}; it must be 'none', 'auto', 'required' or a function "
            f"with the name of a tool: {names}",
            param="tool_choice",
        )
    return found


async def _of_calls(served: Served, form: Form | None, choice: Choice) -> Constraint:
    """Calls that must come outweigh a form: nothing else will be in the answer."""
    layout, tools, several = layout_of(served.chat_template()), choice.tools, choice.several
    token_of = served.mark_token
    if choice.must:
        must = must_call(layout, tools, token_of, several=several)
        return await compiled(served, must, "tools")
    if form is not None:
        if form.schema is None or layout.is_bare_json:
            raise InvalidRequestError(
                f"{form.param} and tools that may be called exclude each other here; send "
                "tool_choice 'none' or 'required'",
                param=form.param,
            )
        either = call_or_value(
            layout, tools, token_of, form.schema, strict=form.strict, several=several
        )
        return await compiled(served, either, form.param)
    try:
        return await compiled(served, may_call(layout, tools, token_of, several=several), "tools")
    except InvalidRequestError:  # nobody relies on a call: any object will do as its arguments
        plain = may_call(layout, with_plain_arguments(tools), token_of, several=several)
        return await compiled(served, plain, "tools")


async def _behind_thoughts(
    served: Served, constraint: Constraint, token_ids: Sequence[int]
) -> Constraint:
    """Let the model think to the end where the prompt has opened its thoughts."""
    thinking = None if served.template is None else thinking_of(served, token_ids)
    if thinking is None or not thinking.inside or constraint.trigger is not None:
        return constraint
    later = replace(constraint, trigger=re.escape(thinking.marks.closing) + r"\s*", once=True)
    return await compiled(served, later, "response_format")
