"""A tool call, and how to see one in parsed JSON or in a Python call list.

Models name the same two things in many ways; here they become a name and a JSON object. Knows
nothing of markup around a call.
"""

from __future__ import annotations

import ast
import json
import warnings
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_ARGUMENT_KEYS = ("arguments", "parameters", "input")
_CONSTANTS = {"true": True, "false": False, "null": None}


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """What the model wants called. `arguments` is the text of a JSON object."""

    name: str
    arguments: str


def from_json(text: str, known: Collection[str] | None) -> list[ToolCall] | None:
    """Return the calls of a JSON object or list, None when it is anything else.

    With `known` names, one beyond them or a call without arguments is taken for plain JSON.
    """
    try:
        value = json.loads(text, strict=False, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    items = value if isinstance(value, list) else [value]
    return _all([_json_call(item, must_have_arguments=known is not None) for item in items])


def from_named(name: str, text: str) -> list[ToolCall] | None:
    """Return the call of a name with the JSON object that stood behind it."""
    try:
        arguments = json.loads(text, strict=False, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return _all([_call(name, arguments)])


def from_python(text: str) -> list[ToolCall] | None:
    """Return the calls of `[f(a=1), g()]`, None when it is anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(text, mode="eval").body
        if not isinstance(tree, ast.List):
            return None
        return _all([_python_call(node) for node in tree.elts])
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None


def is_known(calls: list[ToolCall] | None, known: Collection[str] | None) -> bool:
    """Say whether these are calls, and of `known` tools where that matters."""
    return calls is not None and (known is None or all(call.name in known for call in calls))


def _all(calls: Sequence[ToolCall | None]) -> list[ToolCall] | None:
    found = [call for call in calls if call is not None]
    return found if found and len(found) == len(calls) else None


def _json_call(item: Any, *, must_have_arguments: bool) -> ToolCall | None:
    if not isinstance(item, dict):
        return None
    function = item.get("function")
    inner = function if isinstance(function, dict) else item
    name = inner.get("name", function)
    key = next((key for key in _ARGUMENT_KEYS if key in inner), None)
    if key is None and must_have_arguments:
        return None
    return _call(name, inner.get(key) if key else None)


def _call(name: Any, arguments: Any) -> ToolCall | None:
    if not isinstance(name, str) or not name or not name.isprintable():
        return None
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}", parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return None
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        return None
    try:
        return ToolCall(name=name, arguments=json.dumps(arguments, allow_nan=False))
    except (ValueError, RecursionError):
        return None


def _python_call(node: ast.expr) -> ToolCall | None:
    if not isinstance(node, ast.Call) or node.args:
        return None
    arguments = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            return None
        arguments[keyword.arg] = ast.literal_eval(_WithJsonNames().visit(keyword.value))
    return _call(ast.unparse(node.func), arguments)


class _WithJsonNames(ast.NodeTransformer):
    """Models mix `true` and `null` into their Python."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Turn JSON's three words into constants."""
        return ast.Constant(_CONSTANTS[node.id]) if node.id in _CONSTANTS else node


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
