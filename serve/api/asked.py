"""What the OpenAI dialects ask alike: limits, stops, counts and promises that cannot be kept.

Knows no prompt and no engine call; returns plain values or refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serve.api.errors import InvalidRequestError
from serve.engine.request import Priority

if TYPE_CHECKING:
    from serve.api.chat_schemas import ResponseFormat
    from serve.config import LimitSettings


def stop_strings(stop: str | list[str] | None, limits: LimitSettings) -> tuple[str, ...]:
    """Return the stop strings, empty ones left out: they would match everywhere.

    Raises:
        InvalidRequestError: too many.
    """
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > limits.stop_strings:
        raise InvalidRequestError(
            f"{len(stops)} stop strings were sent, the limit is {limits.stop_strings}", param="stop"
        )
    return tuple(each for each in stops if each)


def max_tokens(*asked: int | None, default: int | None = None) -> int | None:
    """Return the first that was sent, -1 meaning no limit but the context.

    Raises:
        InvalidRequestError: below -1.
    """
    chosen = next((each for each in asked if each is not None), default)
    if chosen is not None and chosen < -1:
        raise InvalidRequestError(
            f"max_tokens is {chosen}; send 0 or more, or -1 for no limit", param="max_tokens"
        )
    return None if chosen == -1 else chosen


def choices(asked: int | None, limits: LimitSettings) -> int:
    """Return `n`.

    Raises:
        InvalidRequestError: below 1 or too many.
    """
    n = 1 if asked is None else asked
    if not 1 <= n <= limits.choices:
        raise InvalidRequestError(f"n is {n}; it must be 1 to {limits.choices}", param="n")
    return n


def priority(limit: int | None, service_tier: str | None, *, fim: bool = False) -> Priority:
    """Return the class of a request: warm-ups and `flex` wait for everyone else."""
    if limit == 0 or service_tier == "flex":
        return Priority.BACKGROUND
    return Priority.FIM if fim else Priority.INTERACTIVE


def refuse_constraints(
    response_format: ResponseFormat | None, grammar: str | None, json_schema: dict[str, Any] | None
) -> None:
    """Refuse what would need constrained decoding: a client relies on the shape it asked for.

    Raises:
        InvalidRequestError: the answer would have to follow a schema or grammar.
    """
    if response_format is not None and response_format.type != "text":
        raise InvalidRequestError(
            f"response_format {response_format.type!r} is not supported; only 'text' is, so ask "
            "for JSON in the prompt and check it",
            param="response_format",
        )
    for name, value in (("grammar", grammar), ("json_schema", json_schema)):
        if value:
            raise InvalidRequestError(
                f"{name} is not supported: this server does not constrain decoding", param=name
            )


def refuse_forced_tools(tool_choice: str | dict[str, Any] | None) -> None:
    """Refuse a call that must happen: only `auto` and `none` can be kept.

    Raises:
        InvalidRequestError: `required`, or a named tool.
    """
    if tool_choice not in {None, "auto", "none"} if isinstance(tool_choice, str) else tool_choice:
        raise InvalidRequestError(
            f"tool_choice {tool_choice!r} cannot be promised; send 'auto' or 'none'",
            param="tool_choice",
        )
