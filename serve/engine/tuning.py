"""What rows of a model cost on this machine, and how many threads compute them best.

Measures a loaded model that nobody uses yet. Knows neither where figures are kept nor how chunks
are sized from them.
"""

from __future__ import annotations

import time
from collections.abc import Callable  # noqa: TC003  # msgspec reads the field types
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from serve.engine.batch import Batch
from serve.engine.chunking import FIRST_CHUNK, SOLO_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Sequence as Many

    from serve.engine.batch import Outcome

T = TypeVar("T")

ROW_COUNTS = (1, 2, 4, 8, 16, 32)
CHUNKS = (32, 64, 128, 256, 512, 1024, 2048)

_TIE = 0.03  # a thread is not worth less than this: the event loop and the editor need cores too
_WORTH_A_SECOND_TEAM = 0.1  # changing the number of threads between steps costs, too
_HOPELESS = 1.3
_AS_FAST = 0.9
_QUIET_SHARE = 0.85  # of the processor time that our threads could have had
_PROBE_TOKENS = 64  # different ones, so that rows are not all alike


class Tunable(Protocol):
    """What is asked of a model that is measured."""

    @property
    def n_batch(self) -> int:
        """Return the most rows of one call."""

    def decode(self, batch: Batch) -> Outcome:
        """Compute a batch, and return when it is computed."""

    def trim(self, seq_id: int, start: int) -> None:
        """Drop the cells from `start` on."""

    def set_threads(self, threads: int, threads_batch: int) -> None:
        """Compute calls of one row, and of several, with so many threads from now on."""


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome. `threads` is for calls of one row, `threads_batch` for those of several.

    `row_seconds`: a call of so many rows, each with logits, as far as seats go. `chunk_seconds`: a
    call of so many prompt rows. `tried` holds, for each number of threads, what one row and a
    chunk of 32 took; empty where the configuration decides.

    `cpu_share` is what our threads got of the processor time they could have had: they compute or
    spin, so that less means that something else ran. Figures of a busy machine are not its own.
    """

    threads: int
    threads_batch: int
    row_seconds: dict[int, float]
    chunk_seconds: dict[int, float]
    tried: dict[int, tuple[float, float]]
    measuring_seconds: float
    cpu_share: float
    schema_version: int = 1

    @property
    def is_quiet(self) -> bool:
        """Say whether the machine was ours."""
        return self.cpu_share >= _QUIET_SHARE

    @property
    def best_chunk(self) -> int:
        """Return the longest chunk that reads about as many rows a second as any.

        They are timed with nothing before them; behind a long prompt short ones lose by reading
        its cells more often.
        """
        rates = {rows: rows / seconds for rows, seconds in self.chunk_seconds.items()}
        return max(rows for rows, rate in rates.items() if rate >= max(rates.values()) * _AS_FAST)

    @property
    def seconds_per_prompt_row(self) -> float:
        """Return what a row of the best chunk costs."""
        return self.chunk_seconds[self.best_chunk] / self.best_chunk


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """A figure is the least of `repeats`, fewer once they took `seconds` together."""

    repeats: int
    seconds: float


class Clocks(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that passed, and those of the processor that this process took."""

    wall: Callable[[], float] = time.monotonic
    cpu: Callable[[], float] = time.process_time


QUICK = Effort(repeats=3, seconds=0.2)
THOROUGH = Effort(repeats=9, seconds=2.0)
HASTY = Effort(repeats=1, seconds=0.1)
SYSTEM = Clocks()


def measure(
    model: Tunable,
    thread_counts: Many[int],
    *,
    num_outputs: int,
    effort: Effort = QUICK,
    clocks: Clocks = SYSTEM,
) -> Tuning:
    """Try each number of threads, keep the best, and time rows and chunks with it.

    A single number is taken as it is, and so is the first one on a busy machine. `num_outputs`
    rows at most may want logits. Leaves the model empty and set to the best threads. Takes seconds
    on a small model, some ten on a large one.
    """
    began = clocks.wall()
    probe = _Probe(model, num_outputs, effort, clocks)
    probe.set_threads(thread_counts[0], thread_counts[0])
    on_a_thread_that_ends(lambda: probe.chunk(FIRST_CHUNK))  # pages the weights in
    probe.forget_shares()
    tried = dict(_try(probe, thread_counts)) if len(thread_counts) > 1 else {}
    threads, threads_batch = (thread_counts[0],) * 2
    if tried and probe.cpu_share < _QUIET_SHARE:
        probe.effort = HASTY  # they do not last
    elif tried:
        threads, threads_batch = best_threads(tried)
    probe.set_threads(threads, threads_batch)
    rows, chunks = on_a_thread_that_ends(lambda: (_row_seconds(probe), _chunk_seconds(probe)))
    return Tuning(
        threads=threads,
        threads_batch=threads_batch,
        row_seconds=rows,
        chunk_seconds=chunks,
        tried=tried,
        measuring_seconds=round(clocks.wall() - began, 3),
        cpu_share=round(min(probe.cpu_share, 1.0), 3),
    )


