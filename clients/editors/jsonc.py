"""Set one value in JSON with comments, and leave every other byte as it is.

Comments and trailing commas are what editors' settings files hold. Knows no editor.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clients.editors.paths import Item, nested

if TYPE_CHECKING:
    from clients.editors.paths import Path

_BLANK = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_SCALAR = re.compile(r'"(?:[^"\\]|\\.)*"|[-+.\w]+', re.DOTALL)
_STEP = "  "


@dataclass
class Node:
    """A value at `text[start:end]`; members of an object by name, of an array by place."""

    start: int
    end: int
    kind: str
    members: dict[str | int, Node] = field(default_factory=dict)


def put(text: str, path: Path, value: Any) -> str:
    """Return the text with the value at the path.

    Raises:
        ValueError: it is no JSON, or something else than an object or array is in the way.
    """
    if not text.strip():
        text = "[]\n" if isinstance(path[0], Item) else "{}\n"
    node = parse(text)
    for depth, step in enumerate(path):
        if node.kind != ("array" if isinstance(step, Item) else "object"):
            raise ValueError(f"{text[node.start : node.end][:40]!r} is where {step!r} should go")
        found = _member(text, node, step)
        if found is None:
            return _insert(text, node, step, nested(path[depth + 1 :], value))
        node = found
    if load(text[node.start : node.end]) == value:
        return text
    return text[: node.start] + _dump(value, _indent(text, node.start)) + text[node.end :]


def has(text: str, path: Path) -> bool:
    """Return whether there is a value at the path already."""
    node: Node | None = parse(text) if text.strip() else None
    for step in path:
        node = node and _member(text, node, step)
    return node is not None


def load(text: str) -> Any:
    """Return the value of the text."""
    return _value(text, parse(text))


def parse(text: str) -> Node:
    """Return where everything is.

    Raises:
        ValueError: it is no JSON with comments.
    """
    node = _read(text, _skip(text, 0))
    if _skip(text, node.end) != len(text):
        raise ValueError(f"unexpected {text[_skip(text, node.end) :][:20]!r}")
    return node


def _read(text: str, start: int) -> Node:
    if text[start : start + 1] in {"{", "["}:
        return _read_members(text, start)
    match = _SCALAR.match(text, start)
    if match is None:
        raise ValueError(f"a value is missing at character {start}")
    json.loads(match[0], strict=False)
    return Node(start, match.end(), "scalar")


def _read_members(text: str, start: int) -> Node:
    is_object = text[start] == "{"
    node = Node(start, start, "object" if is_object else "array")
    at = _skip(text, start + 1)
    while text[at : at + 1] != ("}" if is_object else "]"):
        key: str | int = len(node.members)
        if is_object:
            name = _read(text, at)
            key = str(json.loads(text[name.start : name.end], strict=False))
            at = _skip(text, name.end)
            if text[at : at + 1] != ":":
                raise ValueError(f"a colon is missing at character {at}")
            at = _skip(text, at + 1)
        node.members[key] = _read(text, at)
        at = _skip(text, node.members[key].end)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] not in {"}", "]"}:
            raise ValueError(f"a comma is missing at character {at}")
    node.end = at + 1
    return node


def _skip(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


def _value(text: str, node: Node) -> Any:
    if node.kind == "object":
        return {key: _value(text, each) for key, each in node.members.items()}
    if node.kind == "array":
        return [_value(text, each) for each in node.members.values()]
    return json.loads(text[node.start : node.end], strict=False)


def _member(text: str, node: Node, step: str | Item) -> Node | None:
    if isinstance(step, str):
        return node.members.get(step)
    for each in node.members.values():
        value = _value(text, each)
        if isinstance(value, dict) and value.get(step.key) == step.value:
            return each
    return None


def _insert(text: str, node: Node, step: str | Item, value: Any) -> str:
    """Add a member behind the last one, on a line of its own."""
    outer = _indent(text, node.start)
    last = max(node.members.values(), key=lambda each: each.end, default=None)
    inner = outer + _STEP
    if last is not None and "\n" in text[node.start : last.start]:
        inner = _indent(text, last.start)
    member = _dump(value, inner)
    if isinstance(step, str):
        member = f"{json.dumps(step, ensure_ascii=False)}: {member}"
    if last is not None:
        return f"{text[: last.end]},\n{inner}{member}{text[last.end :]}"
    at = node.start + 1
    rest = text[at:]
    end = f"\n{outer}" if rest.startswith(("}", "]")) else ""
    return f"{text[:at]}\n{inner}{member}{end}{rest}"


def _indent(text: str, at: int) -> str:
    """Return the blanks that the line begins with."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip())]


def _dump(value: Any, indent: str) -> str:
    lines = json.dumps(value, indent=len(_STEP), ensure_ascii=False).split("\n")
    return f"\n{indent}".join(lines)
