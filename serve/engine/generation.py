"""A running answer as its reader sees it, and the way of events across the thread border.

The worker posts, an event loop reads. Knows no sampling and no llama_cpp.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING

from serve.engine.request import Event, Finished, TextDelta

if TYPE_CHECKING:
    from collections.abc import Callable

    from serve.engine.sequence import Sequence, Status


class Generation:
    """An async iterator of events: text deltas, then exactly one `Finished`.

    Read it from the event loop it was made for. Nothing of it is lost when a read is cancelled.
    `on_finished` is called when its reader has it all.
    """

    on_finished: Callable[[Sequence], None] | None = None

    def __init__(
        self,
        sequence: Sequence,
        loop: asyncio.AbstractEventLoop,
        *,
        event_limit: int,
        wake_worker: Callable[[], None],
    ) -> None:
        self.sequence = sequence
        self.loop = loop
        self._event_limit = event_limit
        self._wake_worker = wake_worker
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._num_posted = 0  # written by the worker only
        self._num_taken = 0  # written by the reader only
        self._is_over = False

    @property
    def status(self) -> Status:
        """Return queued, prefill, decode or finished; a step behind at most."""
        return self.sequence.status

    def cancel(self) -> None:
        """End it within one step; no text comes out any more. Any thread, any number of times."""
        self.sequence.is_cancelled = True
        self._wake_worker()

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> Event:
        while not self._is_over:
            event = await self._events.get()
            self._num_taken += 1
            if isinstance(event, Finished):
                self._is_over = True
                if self.on_finished is not None:
                    self.on_finished(self.sequence)
                return event
            if not self.sequence.is_cancelled:
                return event
        raise StopAsyncIteration

    def deliver(self, event: Event) -> None:
        """Take an event; called on the event loop."""
        self._events.put_nowait(event)

    def note_posted(self, event: Event) -> None:
        """Count an event on its way, and cancel a reader that stopped taking them; worker only."""
        self._num_posted += 1
        pending = self._num_posted - self._num_taken
        if pending >= self._event_limit and isinstance(event, TextDelta):
            self.sequence.is_cancelled = True


class Outbox:
    """Gathers the events of a step, so that each event loop is woken once."""

    def __init__(self) -> None:
        self._pending: defaultdict[asyncio.AbstractEventLoop, list[tuple[Generation, Event]]]
        self._pending = defaultdict(list)

    def post(self, generation: Generation, event: Event) -> None:
        """Queue an event for delivery."""
        generation.note_posted(event)
        self._pending[generation.loop].append((generation, event))

    def flush(self) -> None:
        """Hand everything over; events for a loop that has ended are dropped with their reader."""
        for loop, events in self._pending.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_deliver, events)
        self._pending.clear()


def _deliver(events: list[tuple[Generation, Event]]) -> None:
    for generation, event in events:
        generation.deliver(event)
