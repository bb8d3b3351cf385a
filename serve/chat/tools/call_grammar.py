"""Calls of a request's tools as the grammar of a constraint.

Knows no vocabulary: whoever asks says which marks are one token.

Source: llguidance's Lark syntax (`%json`, `<[token id]>`, `[suffix=...]`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from serve.chat.schema import prepared, written
from serve.chat.tools.tagged import typed_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serve.chat.tools.layout import Layout, OfferedTool

    TokenOf = Callable[[str], int | None]

_DEFINITIONS: tuple[str, ...] = ("$defs", "definitions")
# As templates write arguments; what leaves no choice can be read ahead.
_SEPARATORS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class CallGrammar:
    """Lark rules for calls of these tools. `token_of` returns the id of a mark that is one token.

    `several`: more than one call may be made.
    """

    def __init__(
        self, layout: Layout, tools: Sequence[OfferedTool], token_of: TokenOf, *, several: bool
    ) -> None:
        self._layout = layout
        self._tools = tools
        self._token_of = token_of
        self._several = several
        self._rules: list[str] = []

    def whole(self) -> str:
        """Return the rule `calls`: all calls of an answer, marks included."""
        layout = self._layout
        opening, closing = self._mark(layout.opening), self._mark(layout.closing)
        if layout.in_list:
            return self._text(f"calls: {opening} {self._list()} {closing}")
        call = f"{opening} {self._spaced()} {closing}"
        more = f" ({self._between()} one_call)*" if self._is_repeated else ""
        return self._text(f"calls: one_call{more}\none_call: {call}")

    def behind_opening(self) -> str:
        """Return the rule `calls`: what follows the opening mark, one call or one list."""
        layout = self._layout
        inner = f'" "? {self._list()}' if layout.in_list else self._spaced()
        return self._text(f"calls: {inner} {self._mark(layout.closing)}")

    @property
    def _is_repeated(self) -> bool:
        """Say whether calls follow each other; bare ones do not, there is nothing between them."""
        return self._several and bool(self._layout.opening)

    def _between(self) -> str:
        return '"\\n"?' if self._layout.closing else ""

    def _spaced(self) -> str:
        return '"\\n"? call "\\n"?' if self._layout.closing else "call"

    def _list(self) -> str:
        more = ' (", " call)*' if self._several else ""
        return f'"[" call{more} "]"'

    def _text(self, rules: str) -> str:
        choice = " | ".join(self._tool(index, tool) for index, tool in enumerate(self._tools))
        return "\n".join([rules, f"call: {choice}", *self._rules, ""])

    def _mark(self, text: str) -> str:
        if not text:
            return ""
        token_id = self._token_of(text)
        return literal(text) if token_id is None else f"<[{token_id}]>"

    def _tool(self, index: int, tool: OfferedTool) -> str:
        """Add the rules of a tool's call and return their first."""
        name = f"tool_{index}"
        match self._layout.style:
            case "json":
                start = f'{{"name": {json.dumps(tool.name, ensure_ascii=False)}, '
                head = literal(f'{start}"{self._layout.arguments}": ')
                self._rules.append(f'{name}: {head} {_json(tool.parameters, tool)} "}}"')
            case "named":
                head = f"{literal(tool.name)} {self._mark('[ARGS]')}"
                self._rules.append(f"{name}: {head} {_json(tool.parameters, tool)}")
            case "tagged":
                self._rules += _tagged(name, tool)
            case "pythonic":
                self._rules += _pythonic(name, tool)
        return name


def literal(text: str) -> str:
    """Return a string as Lark writes it."""
    return json.dumps(text, ensure_ascii=False)


def _json(schema: dict[str, Any], tool: OfferedTool) -> str:
    return f"%json {written(prepared(schema, strict=tool.strict, **_SEPARATORS))}"


def _properties(tool: OfferedTool) -> list[tuple[str, dict[str, Any], bool]]:
    """Return name, schema and whether it is required; inner references need the definitions."""
    properties = tool.parameters.get("properties")
    required = tool.parameters.get("required") or ()
    shared = {key: tool.parameters[key] for key in _DEFINITIONS if key in tool.parameters}
    return [
        (name, shared | schema if isinstance(schema, dict) else {}, name in required)
        for name, schema in (properties if isinstance(properties, dict) else {}).items()
    ]


def _tagged(rule: str, tool: OfferedTool) -> list[str]:
    """Write parameters in the order of the schema; a string's value is text up to its tag."""
    typed = set(typed_parameters(tool.name, tool.parameters))
    parts, rules = [], []
    for index, (name, schema, is_required) in enumerate(_properties(tool)):
        part = f"{rule}_{index}"
        parts.append(part if is_required else f"{part}?")
        opening, closing = literal(f"<parameter={name}>\n"), "\n</parameter>\n"
        if (tool.name, name) in typed:
            rules.append(f"{part}: {opening} {_json(schema, tool)} {literal(closing)}")
        else:
            rules.append(f"{part}: {opening} {part}_text")
            rules.append(f"{part}_text[suffix={literal(closing)}]: /(?s:.*)/")
    head = literal(f"<function={tool.name}>\n")
    return [f'{rule}: {head} {" ".join(parts)} "</function>"', *rules]


def _pythonic(rule: str, tool: OfferedTool) -> list[str]:
    """Write keyword arguments in the order of the schema; `_first_i` is the first one written."""
    arguments = _properties(tool)
    rules = []
    tails = '""'
    starts = "" if any(is_required for _, _, is_required in arguments) else '""'
    for index in reversed(range(len(arguments))):
        name, schema, is_required = arguments[index]
        value, rest = f"{rule}_{index}", f"{rule}_{index}_rest"
        rules.append(f"{value}: {literal(f'{name}=')} {_json(schema, tool)}")
        rules.append(f"{rest}: {tails}")
        this = f'", " {value} {rest}'
        tails = this if is_required else f"{this} | {rest}"
        may_start = not any(required for _, _, required in arguments[:index])
        starts = " | ".join(filter(None, [f"{value} {rest}" if may_start else "", starts]))
    head = literal(f"{tool.name}(")
    return [f'{rule}: {head} ({starts}) ")"', *rules]
