"""What a client may ask about how an answer comes about: llama.cpp's fields, and what they bring.

Knows no dialect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from serve.api.prediction import Predicted
from serve.api.usage import TimingsBody, timings
from serve.engine.request import TextDelta

if TYPE_CHECKING:
    from serve.engine.request import Event, Progress


class Observing(Protocol):
    """What a stream is asked to tell besides the answer."""

    return_progress: bool | None
    timings_per_token: bool | None


class Watched(Predicted, kw_only=True):
    """The fields of a request.

    `return_progress`: a stream tells how far the prompt is read, once per chunk of it.
    `timings_per_token`: it sends the times with every piece, not only with the last.
    `cache_prompt` false reads all of the prompt anew.
    """

    return_progress: bool | None = None
    timings_per_token: bool | None = None
    cache_prompt: bool | None = None


class PromptProgress(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a prompt: all, those that were known, and those done with, known ones included."""

    total: int
    cache: int
    processed: int
    time_ms: int


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """What one stream tells."""

    progress: bool = False
    timings: bool = False

    def of_prompt(self, event: Event) -> PromptProgress | None:
        """Return how far the prompt is read, where an event says nothing else."""
        if self.progress and isinstance(event, TextDelta) and event.is_silent:
            return None if event.progress is None else _prompt_progress(event.progress)
        return None

    def of_times(self, event: Event) -> TimingsBody | UnsetType:
        """Return the times as they stand."""
        done = event.progress if self.timings and isinstance(event, TextDelta) else None
        return UNSET if done is None else timings(done)


def watch(data: Observing) -> Watch:
    """Return what a request asks for."""
    return Watch(progress=bool(data.return_progress), timings=bool(data.timings_per_token))


def is_watched(data: Observing, *, stream: bool | None) -> bool:
    """Say whether the engine has to tell of progress."""
    return bool(stream and (data.return_progress or data.timings_per_token))


def _prompt_progress(done: Progress) -> PromptProgress:
    return PromptProgress(
        total=done.num_prompt_tokens,
        cache=done.num_cached_tokens,
        processed=done.num_cached_tokens + done.num_read_tokens,
        time_ms=round(done.timings.prompt_seconds * 1000),
    )
