"""Render the engine's counters as Prometheus text, with llama.cpp's names for those it has too.

Source: Prometheus text exposition format 0.0.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serve.engine.stats import EngineStats

_COUNTERS = {
    "prompt_tokens": "Prompt tokens of finished requests.",
    "cached_tokens": "Prompt tokens that were not read again.",
    "cached_memory_tokens": "Of those, restored from the memory tier.",
    "cached_disk_tokens": "Of those, restored from files.",
    "completion_tokens": "Tokens generated.",
    "num_steps": "Steps of the engine.",
    "decode_batches": "Decode calls that advanced running sequences.",
    "decode_rows": "Rows of those calls.",
    "prefill_batches": "Decode calls that read prompts.",
    "prefill_rows": "Rows of those calls.",
    "aborted_chunks": "Prefill chunks broken off for a more urgent request.",
    "preemptions": "Sequences sent back to the queue for want of cells.",
    "evictions": "Idle prefixes that left the KV cache for room.",
    "cache_memory_evictions": "Prefixes dropped from the memory tier.",
    "cache_disk_evictions": "Prefixes dropped from the files.",
    "decode_seconds": "Time inside the decode calls.",
    "rest_seconds": "Time of the steps outside the decode calls.",
    "queue_seconds": "Time that finished requests waited for a seat.",
    "first_token_seconds": "Time from arrival to first token, summed.",
}
_GAUGES = {
    "num_waiting": "Requests waiting for a seat.",
    "num_running": "Requests seated.",
    "num_cells": "Cells of the KV cache.",
    "num_held_tokens": "Cells in use.",
    "cache_memory_bytes": "Prefixes in the memory tier.",
    "cache_disk_bytes": "Prefixes in files.",
}
_ALIASES = {
    "llamacpp:prompt_tokens_total": ("counter", "prompt_tokens"),
    "llamacpp:tokens_predicted_total": ("counter", "completion_tokens"),
    "llamacpp:requests_processing": ("gauge", "num_running"),
    "llamacpp:requests_deferred": ("gauge", "num_waiting"),
}


def render(stats: EngineStats) -> str:
    """Return the whole page."""
    lines: list[str] = []
    for field, text in _COUNTERS.items():
        name = f"edgesmith_{field.removeprefix('num_')}_total"
        lines += _metric(name, "counter", text, getattr(stats, field))
    for field, text in _GAUGES.items():
        name = f"edgesmith_{field.removeprefix('num_')}"
        lines += _metric(name, "gauge", text, getattr(stats, field))
    for name, (kind, field) in _ALIASES.items():
        lines += _metric(name, kind, f"As edgesmith_{field}.", getattr(stats, field))
    num_calls = stats.decode_batches + stats.prefill_batches
    seats = stats.decode_rows / stats.decode_batches if stats.decode_batches else 0.0
    lines += _metric("llamacpp:n_decode_total", "counter", "Calls of llama_decode.", num_calls)
    lines += _metric(
        "llamacpp:n_busy_slots_per_decode", "gauge", "Sequences advanced by a decode call.", seats
    )
    lines += _finished(stats.requests_finished)
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, text: str, value: float) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {value}"]


def _finished(reasons: dict[str, int]) -> list[str]:
    name = "edgesmith_requests_finished_total"
    samples = [f'{name}{{reason="{reason}"}} {count}' for reason, count in sorted(reasons.items())]
    return [f"# HELP {name} Requests ended, by reason.", f"# TYPE {name} counter", *samples]
