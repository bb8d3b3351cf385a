"""Render the engine's figures for Prometheus, with llama.cpp's names for those it has too.

Counts nothing itself: a page is made from one snapshot.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client import Metric

    from serve.engine.histogram import HistogramStats
    from serve.engine.stats import EngineStats
    from serve.engine.tuning import Tuning

_COUNTERS = {
    "prompt_tokens": "Prompt tokens of finished requests.",
    "completion_tokens": "Tokens generated.",
    "num_steps": "Steps of the engine.",
    "decode_batches": "Decode calls that advanced running sequences.",
    "prefill_batches": "Decode calls that read prompts.",
    "aborted_chunks": "Prefill chunks broken off for a more urgent request.",
    "draft_tokens": "Tokens computed as guesses at the output.",
    "accepted_tokens": "Of those, the ones that came true.",
    "preemptions": "Sequences sent back to the queue for want of cells.",
    "evictions": "Idle prefixes that left the KV cache for room.",
    "cache_memory_evictions": "Prefixes dropped from the memory tier.",
    "cache_disk_evictions": "Prefixes dropped from the files.",
    "decode_seconds": "Time inside the decode calls.",
    "rest_seconds": "Time of the steps outside the decode calls.",
}
_GAUGES = {
    "num_waiting": "Requests waiting for a seat.",
    "num_running": "Requests seated.",
    "num_cells": "Cells of the KV cache.",
    "num_held_tokens": "Cells in use.",
    "compute_threads": "Threads that compute; fewer while the machine is busy with other things.",
    "cache_memory_bytes": "Prefixes in the memory tier.",
    "cache_disk_bytes": "Prefixes in files.",
}
_HISTOGRAMS = {
    "queue_seconds": "Time from a request's arrival to its seat.",
    "first_token_seconds": "Time from a request's arrival to its first token.",
    "token_seconds": "Time from one token of an answer to the next.",
    "step_decode_seconds": "Time of a step inside the decode calls.",
    "step_rest_seconds": "Time of a step outside the decode calls.",
    "decode_rows": "Rows of a decode call that advanced running sequences, drafts included.",
    "prefill_rows": "Rows of a decode call that read prompts.",
}


def render(stats: EngineStats, tuning: Tuning | None = None) -> str:
    """Return the whole page."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(stats, tuning))
    return generate_latest(registry).decode()


