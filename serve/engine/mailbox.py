"""What other threads hand to the worker: new lanes and a wake-up call.

A lock and a list; knows nothing of what a lane is but its class.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from serve.engine.errors import EngineClosedError

if TYPE_CHECKING:
    from serve.engine.lane import Lane


class Mailbox:
    """Many writers, one reader. After `close` nothing goes in."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lanes: list[Lane] = []
        self._is_woken = False
        self._closed_because: str | None = None

    def put(self, lane: Lane) -> None:
        """Hand over a lane. Raises: EngineClosedError."""
        with self._changed:
            if self._closed_because is not None:
                raise EngineClosedError(self._closed_because)
            self._lanes.append(lane)
            self._changed.notify()

    def wake(self) -> None:
        """Make a waiting reader look around."""
        with self._changed:
            self._is_woken = True
            self._changed.notify()

    def take(self, *, wait: bool, timeout_seconds: float | None = None) -> list[Lane]:
        """Take all lanes; with `wait`, not before there is one, a call, the end or the time."""
        with self._changed:
            if wait:
                self._changed.wait_for(self._has_news, timeout_seconds)
            self._is_woken = False
            lanes, self._lanes = self._lanes, []
            return lanes

    def _has_news(self) -> bool:
        return bool(self._lanes or self._is_woken or self._closed_because)

    def has_before(self, effective_class: int) -> bool:
        """Say whether a lane of a higher class than this waits."""
        with self._changed:
            return any(lane.sequence.priority < effective_class for lane in self._lanes)

    def close(self, reason: str) -> None:
        """Refuse whatever comes later; what is inside can still be taken."""
        with self._changed:
            self._closed_because = self._closed_because or reason
            self._changed.notify()
