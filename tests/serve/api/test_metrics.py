"""The page parses as Prometheus text, and its figures are those of the engine."""

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from serve.api.metrics import render
from serve.engine.stats import EngineStats, Spread
from serve.engine.tuning import Tuning

TUNING = Tuning(
    threads=2,
    threads_batch=4,
    row_seconds={1: 0.01, 4: 0.02},
    chunk_seconds={32: 0.1},
    tried={},
    measuring_seconds=1.0,
    cpu_share=1.0,
)


def page(tuning=None, spread=None, **figures):
    """Return every sample as {name{label="value"}: number}."""
    zeros = dict.fromkeys(EngineStats.__struct_fields__, 0) | {"slots": (), "requests_finished": {}}
    zeros["distributions"] = (spread or Spread()).snapshot()
    samples = {}
    for family in text_string_to_metric_families(render(EngineStats(**zeros | figures), tuning)):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


def test_decode_calls_and_their_sequences_have_llama_cpps_names():
    figures = page(decode_batches=4, decode_rows=10, prefill_batches=3)
    assert figures["llamacpp:n_decode_total"] == 7
    assert figures["llamacpp:n_busy_slots_per_decode"] == 2.5


def test_llama_cpps_names_have_llama_cpps_meaning():
    figures = page(
        prompt_tokens=100,
        cached_tokens=60,
        prompt_seconds=4.0,
        completion_tokens=30,
        predicted_seconds=2.0,
        draft_batches=5,
        draft_tokens=15,
        accepted_tokens=9,
    )
    assert figures["edgesmith_prompt_tokens_total"] == 100
    assert figures["llamacpp:prompt_tokens_total"] == 40
    assert figures["llamacpp:prompt_tokens_cached_total"] == 60
    assert figures["llamacpp:prompt_tokens_seconds"] == 10
    assert figures["llamacpp:tokens_predicted_seconds_total"] == 2
    assert figures["llamacpp:predicted_tokens_seconds"] == 15
    assert figures["llamacpp:spec_decode_num_drafts_total"] == 5
    assert figures["llamacpp:spec_decode_num_draft_tokens_total"] == 15
    assert figures["llamacpp:spec_decode_num_accepted_tokens_total"] == 9


def test_before_the_first_request_every_figure_is_zero():
    assert set(page().values()) == {0.0}


def test_cache_hits_are_told_by_tier():
    figures = page(cached_tokens=100, cached_memory_tokens=30, cached_disk_tokens=5)
    tiers = {"cells": 65, "memory": 30, "disk": 5}
    for tier, count in tiers.items():
        assert figures[f"edgesmith_cached_tokens_total{{tier={tier}}}"] == count


def test_reasons_of_ends_are_labels():
    figures = page(requests_finished={"stop": 3, "cancelled": 1})
    assert figures["edgesmith_requests_finished_total{reason=stop}"] == 3
    assert figures["edgesmith_requests_finished_total{reason=cancelled}"] == 1


def test_a_histogram_is_cumulative_and_knows_sum_and_count():
    spread = Spread()
    for seconds in (0.0005, 0.001, 0.3, 120.0):
        spread.first_token_seconds.observe(seconds)
    spread.decode_rows.observe(4, times=2)
    figures = page(spread=spread)
    buckets = {0.001: 2, 0.2: 2, 0.5: 3, 60.0: 3, "+Inf": 4}
    for bound, count in buckets.items():
        assert figures[f"edgesmith_first_token_seconds_bucket{{le={bound}}}"] == count
    assert figures["edgesmith_first_token_seconds_count"] == 4
    assert figures["edgesmith_first_token_seconds_sum"] == 120.3015
    assert figures["edgesmith_decode_rows_sum"] == 8


def test_what_was_measured_here_is_shown_only_where_it_was():
    figures = page(TUNING)
    assert figures["edgesmith_threads{rows=one}"] == 2
    assert figures["edgesmith_threads{rows=several}"] == 4
    assert figures["edgesmith_measured_row_seconds{rows=4}"] == 0.02
    assert not [name for name in page() if "measured" in name]


def test_every_plain_figure_of_the_engine_is_on_the_page():
    names = set(EngineStats.__struct_fields__) - {"slots", "requests_finished", "distributions"}
    figures = {name: 1000 + number for number, name in enumerate(sorted(names))}
    shown = set(page(**figures).values())
    derived = {"cached_tokens", "decode_rows", "prefill_rows", "seated_seconds"}
    derived |= {"seconds_per_prompt_row"}
    assert {name for name in names - derived if figures[name] not in shown} == set()


def test_figures_of_the_distributions_are_plain_data():
    assert msgspec.to_builtins(Spread().snapshot())["decode_rows"]["total"] == 0.0
