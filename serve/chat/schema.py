"""Prepare a client's JSON schema for the constraint it becomes.

Knows neither tools nor HTTP; what a schema means is the engine's to find out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from serve.engine.request import Constraint

if TYPE_CHECKING:
    from collections.abc import Mapping

Schema = dict[str, Any]

_OPTIONS = "x-guidance"  # where llguidance looks for options within a schema
_MAPS = frozenset({"properties", "$defs", "definitions"})
_LISTS = frozenset({"anyOf", "oneOf", "prefixItems"})
_SINGLES = frozenset({"items", "additionalProperties"})
_COMPOSING = frozenset({"allOf", "$ref", "patternProperties", "unevaluatedProperties"})


def follow(schema: Mapping[str, Any], *, strict: bool) -> Constraint:
    """Return the constraint of an answer that is one JSON value of this schema."""
    return Constraint(kind="json_schema", source=written(prepared(schema, strict=strict)))


def prepared(schema: Mapping[str, Any], *, strict: bool, **options: Any) -> Schema:
    """Return a schema whose objects end.

    JSON schema lets an object have any properties beyond those it lists; a small model would go on
    inventing some. Unless a schema says so itself, none are offered: what is written still follows
    it. Without `strict`, keywords that cannot be enforced are ignored rather than refused.
    """
    chosen = options if strict else {"lenient": True, **options}
    own = schema.get(_OPTIONS)
    if isinstance(own, dict):
        chosen = {**chosen, **own}
    return closed(schema) | ({_OPTIONS: chosen} if chosen else {})


def closed(schema: Mapping[str, Any]) -> Schema:
    """Return the schema without open objects, as far as it can be told without composing it."""
    inner = {key: _closed_at(key, value) for key, value in schema.items()}
    properties = schema.get("properties")
    if not isinstance(properties, dict) or "additionalProperties" in schema:
        return inner
    required = schema.get("required") or []
    is_listed = isinstance(required, list) and all(name in properties for name in required)
    if is_listed and not _COMPOSING & schema.keys():
        inner["additionalProperties"] = False
    return inner


def _closed_at(key: str, value: Any) -> Any:
    """Go down where schemas stand. Parts of an `allOf` stay open: each knows some properties."""
    if key in _MAPS and isinstance(value, dict):
        return {name: _closed(each) for name, each in value.items()}
    if key in _LISTS and isinstance(value, list):
        return [_closed(each) for each in value]
    return _closed(value) if key in _SINGLES else value


def _closed(value: Any) -> Any:
    return closed(value) if isinstance(value, dict) else value


def written(schema: Schema) -> str:
    """Return the schema as text."""
    return msgspec.json.encode(schema).decode()
