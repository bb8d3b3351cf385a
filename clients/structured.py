"""Answers that are values: the schema to ask with, and the value out of the text.

Knows the OpenAI form of `response_format`; whether a server enforces it is its own affair, and so
the answer is checked here in any case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from clients.errors import ProtocolError, quoted

if TYPE_CHECKING:
    from clients.wire import ChatCompletion

Value = TypeVar("Value")


def response_format(answer_type: type[Any]) -> dict[str, Any]:
    """Return the request's `response_format` for a type."""
    name = getattr(answer_type, "__name__", "answer")
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "strict": True, "schema": schema(answer_type)},
    }


def schema(answer_type: type[Any]) -> dict[str, Any]:
    """Return a type's JSON schema with its root written out: servers want an object there."""
    document = msgspec.json.schema(answer_type)
    definitions: dict[str, Any] = document.pop("$defs", {})
    root = document.get("$ref")
    if root is not None:
        document = dict(definitions[root.rpartition("/")[2]])
    return {**document, "$defs": definitions} if definitions else document


def parse(answer: ChatCompletion, answer_type: type[Value]) -> Value:
    """Read the value out of an answer.

    Raises:
        ProtocolError: it was cut off, or is no such value; quotes it.
    """
    if answer.finish_reason == "length":
        raise ProtocolError("the answer was cut off at the token limit; raise max_tokens")
    try:
        return msgspec.json.decode(answer.text, type=answer_type)
    except msgspec.DecodeError as error:
        name = getattr(answer_type, "__name__", str(answer_type))
        raise ProtocolError(
            f"the answer is no {name} ({error}): {quoted(answer.text.encode())}; "
            "does the server support response_format?"
        ) from None
