"""How many threads compute while other programs want the processor, too.

Compute threads wait for each other after every node of the graph, so that one that a compiler has
pushed off its core holds all up: on a busy machine few threads are several times as fast as one a
core. So when they get less of the processor than they ask for, as many are tried as could have
had a core, and kept when the same calls are faster; later more are tried again in the same way.
Knows calls and clocks, no sequences.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from serve.engine.tuning import SYSTEM, Clocks

if TYPE_CHECKING:
    from collections.abc import Callable

CROWDED_SHARE = 0.75  # of the processor time that computing and waiting threads could have had
BETTER = 0.9  # times the former pace: less is noise
WINDOW_SECONDS = 0.25
WINDOW_CALLS = 3
LONG_WINDOW_SECONDS = 1.0  # of calls that are slow, a single one says enough
FIRST_REST_SECONDS = 2.0  # between two trials; doubled after each that brought nothing
LONGEST_REST_SECONDS = 30.0


@dataclass(slots=True)
class _Window:
    """Calls of one kind with one number of threads."""

    num_calls: int = 0
    num_rows: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def is_full(self) -> bool:
        is_usual = self.num_calls >= WINDOW_CALLS and self.wall_seconds >= WINDOW_SECONDS
        return is_usual or self.wall_seconds >= LONG_WINDOW_SECONDS

    @property
    def pace(self) -> float:
        """Return seconds a row."""
        return self.wall_seconds / self.num_rows


@dataclass(slots=True)
class _Trial:
    """What there was before it: to go back to, and to be compared with."""

    threads: int
    paces: dict[int, float] = field(default_factory=dict)


class Crowding:
    """Chooses from 1 to `most` threads; `set_threads` is called on the worker's thread."""

    def __init__(
        self, set_threads: Callable[[int], None], most: int, clocks: Clocks = SYSTEM
    ) -> None:
        self.threads = most
        self._set_threads = set_threads
        self._most = most
        self._clocks = clocks
        self._windows: dict[int, _Window] = {}
        self._paces: dict[int, float] = {}
        self._trial: _Trial | None = None
        self._rest_seconds = FIRST_REST_SECONDS
        self._rested_since = clocks.wall()
        self._began = (0.0, 0.0)

    def begin(self) -> None:
        """Note that a call begins."""
        self._began = self._clocks.wall(), self._clocks.cpu()

    def end(self, num_rows: int, *, is_prefill: bool) -> None:
        """Take in a call that was computed whole. Only equal numbers of decode rows compare."""
        if self._most == 1:
            return
        wall, cpu = self._began
        kind = 0 if is_prefill else num_rows
        window = self._windows.setdefault(kind, _Window())
        window.num_calls += 1
        window.num_rows += num_rows
        window.wall_seconds += self._clocks.wall() - wall
        window.cpu_seconds += self._clocks.cpu() - cpu
        if window.is_full:
            del self._windows[kind]
            self._take(kind, window)

    def _take(self, kind: int, window: _Window) -> None:
        if self._trial is None:
            self._paces[kind] = window.pace
            self._consider(window.cpu_seconds / window.wall_seconds / self.threads)
            return
        known = self._trial.paces.get(kind)
        if known is None:
            return  # a kind that there is nothing to compare with
        if window.pace < BETTER * known:
            self._rest_seconds, self._trial = FIRST_REST_SECONDS, None
        else:
            self._rest_seconds = min(2 * self._rest_seconds, LONGEST_REST_SECONDS)
            self._change(self._trial.threads)
            self._trial = None
        self._rested_since = self._clocks.wall()

    def _consider(self, share: float) -> None:
        if self._clocks.wall() - self._rested_since < self._rest_seconds:
            return
        if share < CROWDED_SHARE and self.threads > 1:
            self._try(min(max(round(share * self.threads), 1), self.threads - 1))
        elif self.threads < self._most:
            self._try(min(2 * self.threads, self._most))

    def _try(self, threads: int) -> None:
        self._trial = _Trial(self.threads, self._paces)
        self._change(threads)

    def _change(self, threads: int) -> None:
        self.threads = threads
        self._set_threads(threads)
        self._windows, self._paces = {}, {}
