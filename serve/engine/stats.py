"""Counters and states as plain data.

Written by the worker thread, read by anyone; knows no rendering and no HTTP.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from serve.engine.histogram import ROWS, SECONDS, Histogram, HistogramStats
from serve.engine.prefix import Tier

if TYPE_CHECKING:
    from serve.engine.sequence import Sequence
    from serve.engine.slots import SlotTable


class SlotStats(msgspec.Struct, frozen=True, kw_only=True):
    """One seat: what sits there and how many tokens have cells.

    `num_prompt_tokens`, `num_output_tokens` and `priority` describe the running sequence; they are
    zero and empty in a free seat.
    """

    seq_id: int
    state: str
    num_held_tokens: int
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    priority: str = ""
    request_id: str = ""


class Distributions(msgspec.Struct, frozen=True, kw_only=True):
    """How figures spread, since the engine started.

    Per request: `queue_seconds` to a seat, `first_token_seconds` from arrival. `token_seconds`:
    from one token of an answer to the next; tokens that come together share their time. Per step
    with work: `step_decode_seconds` inside llama_decode, `step_rest_seconds` outside it. Per call:
    `decode_rows`, drafts included, and `prefill_rows`.
    """

    queue_seconds: HistogramStats
    first_token_seconds: HistogramStats
    token_seconds: HistogramStats
    step_decode_seconds: HistogramStats
    step_rest_seconds: HistogramStats
    decode_rows: HistogramStats
    prefill_rows: HistogramStats


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot. Counters grow since the engine started; `*_seconds` are sums.

    `seated_seconds` is the time from a seat to the end; `prompt_seconds` of it came before the
    first token, `predicted_seconds` after it. `draft_batches` are the answers' steps with guesses.
    `cached_tokens` were not read again; of those, `cached_memory_tokens` and `cached_disk_tokens`
    were restored from these tiers and the rest was still in the KV cache. `evictions` were of idle
    cells for want of room, `cache_memory_evictions` and `cache_disk_evictions` of stored prefixes.
    `draft_tokens` were computed as guesses at the output, `accepted_tokens` of them came true.
    `decode_seconds` is the time inside llama_decode, `rest_seconds` that of the steps outside it.
    """

    slots: tuple[SlotStats, ...]
    num_waiting: int
    num_running: int
    num_cells: int
    num_held_tokens: int
    requests_finished: dict[str, int]
    prompt_tokens: int
    cached_tokens: int
    cached_memory_tokens: int
    cached_disk_tokens: int
    completion_tokens: int
    num_steps: int
    decode_batches: int
    decode_rows: int
    prefill_batches: int
    prefill_rows: int
    aborted_chunks: int
    draft_batches: int
    draft_tokens: int
    accepted_tokens: int
    preemptions: int
    evictions: int
    cache_memory_bytes: int
    cache_memory_evictions: int
    cache_disk_bytes: int
    cache_disk_evictions: int
    decode_seconds: float
    rest_seconds: float
    seated_seconds: float
    prompt_seconds: float
    predicted_seconds: float
    distributions: Distributions
    compute_threads: int
    seconds_per_prompt_row: float | None


@dataclass(slots=True)
class Spread:
    """The worker's histograms; fields as in `Distributions`."""

    queue_seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    first_token_seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    token_seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    step_decode_seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    step_rest_seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    decode_rows: Histogram = field(default_factory=lambda: Histogram(ROWS))
    prefill_rows: Histogram = field(default_factory=lambda: Histogram(ROWS))

    def snapshot(self) -> Distributions:
        """Copy all of them."""
        names = Distributions.__struct_fields__
        return Distributions(**{name: getattr(self, name).snapshot() for name in names})


