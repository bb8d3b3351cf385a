"""What the OpenAI dialects ask alike: limits, stops and counts.

Knows no prompt and no engine call; returns plain values or refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve.api.errors import InvalidRequestError
from serve.engine.request import Priority

if TYPE_CHECKING:
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
