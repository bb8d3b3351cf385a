"""Counters and states as plain data.

Written by the worker thread, read by anyone; knows no rendering and no HTTP.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from serve.engine.prefix_cache import Tier

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


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot. Counters grow since the engine started; `*_seconds` are sums.

    `queue_seconds` is the time to a seat, `seated_seconds` from there to the end.
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
    queue_seconds: float
    seated_seconds: float
    first_token_seconds: float
    seconds_per_prompt_row: float | None


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
    draft_tokens: int = 0
    accepted_tokens: int = 0
    evictions: int = 0
    decode_seconds: float = 0.0
    rest_seconds: float = 0.0
    queue_seconds: float = 0.0
    seated_seconds: float = 0.0
    first_token_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Copy all sums, by name."""
        sums = {name.name: getattr(self, name.name) for name in dataclasses.fields(self)}
        return sums | {"requests_finished": dict(self.requests_finished)}

    def count_batch(self, num_rows: int, *, is_prefill: bool) -> None:
        """Count the rows of a batch that was computed."""
        if is_prefill:
            self.prefill_batches += 1
            self.prefill_rows += num_rows
        else:
            self.decode_batches += 1
            self.decode_rows += num_rows

    def count_draft(self, num_tokens: int, num_true: int) -> None:
        """Count the guesses of a decode call, and those that came true."""
        self.draft_tokens += num_tokens
        self.accepted_tokens += num_true

    def count_finished(self, sequence: Sequence) -> None:
        """Add a sequence that ended."""
        self.requests_finished[str(sequence.finish_reason)] += 1
        self.completion_tokens += sequence.num_output_tokens
        if sequence.seated_at is not None:
            self.prompt_tokens += sequence.num_prompt_tokens
            self._count_cached(sequence)
            self.queue_seconds += sequence.seated_at - sequence.queued_at
            self.seated_seconds += (sequence.finished_at or 0.0) - sequence.seated_at
        if sequence.first_token_at is not None:
            self.first_token_seconds += sequence.first_token_at - sequence.queued_at

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
