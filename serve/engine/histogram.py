"""How often a figure fell where: counts between bounds, as plain data.

One thread observes, any may take a snapshot. Knows no rendering.
"""

from __future__ import annotations

import bisect

import msgspec

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0)


class HistogramStats(msgspec.Struct, frozen=True):
    """A snapshot: `counts` has one entry more than `bounds`, for what is beyond the last."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


class Histogram:
    """Counts of values up to each of the ascending `bounds`, which count themselves in."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value in."""
        self._counts[bisect.bisect_left(self._bounds, value)] += times
        self._total += value * times

    def snapshot(self) -> HistogramStats:
        """Copy what was counted."""
        return HistogramStats(self._bounds, tuple(self._counts), self._total)
