"""What a decode call of n rows takes on this machine: a guess at first, then measured.

Rows are not free on a CPU: 4 take 2.5 times as long as one, 16 some 7.5 times. How long exactly
decides whether a draft pays. Knows no sequences; rows in, seconds out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve.engine.chunking import ROW_GROUP

if TYPE_CHECKING:
    from collections.abc import Mapping

# Rows, and their time in times of one row: between 135M and 1.5B, two cores.
_PRIOR = ((1, 1.0), (2, 1.7), (4, 2.6), (8, 5.0), (16, 7.7), (32, 14.2), (256, 100.0))
_WEIGHT = 0.3  # of the newest measurement in the running mean
_OUTLIER = 1.5  # a call that took longer than this times the mean was disturbed
_LIFETIME = 256  # calls after which a number of rows that nobody used is a guess again


@dataclass(slots=True)
class _Mean:
    seconds: float
    measured_at: int


class DecodeTimes:
    """Running means by number of rows; what was not measured is read off its neighbours.

    A mean that was not renewed for long is forgotten: one slow moment must not rule out a number
    of rows for good. `row_seconds` are calls timed before; the shape of their curve is the guess.
    """

    def __init__(self, row_seconds: Mapping[int, float] | None = None) -> None:
        self._curve = _curve(row_seconds) if row_seconds else _PRIOR
        self._means: dict[int, _Mean] = {}
        self._num_calls = 0

    def observe(self, num_rows: int, seconds: float) -> None:
        """Take in a decode call that was computed whole."""
        self._num_calls += 1
        rows = _rounded(num_rows)
        mean = self._means.get(rows)
        if mean is None or not self._is_fresh(mean):
            self._means[rows] = _Mean(max(seconds, 1e-9), self._num_calls)
            return
        mean.seconds += _WEIGHT * (min(seconds, _OUTLIER * mean.seconds) - mean.seconds)
        mean.measured_at = self._num_calls

    def estimate(self, num_rows: int) -> float:
        """Return seconds; before the first measurement, times of one row."""
        rows = _rounded(num_rows)
        fresh = [known for known, mean in self._means.items() if self._is_fresh(mean)]
        if not fresh:
            return self._guess(rows)
        below = max((known for known in fresh if known <= rows), default=None)
        above = min((known for known in fresh if known >= rows), default=None)
        if below is not None and above is not None:
            return self._between(below, above, rows)
        nearest = below if below is not None else above
        assert nearest is not None  # one of the two, since something is fresh
        return self._means[nearest].seconds * self._guess(rows) / self._guess(nearest)

    def _between(self, below: int, above: int, rows: int) -> float:
        low, high = self._means[below].seconds, self._means[above].seconds
        return low + (high - low) * (rows - below) / max(above - below, 1)

    @property
    def is_measured(self) -> bool:
        """Say whether estimates are in seconds."""
        return bool(self._num_calls)

    def _guess(self, num_rows: int) -> float:
        """Read times of one row off the curve."""
        low_rows, low = self._curve[0]
        high_rows, high = low_rows, low
        for high_rows, high in self._curve[1:]:
            if num_rows <= high_rows:
                break
            low_rows, low = high_rows, high
        return low + (num_rows - low_rows) * (high - low) / max(high_rows - low_rows, 1)

    def _is_fresh(self, mean: _Mean) -> bool:
        return self._num_calls - mean.measured_at < _LIFETIME


def _rounded(num_rows: int) -> int:
    """Few rows each have their own time, more come in groups."""
    return num_rows if num_rows <= ROW_GROUP else -(-num_rows // ROW_GROUP) * ROW_GROUP


def _curve(row_seconds: Mapping[int, float]) -> tuple[tuple[int, float], ...]:
    """Return rows and times of one row, in the prior's own proportions past the last one timed."""
    one = row_seconds[1]
    timed = [(rows, seconds / one) for rows, seconds in sorted(row_seconds.items())]
    last_rows, last = timed[-1]
    before = dict(_PRIOR).get(last_rows, last)
    beyond = [(rows, last * guess / before) for rows, guess in _PRIOR if rows > last_rows]
    return (*timed, *beyond)
