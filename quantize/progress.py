"""Progress: one line a step on stderr and in a run's log, a bar where a terminal can show one."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from quantize.run import say

Draw = Callable[[int, int], None]
"""Show that `done` of `all` is done."""
_BAR_WIDTH = 24
_REDRAW_SECONDS = 0.1


def no_draw(_done: int, _total: int) -> None:
    """Show no progress."""


class Steps:
    """Number the steps of a command and say how long each took."""

    def __init__(self, log: Path | None = None) -> None:
        self.log = log
        self.done = 0

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Draw]:
        """Announce a step; the value it gives draws (done, all) within it."""
        self.done += 1
        place = f"[{self.done}]"
        bar = _Bar(f"{place} {title}")
        start = time.monotonic()
        yield bar.draw
        bar.clear()
        seconds = time.monotonic() - start
        say(f"{place} {title}: {seconds:.1f} s")
        self._note(title, seconds)

    def _note(self, title: str, seconds: float) -> None:
        if self.log is None:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = {"time": now, "event": title, "seconds": round(seconds, 3)}
        with self.log.open("ab") as stream:
            stream.write(msgspec.json.encode(entry) + b"\n")


class _Bar:
    """Redraw one line of a terminal; draw nothing elsewhere."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.shown_at = 0.0
        self.live = sys.stderr.isatty()
        if self.live:
            self._put(title)

    def draw(self, done: int, total: int) -> None:
        """Show `done` of `total`, not more often than an eye needs."""
        now = time.monotonic()
        if not self.live or now - self.shown_at < _REDRAW_SECONDS or total < 1:
            return
        self.shown_at = now
        filled = _BAR_WIDTH * done // total
        self._put(f"{self.title} {'█' * filled}{'░' * (_BAR_WIDTH - filled)} {done}/{total}")

    def clear(self) -> None:
        """Remove the bar so that a plain line can take its place."""
        if self.live:
            self._put("")

    @staticmethod
    def _put(text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