def render_embedding(num_read_tokens: int, num_calls: int) -> str:
    """Return the page of a model that makes vectors: what it read, and that it wrote nothing."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_EmbeddingPage(num_read_tokens, num_calls))
    return generate_latest(registry).decode()


class _EmbeddingPage(Collector):
    """One snapshot of what little there is."""

    def __init__(self, num_read_tokens: int, num_calls: int) -> None:
        self._counts = {
            "edgesmith_prompt_tokens": ("Tokens of inputs that were read.", num_read_tokens),
            "llamacpp:prompt_tokens": ("As edgesmith_prompt_tokens.", num_read_tokens),
            "llamacpp:n_decode": ("Calls of llama_decode.", num_calls),
            "llamacpp:tokens_predicted": ("None: vectors are no tokens.", 0),
        }

    def collect(self) -> Iterable[Metric]:
        """Return every family."""
        for name, (text, count) in self._counts.items():
            yield CounterMetricFamily(name, text, value=count)


class _Page(Collector):
    """One snapshot, as the library wants it."""

    def __init__(self, stats: EngineStats, tuning: Tuning | None) -> None:
        self._stats = stats
        self._tuning = tuning

    def collect(self) -> Iterable[Metric]:
        """Return every family."""
        stats = self._stats
        yield from _plain(stats)
        yield _labelled("requests_finished", "Requests ended.", "reason", stats.requests_finished)
        yield _labelled(
            "cached_tokens", "Prompt tokens that were not read again.", "tier", _by_tier(stats)
        )
        for name, text in _HISTOGRAMS.items():
            yield _histogram(name, text, getattr(stats.distributions, name))
        yield from _llama_cpp(stats)
        if self._tuning is not None:
            yield from _measured(self._tuning)


def _plain(stats: EngineStats) -> Iterator[Metric]:
    for name, text in _COUNTERS.items():
        title = f"edgesmith_{name.removeprefix('num_')}"
        yield CounterMetricFamily(title, text, value=getattr(stats, name))
    for name, text in _GAUGES.items():
        title = f"edgesmith_{name.removeprefix('num_')}"
        yield GaugeMetricFamily(title, text, value=getattr(stats, name))


def _labelled(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"edgesmith_{name}", text, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family


def _by_tier(stats: EngineStats) -> dict[str, int]:
    memory, disk = stats.cached_memory_tokens, stats.cached_disk_tokens
    return {"cells": stats.cached_tokens - memory - disk, "memory": memory, "disk": disk}


def _histogram(name: str, text: str, found: HistogramStats) -> HistogramMetricFamily:
    bounds = [*map(str, found.bounds), "+Inf"]
    buckets = list(zip(bounds, itertools.accumulate(found.counts), strict=True))
    return HistogramMetricFamily(f"edgesmith_{name}", text, buckets=buckets, sum_value=found.total)


def _llama_cpp(stats: EngineStats) -> Iterator[Metric]:
    """Give dashboards made for llama.cpp's server the names they read, in their meaning."""
    num_read = stats.prompt_tokens - stats.cached_tokens
    num_calls = stats.decode_batches + stats.prefill_batches
    seats = stats.decode_rows / stats.decode_batches if stats.decode_batches else 0.0
    counters = {
        "prompt_tokens": ("Prompt tokens of finished requests that were read.", num_read),
        "prompt_tokens_cached": ("And that were not read again.", stats.cached_tokens),
        "prompt_seconds": ("From a seat to the first token.", stats.prompt_seconds),
        "tokens_predicted": ("As edgesmith_completion_tokens.", stats.completion_tokens),
        "tokens_predicted_seconds": ("After the first token.", stats.predicted_seconds),
        "spec_decode_num_drafts": ("Steps of an answer with guesses.", stats.draft_batches),
        "spec_decode_num_draft_tokens": ("As edgesmith_draft_tokens.", stats.draft_tokens),
        "spec_decode_num_accepted_tokens": ("As edgesmith_accepted_tokens.", stats.accepted_tokens),
        "n_decode": ("Calls of llama_decode.", num_calls),
    }
    gauges = {
        "prompt_tokens_seconds": (
            "Prompt tokens read in a second.",
            _rate(num_read, stats.prompt_seconds),
        ),
        "predicted_tokens_seconds": (
            "Tokens of an answer in a second.",
            _rate(stats.completion_tokens, stats.predicted_seconds),
        ),
        "requests_processing": ("As edgesmith_running.", stats.num_running),
        "requests_deferred": ("As edgesmith_waiting.", stats.num_waiting),
        "n_busy_slots_per_decode": ("Sequences advanced by a decode call.", seats),
    }
    for name, (text, count) in counters.items():
        yield CounterMetricFamily(f"llamacpp:{name}", text, value=count)
    for name, (text, value) in gauges.items():
        yield GaugeMetricFamily(f"llamacpp:{name}", text, value=value)


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds else 0.0


def _measured(tuning: Tuning) -> Iterator[Metric]:
    """Show what was measured before the first request."""
    threads = GaugeMetricFamily("edgesmith_threads", "Compute threads.", labels=["rows"])
    threads.add_metric(["one"], tuning.threads)
    threads.add_metric(["several"], tuning.threads_batch)
    yield threads
    for name, text, seconds in (
        ("measured_row_seconds", "A call of so many rows with logits.", tuning.row_seconds),
        ("measured_chunk_seconds", "A call of so many prompt rows.", tuning.chunk_seconds),
    ):
        family = GaugeMetricFamily(f"edgesmith_{name}", text, labels=["rows"])
        for rows, taken in seconds.items():
            family.add_metric([str(rows)], taken)
        yield family
