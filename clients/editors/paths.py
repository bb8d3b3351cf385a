"""Places inside a document: keys, and members of a list known by one of their fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Item(NamedTuple):
    """The member of a list whose field `key` holds `value`."""

    key: str
    value: str


Path = tuple[str | Item, ...]


def nested(path: Sequence[str | Item], value: Any) -> Any:
    """Return the value wrapped into what the path names."""
    for step in reversed(path):
        value = [value] if isinstance(step, Item) else {step: value}
    return value


def find(document: Any, step: str | Item) -> Any:
    """Return the member of plain data, None where there is none."""
    if isinstance(step, str):
        return document.get(step) if isinstance(document, dict) else None
    members = document if isinstance(document, list) else []
    named = (each for each in members if isinstance(each, dict))
    return next((each for each in named if each.get(step.key) == step.value), None)


def put(document: Any, path: Sequence[str | Item], value: Any) -> None:
    """Set a value inside mappings and lists that keep their comments themselves.

    Raises:
        ValueError: something else than a mapping or list is in the way.
    """
    step, rest = path[0], path[1:]
    found = find(document, step)
    if found is not None and rest:
        put(found, rest, value)
    elif isinstance(step, str) and isinstance(document, dict):
        document[step] = nested(rest, value)
    elif isinstance(step, Item) and isinstance(document, list):
        if found is None:
            document.append(nested(rest, value))
        else:
            document[document.index(found)] = value
    else:
        raise ValueError(f"{str(document)[:40]!r} is where {step!r} should go")
