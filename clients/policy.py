"""How long to wait, and what to ask again: plain values and pure decisions.

Knows errors, but neither httpx nor the clock: the clients do the waiting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from clients.errors import (
    ClientError,
    ConnectionLostError,
    InternalServerError,
    OverloadedError,
    TimedOutError,
    UnreachableError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class Timeout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one request in seconds; None waits for ever.

    `read_seconds` is the longest silence between two pieces of an answer. It is long because a
    CPU may read a large prompt for minutes before its first token.
    """

    connect_seconds: float | None = 5.0
    read_seconds: float | None = 600.0
    write_seconds: float | None = 60.0

    def __post_init__(self) -> None:
        """Raises: UsageError for a limit that is not positive."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"timeout {name} is {value}; it must be above 0, or None")


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a request is sent again.

    Every request: when no connection came about, and on 429 or 503 that name a Retry-After. (One
    that met a kept connection the server had closed goes out again at once, and is not counted.)
    Requests without effect (`is_safe`): also when the connection broke, on a timeout and on 5xx.
    Nothing is repeated once a part of the answer was handed out.
    """

    max_retries: int = 2
    base_seconds: float = 0.25
    max_seconds: float = 8.0

    def __post_init__(self) -> None:
        """Raises: UsageError for a negative number."""
        for name in self.__struct_fields__:
            if getattr(self, name) < 0:
                raise UsageError(f"retry {name} is {getattr(self, name)}; it must be 0 or more")

    def delay_seconds(
        self, failure: ClientError, *, num_tried: int, is_safe: bool, random: Callable[[], float]
    ) -> float | None:
        """Return how long to wait before the next try, None to give up.

        `num_tried` counts the requests sent so far, `random` draws from [0, 1). The server's
        Retry-After is a lower bound; one beyond `max_seconds` is reported instead of waited for.
        """
        if num_tried > self.max_retries or not self._may_repeat(failure, is_safe=is_safe):
            return None
        jitter: float = random() * min(self.max_seconds, self.base_seconds * 2 ** (num_tried - 1))
        asked = failure.retry_after_seconds if isinstance(failure, OverloadedError) else None
        if asked is None:
            return jitter
        return None if asked > self.max_seconds else asked + jitter

    @staticmethod
    def _may_repeat(failure: ClientError, *, is_safe: bool) -> bool:
        if isinstance(failure, UnreachableError):
            return True
        if isinstance(failure, OverloadedError):
            return is_safe or failure.retry_after_seconds is not None
        return is_safe and isinstance(
            failure, (ConnectionLostError, TimedOutError, InternalServerError)
        )


NO_RETRIES = RetryPolicy(max_retries=0)