@dataclass(slots=True)
class Counters:
    """The worker's running sums; fields as in `EngineStats`."""

    requests_finished: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cached_memory_tokens: int = 0
    cached_disk_tokens: int = 0
    completion_tokens: int = 0
    num_steps: int = 0
    decode_batches: int = 0
    decode_rows: int = 0
    prefill_batches: int = 0
    prefill_rows: int = 0
    aborted_chunks: int = 0
    draft_batches: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0
    evictions: int = 0
    decode_seconds: float = 0.0
    rest_seconds: float = 0.0
    seated_seconds: float = 0.0
    prompt_seconds: float = 0.0
    predicted_seconds: float = 0.0
    spread: Spread = field(default_factory=Spread)

    def as_dict(self) -> dict[str, Any]:
        """Copy all sums and distributions, by name."""
        sums = {name.name: getattr(self, name.name) for name in dataclasses.fields(self)}
        finished, spread = dict(self.requests_finished), sums.pop("spread")
        return sums | {"requests_finished": finished, "distributions": spread.snapshot()}

    def count_step(self, decode_seconds: float, rest_seconds: float) -> None:
        """Count a step; those that computed nothing only add to the time outside."""
        self.num_steps += 1
        self.rest_seconds += rest_seconds
        if decode_seconds:
            self.spread.step_decode_seconds.observe(decode_seconds)
            self.spread.step_rest_seconds.observe(rest_seconds)

    def count_tokens(self, sequence: Sequence, num_tokens: int, now: float) -> None:
        """Count tokens that were chosen together; notes their time in the sequence."""
        if sequence.first_token_at is None:
            sequence.first_token_at = now
            self.spread.first_token_seconds.observe(now - sequence.queued_at)
        else:
            gap = now - (sequence.last_token_at or now)
            self.spread.token_seconds.observe(gap / num_tokens, num_tokens)
        sequence.last_token_at = now

    def count_batch(self, num_rows: int, *, is_prefill: bool) -> None:
        """Count the rows of a batch that was computed."""
        if is_prefill:
            self.spread.prefill_rows.observe(num_rows)
            self.prefill_batches += 1
            self.prefill_rows += num_rows
        else:
            self.spread.decode_rows.observe(num_rows)
            self.decode_batches += 1
            self.decode_rows += num_rows

    def count_draft(self, num_tokens: int, num_true: int) -> None:
        """Count the guesses of a decode call, and those that came true."""
        self.draft_batches += 1
        self.draft_tokens += num_tokens
        self.accepted_tokens += num_true

    def count_finished(self, sequence: Sequence) -> None:
        """Add a sequence that ended."""
        self.requests_finished[str(sequence.finish_reason)] += 1
        self.completion_tokens += sequence.num_output_tokens
        if sequence.seated_at is not None:
            self.prompt_tokens += sequence.num_prompt_tokens
            self._count_cached(sequence)
            self.spread.queue_seconds.observe(sequence.seated_at - sequence.queued_at)
            end = sequence.finished_at or sequence.seated_at
            first = end if sequence.first_token_at is None else sequence.first_token_at
            self.seated_seconds += end - sequence.seated_at
            self.prompt_seconds += first - sequence.seated_at
            self.predicted_seconds += end - first

    def _count_cached(self, sequence: Sequence) -> None:
        self.cached_tokens += sequence.num_cached_tokens
        if sequence.cached_tier is Tier.MEMORY:
            self.cached_memory_tokens += sequence.num_cached_tokens
        elif sequence.cached_tier is Tier.DISK:
            self.cached_disk_tokens += sequence.num_cached_tokens


def slot_stats(slots: SlotTable) -> tuple[SlotStats, ...]:
    """Describe every seat; safe from any thread, if a step behind."""
    stats = []
    for slot in slots.slots:
        sequence = slot.sequence
        if sequence is None:
            held = len(slot.held_token_ids)
            stats.append(SlotStats(seq_id=slot.seq_id, state="idle", num_held_tokens=held))
            continue
        stats.append(
            SlotStats(
                seq_id=slot.seq_id,
                state=str(sequence.status),
                num_held_tokens=sequence.num_computed,
                num_prompt_tokens=sequence.num_prompt_tokens,
                num_output_tokens=sequence.num_output_tokens,
                priority=sequence.priority.name.lower(),
                request_id=sequence.request.request_id,
            )
        )
    return tuple(stats)
