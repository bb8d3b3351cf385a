"""Token bytes to text: whole characters only, and no part of a stop string.

Knows no vocabulary: bytes come in, text goes out as early as it is certain.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class TextStream:
    """The text of one sequence. After a stop string matched, nothing more comes out."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = tuple(text for text in stop if text)
        self._held = ""
        self.stop_text: str | None = None

    def push(self, data: bytes) -> str:
        """Take a token's bytes and return the text that is certain now."""
        return self._advance(self._decoder.decode(data))

    def flush(self) -> str:
        """Return what was held back; half a character becomes U+FFFD."""
        text = self._advance(self._decoder.decode(b"", final=True)) + self._held
        self._held = ""
        return text

    def _advance(self, new: str) -> str:
        if self.stop_text is not None:
            return ""
        text = self._held + new
        match = self._first_match(text)
        if match is not None:
            start, self.stop_text = match
            self._held = ""
            return text[:start]
        keep = self._num_undecided(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _first_match(self, text: str) -> tuple[int, str] | None:
        """Find the stop string that is complete first; the longer one when two end together.

        The order of completion does not depend on where tokens split the text.
        """
        found = [(text.find(stop), stop) for stop in self._stop]
        matches = [(start + len(stop), start, stop) for start, stop in found if start >= 0]
        if not matches:
            return None
        _, start, stop = min(matches)
        return start, stop

    def _num_undecided(self, text: str) -> int:
        """Count the characters at the end that may be the beginning of a stop string."""
        return max((_overlap(text, stop) for stop in self._stop), default=0)


def _overlap(text: str, stop: str) -> int:
    """Return the longest proper beginning of `stop` that `text` ends with."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
