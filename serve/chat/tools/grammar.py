"""Which markup surrounds the calls of a model family, told by its chat template.

    hermes     <tool_call>{"name": ..., "arguments": {...}}</tool_call>   Qwen, Hermes
               <tool_call><function=name>...</function></tool_call>       Qwen3-Coder
    mistral    [TOOL_CALLS][{...}]  or  [TOOL_CALLS]name{...}             Mistral, Devstral
    llama      <|python_tag|>{"name": ..., "parameters": {...}}           Llama 3
    pythonic   <|python_start|>[f(a=1), g()]<|python_end|>                Llama 4

Marks that are control tokens never reach the text, and small models forget theirs, so every family
also reads bare JSON at the start of a line and in a fence, of known tools only. Knows no parsing.
"""

from __future__ import annotations

import secrets
import string
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection

    from serve.chat.template import ChatTemplate


class Mark(msgspec.Struct, frozen=True):
    """What opens and closes a call. A `weak` one says little: it needs a line and a known tool."""

    opening: str
    closing: str = ""
    weak: bool = False


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """How a family writes. `short_ids`: its templates take ids of nine letters and digits only."""

    marks: tuple[Mark, ...]
    pythonic: bool = False
    named: bool = False
    tagged: bool = False
    short_ids: bool = False


_HERMES = Mark("<tool_call>", "</tool_call>")
_MISTRAL = Mark("[TOOL_CALLS]")
_LLAMA = Mark("<|python_tag|>")
_PYTHONIC = Mark("<|python_start|>", "<|python_end|>")
_FENCES = tuple(
    Mark(f"```{name}\n", "```", weak=True) for name in ("json", "tool_call", "tool_code", "")
)

FAMILIES = {
    "hermes": Family(marks=(_HERMES,), tagged=True),
    "mistral": Family(marks=(_MISTRAL,), named=True, short_ids=True),
    "pythonic": Family(marks=(_PYTHONIC, _LLAMA), pythonic=True),
    "llama": Family(marks=(_LLAMA,), pythonic=True),
}
GENERIC = Family(
    marks=(_HERMES, _MISTRAL, _LLAMA, _PYTHONIC), pythonic=True, named=True, tagged=True
)
"""For templates that spell out no mark: every form is read, whichever the vocabulary has."""


class Grammar(msgspec.Struct, frozen=True, kw_only=True):
    """What one answer may hold: the family's markup and the tools of the request.

    `typed` are the (tool, parameter) pairs whose values are no strings. `trusts_start`: an answer
    that begins as a call of a known tool is one, since a constraint sees to that.
    """

    family: Family
    known: frozenset[str]
    typed: frozenset[tuple[str, str]] = frozenset()
    trusts_start: bool = False

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Return the family's marks, then those of everyone."""
        return self.family.marks + _FENCES


def family_of(template: ChatTemplate) -> Family:
    """Return the family whose mark the template spells out, else one that reads every form."""
    source = template.markup
    for family in FAMILIES.values():
        if family.marks[0].opening in source:
            return family
    return GENERIC


def grammar_for(
    template: ChatTemplate,
    names: Collection[str],
    *,
    typed: Collection[tuple[str, str]] = (),
    trusts_start: bool = False,
) -> Grammar:
    """Return how to read an answer to a request with these tools and `typed` parameters."""
    return Grammar(
        family=family_of(template),
        known=frozenset(names),
        typed=frozenset(typed),
        trusts_start=trusts_start,
    )


def new_call_id(family: Family) -> str:
    """Return an id that the family's own template accepts when it comes back as history."""
    if family.short_ids:
        letters = string.ascii_letters + string.digits
        return "".join(secrets.choice(letters) for _ in range(9))
    return f"call_{secrets.token_hex(12)}"
