"""How many prompt rows to read at once, from what rows were measured to cost.

Knows no sequences; seconds in, rows out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_CHUNK = 32  # before anything was measured
MIN_CHUNK = 16  # smaller ones waste the kernels, and measure badly
ROW_GROUP = 4  # repacked kernels take rows four at a time

SOLO_SECONDS = 1.0  # nobody decodes: a newcomer of a higher class aborts the chunk anyway
SHARED_SECONDS = 0.35  # streams or newcomers wait: a whole step, decode rows included

_WEIGHT = 0.3  # of the newest measurement in the running mean


class RowCosts:
    """Running means of what this machine needs for a prompt row and for a decode call."""

    def __init__(self) -> None:
        self.others_compute: Callable[[], bool] = lambda: False  # rows of another model wait
        self.seconds_per_row: float | None = None
        self.decode_seconds = 0.0
        self.best_chunk: int | None = None

    def seed(self, *, seconds_per_row: float, decode_seconds: float, best_chunk: int) -> None:
        """Begin with figures measured before, at the best rate a chunk has; they stay means."""
        self.seconds_per_row = seconds_per_row
        self.decode_seconds = decode_seconds
        self.best_chunk = best_chunk

    def observe_prefill(self, num_rows: int, seconds: float) -> None:
        """Take in a finished chunk; a short one says little about long ones."""
        if num_rows >= MIN_CHUNK:
            self.seconds_per_row = _mean(self.seconds_per_row, seconds / num_rows)

    def observe_decode(self, seconds: float) -> None:
        """Take in one decode call of running sequences."""
        self.decode_seconds = _mean(self.decode_seconds or None, seconds)

    def chunk_rows(self, *, others_wait: bool, limit: int) -> int:
        """Return the rows of the next chunk, a multiple of four, at most `limit`."""
        if self.seconds_per_row is None:
            return min(FIRST_CHUNK, limit)
        is_shared = others_wait or self.others_compute()
        budget = SHARED_SECONDS - self.decode_seconds if is_shared else SOLO_SECONDS
        limit = min(limit, self.best_chunk or limit)
        rows = int(budget / max(self.seconds_per_row, 1e-9))
        return max(min(rows, limit), MIN_CHUNK) // ROW_GROUP * ROW_GROUP


def _mean(old: float | None, new: float) -> float:
    return new if old is None else old + _WEIGHT * (new - old)
