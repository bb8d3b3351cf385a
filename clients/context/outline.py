"""A Python module in few tokens: its definitions without their bodies.

What a caller needs to know of a neighbour is names, parameters and what is promised. Knows neither
files nor budgets.
"""

from __future__ import annotations

import ast
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHORT_LINES = 4
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def outline(text: str, names: frozenset[str] = frozenset()) -> str:
    """Return signatures, first docstring lines and constants, of `names` alone when given.

    A text that is no Python comes back whole.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of strange escapes in the user's code
        try:
            module = ast.parse(text)
        except (SyntaxError, ValueError):
            return text
    lines = text.splitlines()
    kept: list[str] = []
    for node in module.body:
        if not names or _defined(node) & names:
            kept += _of(node, lines, wants_private=bool(names))
    return "\n".join(kept) + "\n" if kept else ""


def _defined(node: ast.stmt) -> frozenset[str]:
    if isinstance(node, Definition):
        return frozenset({node.name})
    if isinstance(node, ast.Assign):
        return frozenset(each.id for each in node.targets if isinstance(each, ast.Name))
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return frozenset({node.target.id})
    return frozenset()


def _of(node: ast.stmt, lines: list[str], *, wants_private: bool) -> Iterator[str]:
    """Yield the lines of one statement that a caller needs."""
    end = node.end_lineno or node.lineno
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        if end - node.lineno < _SHORT_LINES:
            yield from lines[node.lineno - 1 : end]
    elif isinstance(node, Definition) and (wants_private or _is_public(node.name)):
        yield from _definition(node, lines)


def _definition(node: Definition, lines: list[str]) -> Iterator[str]:
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    body = node.body[0].lineno
    if body == node.lineno:  # all on one line
        yield lines[node.lineno - 1]
        return
    yield from (line for line in lines[first - 1 : _head_end(node, body)] if line.strip())
    indent = " " * node.body[0].col_offset
    if doc := (ast.get_docstring(node) or "").partition("\n")[0]:
        yield f'{indent}"""{doc}"""'
    if isinstance(node, ast.ClassDef):
        inner = [line for each in node.body for line in _of(each, lines, wants_private=False)]
        yield from inner or ([] if doc else [f"{indent}..."])
    elif not doc:
        yield f"{indent}..."


def _head_end(node: Definition, body: int) -> int:
    """Return the line before the body, whose first statement may have decorators above it."""
    first = node.body[0]
    decorated = first.decorator_list if isinstance(first, Definition) else []
    return min([body, *(each.lineno for each in decorated)]) - 1


def _is_public(name: str) -> bool:
    return not name.startswith("_") or name == "__init__"