def best_threads(tried: Mapping[int, tuple[float, float]]) -> tuple[int, int]:
    """Return the best threads for one row and for several: the fewest that are as good as any.

    They differ only where one row gains a good deal by it.
    """
    for_row = _fewest({threads: row for threads, (row, _) in tried.items()})
    for_chunk = _fewest({threads: chunk for threads, (_, chunk) in tried.items()})
    gain = 1 - tried[for_row][0] / tried[for_chunk][0]
    return (for_row if gain > _WORTH_A_SECOND_TEAM else for_chunk), for_chunk


def on_a_thread_that_ends(work: Callable[[], T]) -> T:
    """Compute away from the caller's thread.

    OpenMP keeps a team of threads for every thread that ever computed. With the caller's beside
    the worker's there are more threads than cores, libgomp stops spinning at its barriers, and
    every step takes half as long again.
    """
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(work).result()


class _Probe:
    """Times calls on an empty context."""

    def __init__(self, model: Tunable, num_outputs: int, effort: Effort, clocks: Clocks) -> None:
        self.n_batch = model.n_batch
        self._model = model
        self._num_outputs = num_outputs
        self.effort = effort
        self._clocks = clocks
        self._threads = (1, 1)
        self.forget_shares()

    def set_threads(self, threads: int, threads_batch: int) -> None:
        """Compute one row, and several, with so many threads."""
        self._threads = (threads, threads_batch)
        self._model.set_threads(threads, threads_batch)

    def forget_shares(self) -> None:
        """Begin to add up processor time anew."""
        self._cpu_seconds = self._possible_seconds = 0.0

    @property
    def cpu_share(self) -> float:
        """Return processor time by what our threads could have had."""
        return self._cpu_seconds / self._possible_seconds if self._possible_seconds else 0.0

    def rows(self, count: int) -> float:
        """Return the seconds of a call whose rows want logits, as far as there is room."""
        return self._least(count, num_outputs=min(count, self._num_outputs))

    def chunk(self, count: int) -> float:
        """Return the seconds of a call that reads a part of a prompt."""
        return self._least(count, num_outputs=0)

    def _least(self, count: int, *, num_outputs: int) -> float:
        wants = [0] * (count - num_outputs) + [1] * num_outputs
        token_ids = [row % _PROBE_TOKENS for row in range(count)]
        batch = Batch(token_ids, list(range(count)), [0] * count, wants)
        seconds: list[float] = []
        while len(seconds) < self.effort.repeats and sum(seconds) < self.effort.seconds:
            seconds.append(self._timed(batch))
        return min(seconds)

    def _timed(self, batch: Batch) -> float:
        began, cpu_began = self._clocks.wall(), self._clocks.cpu()
        self._model.decode(batch)
        seconds = self._clocks.wall() - began
        self._cpu_seconds += self._clocks.cpu() - cpu_began
        self._possible_seconds += seconds * self._threads[len(batch) > 1]
        self._model.trim(0, 0)
        return seconds


def _try(probe: _Probe, thread_counts: Many[int]) -> Iterator[tuple[int, tuple[float, float]]]:
    """Measure one row and a chunk; a number hopeless with one row is not tried on a chunk."""
    best_row = float("inf")
    for threads in thread_counts:
        probe.set_threads(threads, threads)
        row = on_a_thread_that_ends(lambda: probe.rows(1))
        if row > best_row * _HOPELESS:
            continue
        best_row = min(best_row, row)
        yield threads, (row, on_a_thread_that_ends(lambda: probe.chunk(FIRST_CHUNK)))


def _fewest(seconds: Mapping[int, float]) -> int:
    good = min(seconds.values()) * (1 + _TIE)
    return min(threads for threads, taken in seconds.items() if taken <= good)


def _row_seconds(probe: _Probe) -> dict[int, float]:
    counts = [count for count in ROW_COUNTS if count <= probe.n_batch]
    return {count: probe.rows(count) for count in counts}


def _chunk_seconds(probe: _Probe) -> dict[int, float]:
    """Time longer and longer chunks, up to what the scheduler may ever choose."""
    found: dict[int, float] = {}
    for count in CHUNKS:
        expected = count * found[max(found)] / max(found) if found else 0.0
        if count > probe.n_batch or expected > SOLO_SECONDS * 1.25:
            break
        found[count] = probe.chunk(count)
    return found
