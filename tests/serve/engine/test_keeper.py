"""Cells to the cache and back, on the fake model: answers stay those of a fresh engine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.engine.errors import DecodeError
from serve.engine.keeper import KEYSTROKE_TOKENS
from serve.engine.prefix import Tier, common_prefix_length
from serve.engine.request import FinishReason, Priority

PLENTY = 100_000
TEXT = list(range(1, 121))
OTHER = list(range(130, 230))
BEGINNINGS = [TEXT[:80], OTHER[:50], TEXT[:40] + OTHER[:40], []]

arrivals = st.tuples(
    st.just("submit"),
    st.sampled_from(BEGINNINGS),
    st.lists(st.integers(1, 255), min_size=1, max_size=30),
    st.integers(0, 20),
    st.sampled_from(list(Priority)),
    st.sampled_from(["", "anna"]),
)
actions = st.lists(
    st.one_of(
        arrivals,
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("step"), st.integers(1, 6)),
        st.tuples(st.just("pause"), st.floats(0.5, 50.0)),
        st.tuples(st.just("purge")),
        st.tuples(st.just("abort"), st.none()),
    ),
    max_size=40,
)


def act(harness, action):
    kind, *rest = action
    if kind == "submit":
        beginning, ending, max_tokens, priority, scope = rest
        harness.submit(
            beginning + ending,
            max_tokens=max_tokens,
            priority=priority,
            cache_scope=scope,
            context_length=140,
        )
    elif kind == "purge":
        harness.worker.purge()
        harness.step()
    else:
        harness.act(kind, *rest)


def rest_long_enough(harness):
    """Let everything idle be demoted, a prefix a step."""
    harness.now += 2.0
    for _ in harness.slots.slots:
        harness.step()
        harness.check_seats()


def answer(harness, prompt, **fields):
    fields.setdefault("max_tokens", 4)
    generation = harness.submit(prompt, **fields)
    harness.run()
    events = harness.events(generation)
    assert harness.tokens(events) == harness.expected(prompt, fields["max_tokens"])
    return harness.finished(events), generation.sequence.cached_tier


@settings(max_examples=400, deadline=None)
@given(
    actions,
    st.sampled_from([150, 400, PLENTY]),
    st.sampled_from([400, 1500, PLENTY]),
    st.sampled_from([(True, True), (True, False), (False, False)]),
)
def test_every_answer_is_what_a_fresh_engine_says(make_harness, script, n_cells, size, trims):
    can_trim, can_trim_restored = trims
    harness = make_harness(
        n_slots=2,
        n_batch=32,
        n_cells=n_cells,
        cache_bytes=size,
        can_trim=can_trim,
        can_trim_restored=can_trim_restored,
    )
    for action in script:
        act(harness, action)
    harness.run()
    rest_long_enough(harness)
    assert harness.slots.num_free == 3
    for generation in harness.generations:
        check_answer(harness, generation)
        check_scope(harness, generation.sequence)


def check_answer(harness, generation):
    sequence, events = generation.sequence, harness.events(generation)
    prompt = list(sequence.request.prompt_token_ids)
    expected = harness.expected(prompt, sequence.request.max_tokens, 140)
    tokens, finished = harness.tokens(events), harness.finished(events)
    if finished.reason is FinishReason.CANCELLED:
        expected = expected[: len(tokens)]
    assert finished.error is None
    assert tokens == expected


def check_scope(harness, sequence):
    """Whatever was not read again was read before by somebody of the same scope."""
    others = (
        each.sequence.token_ids
        for each in harness.generations
        if each.sequence.request.cache_scope == sequence.request.cache_scope
        and each.sequence is not sequence
    )
    known = max((common_prefix_length(ids, sequence.token_ids) for ids in others), default=0)
    assert sequence.num_cached_tokens <= known


def test_an_idle_prefix_leaves_the_cells_after_its_time_and_comes_back(make_harness):
    harness = make_harness(cache_bytes=PLENTY)
    answer(harness, TEXT)
    harness.step(seconds=1.0)
    assert sum(map(len, harness.model.cells.values())) > 0
    rest_long_enough(harness)
    assert sum(map(len, harness.model.cells.values())) == 0
    assert harness.cache.num_bytes == 8 * 123
    finished, tier = answer(harness, TEXT)
    assert (finished.num_cached_tokens, tier) == (119, Tier.MEMORY)
    counters = harness.worker.counters
    assert (counters.cached_tokens, counters.cached_memory_tokens) == (119, 119)


def test_a_restored_state_is_cut_to_what_is_shared(make_harness):
    harness = make_harness(cache_bytes=PLENTY)
    answer(harness, TEXT)
    rest_long_enough(harness)
    finished, tier = answer(harness, [*TEXT[:70], 250, 251])
    assert (finished.num_cached_tokens, tier) == (70, Tier.MEMORY)


def test_cells_that_are_still_there_are_preferred(make_harness):
    harness = make_harness(cache_bytes=PLENTY)
    answer(harness, TEXT)
    rest_long_enough(harness)
    answer(harness, TEXT)
    finished, tier = answer(harness, TEXT)
    assert (finished.num_cached_tokens, tier) == (119, Tier.RESIDENT)


def test_what_a_newcomer_displaces_is_kept(make_harness):
    harness = make_harness(n_slots=1, fim_slots=0, cache_bytes=PLENTY)
    answer(harness, TEXT)
    answer(harness, OTHER)
    finished, tier = answer(harness, TEXT)
    assert (finished.num_cached_tokens, tier) == (119, Tier.MEMORY)


def test_cells_evicted_for_room_are_kept(make_harness):
    harness = make_harness(n_cells=150, cache_bytes=PLENTY)
    answer(harness, TEXT)
    answer(harness, OTHER)
    assert harness.worker.counters.evictions == 1
    finished, tier = answer(harness, TEXT)
    assert (finished.num_cached_tokens, tier) == (119, Tier.MEMORY)


def test_a_sequence_sent_back_for_want_of_cells_does_not_read_again(make_harness):
    harness = make_harness(n_cells=150, n_batch=64, cache_bytes=PLENTY)
    old = harness.submit(TEXT[:60], max_tokens=60, context_length=150)
    harness.step()
    new = harness.submit(OTHER[:60], max_tokens=30, context_length=150)
    harness.run()
    assert harness.scheduler.num_preemptions == 1
    assert harness.worker.counters.prefill_rows < 60 + 60 + 10
    for generation, prompt, count in ((old, TEXT[:60], 60), (new, OTHER[:60], 30)):
        assert harness.tokens(harness.events(generation)) == harness.expected(prompt, count)


def test_a_state_that_finds_no_cells_is_read_instead(make_harness):
    harness = make_harness(cache_bytes=PLENTY)
    answer(harness, TEXT)
    rest_long_enough(harness)
    harness.model.restore = lambda seq_id, state: False
    finished, tier = answer(harness, TEXT)
    assert (finished.num_cached_tokens, tier) == (0, Tier.RESIDENT)
    harness.check_seats()


def test_restoring_may_cost_idle_cells_which_are_kept(make_harness):
    harness = make_harness(n_cells=200, cache_bytes=PLENTY)
    answer(harness, TEXT)
    rest_long_enough(harness)
    answer(harness, OTHER)
    assert answer(harness, TEXT)[1] is Tier.MEMORY
    assert answer(harness, OTHER)[1] is Tier.MEMORY


def test_memory_that_cannot_be_cut_is_restored_whole_or_not_at_all(make_harness):
    harness = make_harness(cache_bytes=PLENTY, can_trim=False)
    answer(harness, TEXT)
    rest_long_enough(harness)
    assert answer(harness, TEXT[:100])[0].num_cached_tokens == 0
    rest_long_enough(harness)
    history = TEXT + harness.expected(TEXT, 4)
    finished, tier = answer(harness, [*history, 7])
    assert (finished.num_cached_tokens, tier) == (len(history) - 1, Tier.MEMORY)


def test_restored_cells_behind_a_window_are_not_cut_but_built_upon(make_harness):
    harness = make_harness(n_slots=0, cache_bytes=PLENTY, can_trim_restored=False)
    answer(harness, TEXT, priority=Priority.FIM)
    answer(harness, OTHER, priority=Priority.FIM)
    history = TEXT + harness.expected(TEXT, 4)
    assert answer(harness, [*history, 7], priority=Priority.FIM)[1] is Tier.MEMORY
    cached = [
        answer(harness, prompt, priority=Priority.FIM)[0].num_cached_tokens
        for prompt in ([*history, 9], [*TEXT[:100], 7])
    ]
    assert cached == [len(history), 0]


def test_cells_shared_from_a_restored_sequence_are_not_cut_either(make_harness):
    harness = make_harness(n_slots=2, cache_bytes=PLENTY, can_trim_restored=False)
    answer(harness, TEXT)
    rest_long_enough(harness)
    harness.keeper.evict_idle(harness.now)
    history = TEXT + harness.expected(TEXT, 4)
    running = harness.submit([*history, 7], max_tokens=50)
    harness.step()
    assert running.sequence.cached_tier is Tier.MEMORY
    sharing = harness.submit([*history, 9], max_tokens=1)
    harness.step()
    assert sharing.sequence.num_cached_tokens == len(history)
    harness.step()
    cut = harness.submit([*TEXT[:110], 7], max_tokens=1)
    harness.run()
    assert cut.sequence.num_cached_tokens == 0


def test_a_seat_whose_restoring_failed_can_be_cut_again(make_harness):
    harness = make_harness(n_slots=0, cache_bytes=PLENTY, can_trim_restored=False)
    answer(harness, TEXT, priority=Priority.FIM)
    answer(harness, OTHER, priority=Priority.FIM)
    harness.model.restore = lambda seq_id, state: False
    history = TEXT + harness.expected(TEXT, 4)
    assert answer(harness, [*history, 7], priority=Priority.FIM)[0].num_cached_tokens == 0
    prompt = [*TEXT[:100], 7]
    assert answer(harness, prompt, priority=Priority.FIM)[0].num_cached_tokens == 100


def test_cells_that_restoring_evicts_are_promised_to_nobody(make_harness):
    harness = make_harness(n_cells=200, cache_bytes=PLENTY)
    answer(harness, TEXT)
    rest_long_enough(harness)
    answer(harness, OTHER)
    first = harness.submit(TEXT, max_tokens=4)
    second = harness.submit([*OTHER[:30], 7], max_tokens=4)
    harness.run()
    for generation, prompt in ((first, TEXT), (second, [*OTHER[:30], 7])):
        assert harness.tokens(harness.events(generation)) == harness.expected(prompt, 4)


def test_cells_that_could_be_cut_only_while_they_stay_do_stay(make_harness):
    harness = make_harness(cache_bytes=PLENTY, can_trim_restored=False)
    answer(harness, TEXT)
    rest_long_enough(harness)
    assert len(harness.cache.prefixes) == 1
    finished, tier = answer(harness, [*TEXT[:100], 7])
    assert (finished.num_cached_tokens, tier) == (100, Tier.RESIDENT)


def test_with_the_cache_off_idle_prefixes_stay_in_their_cells(make_harness):
    harness = make_harness()
    answer(harness, TEXT)
    rest_long_enough(harness)
    assert harness.keeper.seconds_to_next(harness.now) is None
    finished, tier = answer(harness, TEXT)
    assert (finished.num_cached_tokens, tier) == (119, Tier.RESIDENT)


def test_what_the_cache_does_not_take_stays_and_is_not_tried_again(make_harness):
    harness = make_harness(cache_bytes=100)
    answer(harness, TEXT)
    rest_long_enough(harness)
    assert harness.keeper.seconds_to_next(harness.now) is None
    assert answer(harness, TEXT)[0].num_cached_tokens == 119


def test_an_idle_worker_sleeps_until_the_next_prefix_is_due(make_harness):
    harness = make_harness(cache_bytes=PLENTY)
    assert harness.keeper.seconds_to_next(harness.now) is None
    answer(harness, TEXT)
    assert harness.keeper.seconds_to_next(harness.now) == pytest.approx(2.0)
    assert harness.keeper.seconds_to_next(harness.now + 5) == 0.0


@pytest.mark.parametrize("error", [DecodeError("0 of 5 bytes"), MemoryError("0 of 5 bytes")])
def test_a_state_that_cannot_be_saved_is_only_lost(make_harness, caplog, error):
    harness = make_harness(n_slots=1, fim_slots=0, cache_bytes=PLENTY)

    def fail(seq_id):
        raise error

    harness.model.save = fail
    answer(harness, TEXT)
    answer(harness, OTHER)
    assert "0 of 5 bytes" in caplog.text


def test_a_keystroke_does_not_wait_for_a_long_prefix_to_be_saved(make_harness):
    harness = make_harness(n_slots=0, fim_slots=1, cache_bytes=PLENTY)
    long = [1 + i % 250 for i in range(KEYSTROKE_TOKENS + 1)]
    harness.submit(long, priority=Priority.FIM, max_tokens=1, context_length=2 * len(long))
    harness.run()
    answer(harness, OTHER, priority=Priority.FIM)
    assert not harness.cache.prefixes
    answer(harness, TEXT, priority=Priority.FIM)
    assert [each.token_ids[0] for each in harness.cache.prefixes] == [OTHER[0]]


def test_saved_bytes_are_those_of_the_held_tokens(make_harness):
    harness = make_harness(cache_bytes=PLENTY)
    answer(harness, TEXT)
    rest_long_enough(harness)
    (prefix,) = harness.cache.prefixes
    assert prefix.state.view(np.uint16)[::4].tolist() == prefix.token_ids


def test_books_that_disagree_with_the_cells_are_forgotten_when_idle(make_harness, caplog):
    harness = make_harness(cache_bytes=PLENTY)
    harness.submit(TEXT, max_tokens=1)
    harness.run()
    [seat] = [slot for slot in harness.slots.slots if slot.is_idle]
    harness.model.cells[seat.seq_id].pop()
    harness.step()
    assert not seat.is_idle
    assert harness.model.end_position(seat.seq_id) == 0
    assert "cells for" in caplog.text


def test_a_cache_that_miscounts_is_emptied_when_idle(make_harness, caplog):
    harness = make_harness(cache_bytes=PLENTY)
    harness.submit(TEXT, max_tokens=1)
    harness.run()
    harness.step(10.0)
    assert harness.cache.prefixes
    harness.cache.num_bytes += 1
    harness.step()
    assert not harness.cache.prefixes
    assert harness.cache.what_is_wrong() is None
    assert "the prefix cache is emptied" in caplog.text
