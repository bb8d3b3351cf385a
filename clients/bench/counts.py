"""How many tokens a request took, by the server's own count. Knows no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from clients.wire import Timings, Usage


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one request; None where the server does not say.

    `num_read_tokens`: tokens of the prompt that were computed, the rest came from a cache.
    """

    num_tokens: int | None = None
    num_prompt_tokens: int | None = None
    num_read_tokens: int | None = None


def count(usage: Usage | None, timings: Timings | None) -> Counts:
    """Take the OpenAI fields where they are, else llama.cpp's."""
    num_tokens = usage.completion_tokens if usage else timings.predicted_n if timings else None
    return Counts(
        num_tokens=num_tokens,
        num_prompt_tokens=usage.prompt_tokens if usage else None,
        num_read_tokens=_num_read_tokens(usage, timings),
    )


def _num_read_tokens(usage: Usage | None, timings: Timings | None) -> int | None:
    details = usage.prompt_tokens_details if usage else None
    if usage and details and details.cached_tokens is not None:
        return usage.prompt_tokens - details.cached_tokens
    return timings.prompt_n if timings else None
