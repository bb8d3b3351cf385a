r"""The one form in which a model family is trained to write calls.

    hermes     <tool_call>\n{"name": "f", "arguments": {...}}\n</tool_call>, one mark a call
               <tool_call>\n<function=f>...</function>\n</tool_call>
    mistral    [TOOL_CALLS][{"name": "f", "arguments": {...}}]  or  [TOOL_CALLS]f[ARGS]{...}
    llama      {"name": "f", "parameters": {...}}
    pythonic   [f(a=1), g()]
    generic    {"name": "f", "arguments": {...}}

The parser reads more than this; a constraint leads here. Knows no grammar.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from serve.chat.tools.grammar import FAMILIES, family_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.chat.template import ChatTemplate


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """`opening` and `closing` stand around one call, or around all when they are in one list."""

    style: Literal["json", "named", "tagged", "pythonic"] = "json"
    opening: str = ""
    closing: str = ""
    arguments: str = "arguments"
    in_list: bool = False

    @property
    def is_bare_json(self) -> bool:
        """Say whether a call begins as any JSON object does, so that the two exclude each other."""
        return self.style == "json" and not self.opening


class OfferedTool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool's name and the JSON schema of its arguments, an object."""

    name: str
    parameters: dict[str, Any]
    strict: bool


def offered(tools: Sequence[dict[str, Any]]) -> list[OfferedTool]:
    """Return tools that have been checked, in plain form."""
    return [
        OfferedTool(
            name=tool["function"]["name"],
            parameters=_object(tool["function"].get("parameters")),
            strict=bool(tool["function"].get("strict")),
        )
        for tool in tools
    ]


def _object(schema: Any) -> dict[str, Any]:
    return {"type": "object", **schema} if isinstance(schema, dict) else {"type": "object"}


def layout_of(template: ChatTemplate) -> Layout:
    """Return the form that a template's family trains."""
    family = family_of(template)
    source = template.markup
    if family is FAMILIES["hermes"]:
        style: Literal["tagged", "json"] = "tagged" if "<function=" in source else "json"
        return Layout(style=style, opening="<tool_call>", closing="</tool_call>")
    if family is FAMILIES["mistral"]:
        if "[ARGS]" in source:
            return Layout(style="named", opening="[TOOL_CALLS]")
        return Layout(opening="[TOOL_CALLS]", in_list=True)
    if family is FAMILIES["pythonic"]:
        return Layout(style="pythonic", in_list=True)
    return Layout(arguments="parameters" if family is FAMILIES["llama"] else "arguments")


def trigger(layout: Layout, tools: Sequence[OfferedTool]) -> str:
    """Return the regular expression behind which a call has begun for certain.

    Without a mark only the beginning of the answer counts, and the name of a tool has to stand
    there: JSON and lists are answers too.
    """
    if layout.opening:
        return re.escape(layout.opening)
    names = "|".join(re.escape(tool.name) for tool in tools)
    beginning = rf"\[(?:{names})\(" if layout.style == "pythonic" else rf'\{{"name": "(?:{names})"'
    return rf"\A\s*(?={beginning})"
