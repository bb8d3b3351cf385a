"""The constraint of an answer that must, or may, hold calls.

    must     the answer is calls from its first token
    may      text is free until a call opens; from there to its end it follows the tool's schema

Knows no dialect and no vocabulary beyond marks that are one token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve.chat.schema import prepared, written
from serve.chat.tools.call_grammar import CallGrammar
from serve.chat.tools.layout import Layout, OfferedTool, trigger
from serve.engine.request import Constraint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from serve.chat.tools.call_grammar import TokenOf


def must_call(
    layout: Layout, tools: Sequence[OfferedTool], token_of: TokenOf, *, several: bool
) -> Constraint:
    """Return the constraint of an answer that is one call or more of these tools."""
    rules = CallGrammar(layout, tools, token_of, several=several).whole()
    return Constraint(kind="lark", source=f"start: calls\n{rules}")


def may_call(
    layout: Layout, tools: Sequence[OfferedTool], token_of: TokenOf, *, several: bool
) -> Constraint:
    """Return the constraint of an answer in which every call that is opened is a good one."""
    rules = CallGrammar(layout, tools, token_of, several=several).behind_opening()
    return Constraint(
        kind="lark",
        source=f"start: calls\n{rules}",
        trigger=trigger(layout, tools),
        once=not several,
    )


def call_or_value(
    layout: Layout,
    tools: Sequence[OfferedTool],
    token_of: TokenOf,
    schema: Mapping[str, Any],
    *,
    strict: bool,
    several: bool,
) -> Constraint:
    """Return the constraint of an answer that is calls, or a JSON value of this schema."""
    rules = CallGrammar(layout, tools, token_of, several=several).whole()
    value = f"%json {written(prepared(schema, strict=strict))}"
    return Constraint(kind="lark", source=f"start: calls | value\nvalue: {value}\n{rules}")


def with_plain_arguments(tools: Sequence[OfferedTool]) -> list[OfferedTool]:
    """Return the tools with any object as arguments, for schemas that cannot be followed."""
    return [
        OfferedTool(name=tool.name, parameters={"type": "object"}, strict=False) for tool in tools
    ]
