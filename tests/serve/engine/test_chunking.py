"""Chunks follow the measured cost of rows."""

from __future__ import annotations

import pytest

from serve.engine.chunking import FIRST_CHUNK, MIN_CHUNK, SHARED_SECONDS, SOLO_SECONDS, RowCosts


def costs_of(seconds_per_row, decode_seconds=0.0):
    costs = RowCosts()
    costs.observe_prefill(100, 100 * seconds_per_row)
    if decode_seconds:
        costs.observe_decode(decode_seconds)
    return costs


def test_before_anything_is_measured_a_small_chunk_is_tried():
    assert RowCosts().chunk_rows(others_wait=True, limit=512) == FIRST_CHUNK


@pytest.mark.parametrize("seconds_per_row", [0.004, 0.011, 0.018])
def test_a_chunk_takes_as_long_as_the_one_who_waits_may_bear(seconds_per_row):
    costs = costs_of(seconds_per_row, decode_seconds=0.1)
    solo = costs.chunk_rows(others_wait=False, limit=4096) * seconds_per_row
    shared = costs.chunk_rows(others_wait=True, limit=4096) * seconds_per_row
    assert SOLO_SECONDS - 4 * seconds_per_row < solo <= SOLO_SECONDS
    bound = max(SHARED_SECONDS - 0.1, MIN_CHUNK * seconds_per_row)
    assert bound - 4 * seconds_per_row < shared <= bound


def test_chunks_stay_within_the_batch_and_above_the_least():
    assert costs_of(1e-6).chunk_rows(others_wait=False, limit=100) == 100
    assert costs_of(5.0).chunk_rows(others_wait=True, limit=100) == MIN_CHUNK


def test_a_short_chunk_says_nothing_about_long_ones():
    costs = costs_of(0.01)
    costs.observe_prefill(3, 3.0)
    assert costs.seconds_per_row == pytest.approx(0.01)


def test_measurements_are_followed():
    costs = costs_of(0.01)
    for _ in range(30):
        costs.observe_prefill(64, 64 * 0.05)
    assert costs.seconds_per_row == pytest.approx(0.05, rel=0.01)
