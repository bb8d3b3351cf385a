"""Training progress on stderr: a live bar on a terminal, plain lines elsewhere.

Knows numbers to show, nothing of where they come from.
"""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import msgspec

from finetune.processes import say

SECONDS_BETWEEN_COUNTS = 5.0


class StepFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What one logged step tells the user."""

    step: int
    num_steps: int
    loss: float
    tokens_per_second: float
    eta_seconds: float

    def line(self) -> str:
        """Write the figures as one line."""
        return (
            f"step {self.step}/{self.num_steps}  loss {self.loss:.4f}  "
            f"{self.tokens_per_second:,.0f} tokens/s  ETA {clock(self.eta_seconds)}"
        )


def clock(seconds: float) -> str:
    """Write a duration as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def counting(what: str, total: int) -> Callable[[int], None]:
    """Return what tells, every few seconds, how many of something are done."""
    told = time.monotonic()

    def show(done: int) -> None:
        nonlocal told
        if time.monotonic() - told >= SECONDS_BETWEEN_COUNTS:
            told = time.monotonic()
            say(f"{what}: {done}/{total}")

    return show


class Progress:
    """Shows steps as they are logged; use as a context manager."""

    def __init__(self, num_steps: int, *, shown: bool = True) -> None:
        self.num_steps = num_steps
        self.shown = shown
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> Self:
        if self.shown and sys.stderr.isatty():
            self.bar = _open_bar()
            self.task = self.bar.add_task("training", total=self.num_steps, figures="")
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def show(self, figures: StepFigures) -> None:
        """Show one step."""
        if not self.shown:
            return
        if self.bar is None:
            print(figures.line(), file=sys.stderr, flush=True)
        else:
            self.bar.update(self.task, completed=figures.step, figures=figures.line())


def _open_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress

    columns = BarColumn(), TextColumn("{task.fields[figures]}")
    return RichProgress(*columns, console=Console(stderr=True))
