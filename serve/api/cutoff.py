"""End an answer early by what its text looks like or how long it takes.

Editors ask for this: a completion must not leave the block it began in, nor keep a person waiting.
Knows no dialect.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from serve.engine.request import Event, Finished, FinishReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from serve.engine.engine import Generation


class Cutoff(msgspec.Struct, frozen=True, kw_only=True):
    """`n_indent`: columns each new line must be indented by; `seconds`: for writing.

    Time counts from the first token, and an answer of one line is always let finish it.
    """

    n_indent: int = 0
    seconds: float | None = None

    def end(self, text: str, elapsed_seconds: float) -> int | None:
        """Return how many characters of `text` to keep, None to go on."""
        if self.n_indent and (start := _outdented(text, self.n_indent)) is not None:
            return start
        late = self.seconds is not None and elapsed_seconds > self.seconds
        return len(text) if late and "\n" in text else None


class BoundedAnswer:
    """A generation that a cutoff may end; it then reports the reason `length`."""

    def __init__(
        self,
        generation: Generation,
        cutoff: Cutoff,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._generation = generation
        self._cutoff = cutoff
        self._clock = clock
        self._text = ""
        self._started_at: float | None = None
        self._is_cut = False

    def __aiter__(self) -> BoundedAnswer:
        return self

    async def __anext__(self) -> Event:
        event = await self._generation.__anext__()
        if isinstance(event, Finished):
            return (
                msgspec.structs.replace(event, reason=FinishReason.LENGTH)
                if self._is_cut
                else event
            )
        if event.is_silent:
            return event
        if self._started_at is None:
            self._started_at = self._clock()
        already = len(self._text)
        self._text += event.text
        end = self._cutoff.end(self._text, self._clock() - self._started_at)
        if end is None:
            return event
        self._is_cut = True
        self._generation.cancel()
        return msgspec.structs.replace(event, text=self._text[already:end])

    def cancel(self) -> None:
        """Stop the generation."""
        self._generation.cancel()


def _outdented(text: str, n_indent: int) -> int | None:
    """Return where the first line after the first with text in fewer columns begins."""
    start = text.find("\n") + 1
    while start:
        line = text[start:].partition("\n")[0]
        indent = len(line) - len(line.lstrip(" \t"))
        if line.strip() and indent < n_indent:
            return start
        start = text.find("\n", start) + 1
    return None
