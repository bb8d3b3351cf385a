"""The worker on a fake model: every token is read once, in order, whatever happens around it."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.engine.errors import DecodeError, EngineClosedError
from serve.engine.request import FinishReason, Priority, SamplingParams

BEGINNINGS = [list(range(1, 41)), list(range(60, 65)), []]

arrivals = st.tuples(
    st.just("submit"),
    st.sampled_from(BEGINNINGS),
    st.lists(st.integers(1, 255), min_size=1, max_size=60),
    st.integers(0, 30),
    st.sampled_from(list(Priority)),
    st.sampled_from([None, None, 1]),
)
actions = st.lists(
    st.one_of(
        arrivals,
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("step"), st.integers(1, 5)),
        st.tuples(st.just("abort"), st.none()),
        st.tuples(st.just("pause"), st.floats(0.1, 5.0)),
    ),
    max_size=40,
)


def act(harness, action):
    kind, *rest = action
    if kind == "submit":
        beginning, ending, max_tokens, priority, prompt_logprobs = rest
        harness.submit(
            beginning + ending,
            max_tokens=max_tokens,
            priority=priority,
            prompt_logprobs=prompt_logprobs,
            context_length=120,
        )
    else:
        harness.act(kind, *rest)


@settings(max_examples=400, deadline=None)
@given(actions, st.sampled_from([150, 400, 10_000]), st.booleans())
def test_every_answer_is_what_the_model_says_alone(make_harness, script, n_cells, can_trim):
    harness = make_harness(n_slots=3, n_batch=32, n_cells=n_cells, can_trim=can_trim)
    for action in script:
        act(harness, action)
    harness.run()
    harness.check_seats()
    assert harness.slots.num_free == 4
    for generation in harness.generations:
        sequence, events = generation.sequence, harness.events(generation)
        finished = harness.finished(events)
        prompt = list(sequence.request.prompt_token_ids)
        expected = harness.expected(prompt, sequence.request.max_tokens, 120)
        tokens = harness.tokens(events)
        assert finished.num_completion_tokens == len(tokens)
        scores = [mark for event in events[:-1] for mark in event.prompt_logprobs]
        if sequence.is_scored and finished.reason is not FinishReason.CANCELLED:
            assert finished.num_cached_tokens == 0
            assert [mark.token_id for mark in scores] == prompt[1:]
        for place, mark in enumerate(scores):
            assert mark.top[0].token_id == harness.model.next_token(prompt[: place + 1])
        if finished.reason is FinishReason.CANCELLED:
            assert tokens == expected[: len(tokens)]
        else:
            assert finished.error is None
            assert tokens == expected


def test_a_scored_prompt_has_no_more_logits_a_batch_than_there_is_memory_for(make_harness):
    harness = make_harness(n_slots=4, n_batch=256)
    others = [harness.submit(range(1, 4 + i), max_tokens=3) for i in range(2)]
    scored = [harness.submit(range(1, 200), max_tokens=0, prompt_logprobs=0) for _ in range(2)]
    harness.run()  # the fake model refuses what is beyond its outputs
    for generation in others:
        assert harness.finished(harness.events(generation)).error is None
    for generation in scored:
        delta, finished = harness.events(generation)
        assert len(delta.prompt_logprobs) == 198
        assert finished.reason is FinishReason.LENGTH


def test_a_scored_prompt_neither_takes_known_cells_nor_leaves_its_own(make_harness):
    harness = make_harness(cache_bytes=10_000)
    first = harness.submit(range(1, 101), max_tokens=4)
    harness.run()
    scored = harness.submit(range(1, 101), max_tokens=0, prompt_logprobs=2)
    harness.run()
    assert harness.finished(harness.events(scored)).num_cached_tokens == 0
    lone = harness.submit(range(120, 200), max_tokens=0, prompt_logprobs=2)
    harness.run()
    again = harness.submit(range(120, 200), max_tokens=0)
    harness.run()
    assert harness.finished(harness.events(lone)).num_cached_tokens == 0
    assert harness.finished(harness.events(again)).num_cached_tokens == 0
    back = harness.submit(range(1, 101), max_tokens=4)
    harness.run()
    events = harness.events(back)
    assert harness.finished(events).num_cached_tokens == 99
    assert harness.tokens(events) == harness.tokens(harness.events(first))
    harness.check_seats()


def test_a_full_pool_sends_the_newest_of_the_lowest_class_back_to_be_read_again(make_harness):
    harness = make_harness(n_cells=100, n_batch=64)
    old = harness.submit(range(1, 41), max_tokens=40, context_length=100)
    harness.step()
    new = harness.submit(range(101, 131), max_tokens=30, context_length=100)
    harness.run()
    assert harness.scheduler.num_preemptions > 0
    for generation, prompt, count in ((old, range(1, 41), 40), (new, range(101, 131), 30)):
        assert harness.tokens(harness.events(generation)) == harness.expected(prompt, count)


def test_idle_prefixes_are_given_up_before_anyone_is_sent_back(make_harness):
    harness = make_harness(n_cells=100)
    harness.submit(range(1, 71), max_tokens=1)
    harness.run()
    harness.submit(range(101, 161), max_tokens=4)
    harness.run()
    assert harness.worker.counters.evictions == 1
    assert harness.scheduler.num_preemptions == 0


def test_a_cancelled_sequence_leaves_within_one_step_and_its_cells_serve_the_next(make_harness):
    harness = make_harness(n_batch=32)
    first = harness.submit(range(1, 100), max_tokens=5)
    harness.step()
    first.cancel()
    harness.step()
    assert harness.finished(harness.events(first)).reason is FinishReason.CANCELLED
    assert harness.slots.num_free == 5
    second = harness.submit(range(1, 100), max_tokens=5)
    harness.run()
    assert harness.finished(harness.events(second)).num_cached_tokens == 32


def test_a_cancelled_waiting_sequence_never_takes_a_seat(make_harness):
    harness = make_harness(n_slots=1)
    harness.submit(range(1, 10), max_tokens=20)
    harness.step()
    waiting = harness.submit(range(30, 50), max_tokens=20)
    harness.step()
    waiting.cancel()
    harness.run()
    finished = harness.finished(harness.events(waiting))
    assert (finished.reason, finished.timings.prompt_seconds) == (FinishReason.CANCELLED, 0)
    assert not any(token_id == 30 for rows in harness.model.batches for *_, token_id in rows)


def test_a_newcomer_of_a_higher_class_aborts_the_running_chunk_and_goes_first(make_harness):
    harness = make_harness()
    slow = harness.submit(range(1, 100), max_tokens=2, priority=Priority.BACKGROUND)
    harness.step()
    arrived = []

    def arrive(rows):
        if not arrived:
            arrived.append(harness.submit([200, 201], max_tokens=2, priority=Priority.FIM))

    harness.model.during_decode = arrive
    before = len(harness.model.batches)
    harness.step()
    assert harness.worker.counters.aborted_chunks == 1
    harness.step()
    assert [token_id for *_, token_id in harness.model.batches[before]] == [200, 201]
    harness.run()
    for generation, prompt in ((slow, range(1, 100)), (arrived[0], [200, 201])):
        assert harness.tokens(harness.events(generation)) == harness.expected(prompt, 2)


def test_a_chunk_that_runs_by_its_age_is_short_and_is_not_aborted(make_harness):
    harness = make_harness(n_batch=64)
    harness.costs.observe_prefill(32, 32 * 0.01)
    harness.submit(range(1, 200), max_tokens=2)
    harness.step()
    harness.model.during_decode = lambda rows: (
        len(harness.generations) < 2 and harness.submit([200], max_tokens=2, priority=Priority.FIM)
    )
    harness.step(seconds=2.1)
    assert harness.worker.counters.aborted_chunks == 0
    first, by_age = (len(rows) for rows in harness.model.batches)
    assert by_age < first


def test_a_newcomer_of_the_same_class_does_not_abort(make_harness):
    harness = make_harness()
    harness.submit(range(1, 100), max_tokens=2)
    harness.step()
    harness.model.during_decode = lambda rows: (
        len(harness.generations) < 2 and harness.submit([200], max_tokens=2)
    )
    harness.run()
    assert harness.worker.counters.aborted_chunks == 0


@pytest.mark.parametrize(("can_trim", "num_left"), [(True, 32 + 16), (False, 0)])
def test_an_aborted_chunk_goes_on_from_what_the_memory_can_keep(make_harness, can_trim, num_left):
    harness = make_harness(n_batch=32, can_trim=can_trim)
    generation = harness.submit(range(1, 100), max_tokens=3)
    harness.step()
    harness.abort_once()
    harness.step()
    assert generation.sequence.num_computed == num_left
    harness.check_seats()
    harness.run()
    assert harness.tokens(harness.events(generation)) == harness.expected(range(1, 100), 3)


def test_cancelling_everyone_in_a_chunk_stops_it(make_harness):
    harness = make_harness()
    generation = harness.submit(range(1, 100), max_tokens=2)
    harness.model.during_decode = lambda rows: generation.cancel()
    harness.step()
    assert harness.worker.counters.aborted_chunks == 1
    harness.step()
    assert harness.finished(harness.events(generation)).reason is FinishReason.CANCELLED


def test_a_token_computed_for_a_cancelled_sequence_is_not_given_out(make_harness):
    harness = make_harness()
    generation = harness.submit(range(1, 10), max_tokens=20)
    harness.step()
    harness.events(generation)
    harness.model.during_decode = lambda rows: generation.cancel()
    harness.step()
    assert harness.events(generation) == []
    harness.step()
    assert [event.reason for event in harness.events(generation)] == [FinishReason.CANCELLED]


def test_a_newcomer_that_arrives_while_streams_decode_goes_before_the_next_chunk(make_harness):
    harness = make_harness()
    harness.submit(range(1, 10), max_tokens=20)
    harness.step()
    harness.submit(range(50, 200), max_tokens=2, priority=Priority.BACKGROUND)
    harness.model.during_decode = lambda rows: (
        len(harness.generations) < 3
        and harness.submit([220, 221], max_tokens=2, priority=Priority.FIM)
    )
    before = len(harness.model.batches)
    harness.step()
    harness.step()
    assert [len(rows) for rows in harness.model.batches[before:]] == [1, 1, 2]


def test_a_sequence_whose_seat_cannot_be_cleared_fails_alone(make_harness):
    harness = make_harness()
    trim, failures = harness.model.trim, ["cannot be cut"]

    def trim_or_fail(seq_id, start):
        if failures:
            raise DecodeError(failures.pop())
        trim(seq_id, start)

    harness.model.trim = trim_or_fail
    ill = harness.submit(range(1, 10), max_tokens=3)
    well = harness.submit(range(50, 60), max_tokens=3)
    harness.run()
    assert harness.finished(harness.events(ill)).error == "cannot be cut"
    assert harness.tokens(harness.events(well)) == harness.expected(range(50, 60), 3)


def test_a_failed_batch_ends_its_sequences_and_nobody_else(make_harness):
    harness = make_harness()
    well = harness.submit(range(1, 10), max_tokens=10)
    harness.step()
    ill = harness.submit(range(50, 60), max_tokens=10)

    def fail(rows):
        if any(token_id == 55 for *_, token_id in rows):
            raise DecodeError("llama_decode returned -3")

    harness.model.during_decode = fail
    harness.run()
    finished = harness.finished(harness.events(ill))
    assert finished.reason is FinishReason.ERROR
    assert "-3" in finished.error
    assert harness.tokens(harness.events(well)) == harness.expected(range(1, 10), 10)
    harness.check_seats()


def test_an_exception_while_choosing_a_token_ends_that_sequence_alone(make_harness):
    harness = make_harness()
    bad = SamplingParams(temperature=0, logit_bias={10**9: 1.0})
    ill = harness.submit([5, 6], sampling=bad, max_tokens=3)
    well = harness.submit([7, 8], max_tokens=3)
    harness.run()
    assert harness.finished(harness.events(ill)).reason is FinishReason.ERROR
    assert harness.tokens(harness.events(well)) == harness.expected([7, 8], 3)


def test_no_tokens_wanted_reads_the_prompt_and_ends_by_length(make_harness):
    harness = make_harness()
    generation = harness.submit(range(1, 20), max_tokens=0)
    harness.run()
    events = harness.events(generation)
    assert len(events) == 1
    assert events[0].reason is FinishReason.LENGTH
    assert len(harness.slots.slots[generation.sequence.seq_id].held_token_ids) in {0, 19}


def test_the_end_of_the_context_is_a_length_finish(make_harness):
    harness = make_harness()
    generation = harness.submit(range(1, 10), context_length=12)
    harness.run()
    finished = harness.finished(harness.events(generation))
    assert finished.num_prompt_tokens + finished.num_completion_tokens <= 12


def test_a_stop_string_ends_the_answer_before_it(make_harness):
    harness = make_harness()
    plain = harness.submit(range(1, 10), max_tokens=12)
    harness.run()
    text = "".join(event.text for event in harness.events(plain)[:-1])
    stopped = harness.submit(range(1, 10), max_tokens=12, stop=(text[4:7],))
    harness.run()
    events = harness.events(stopped)
    assert harness.finished(events).reason is FinishReason.STOP
    assert harness.finished(events).stop_text == text[4:7]
    assert "".join(event.text for event in events[:-1]) == text[: text.index(text[4:7])]


def test_a_reader_that_takes_nothing_is_cancelled_past_its_limit(make_harness):
    harness = make_harness()
    stalled = harness.submit(range(1, 10), max_tokens=500, event_limit=10)
    harness.run()
    events = harness.events(stalled)
    assert harness.finished(events).reason is FinishReason.CANCELLED
    assert len(events) <= 12


def test_events_for_an_event_loop_that_ended_are_dropped(make_harness):
    loop = asyncio.new_event_loop()
    loop.close()
    harness = make_harness()
    harness.submit(range(1, 10), max_tokens=3, loop=loop)
    other = harness.submit(range(1, 10), max_tokens=3)
    harness.run()
    assert harness.finished(harness.events(other)).reason is FinishReason.LENGTH


def test_memory_that_cannot_be_cut_is_reused_only_whole(make_harness):
    harness = make_harness(can_trim=False)
    first = harness.submit(range(1, 10), max_tokens=3)
    harness.run()
    tokens = harness.tokens(harness.events(first))
    history = [*range(1, 10), *tokens]
    same = harness.submit([*history, 40], max_tokens=3)
    harness.run()
    other = harness.submit([*range(1, 8), 99], max_tokens=3)
    harness.run()
    assert harness.finished(harness.events(same)).num_cached_tokens == len(history) - 1
    assert harness.finished(harness.events(other)).num_cached_tokens == 0


def test_a_failure_of_the_worker_itself_ends_every_answer_and_refuses_more(make_harness, caplog):
    harness = make_harness()

    def explode(rows):
        raise MemoryError("no more")

    harness.model.during_decode = explode
    generations = [harness.submit([5, 6], max_tokens=3) for _ in range(3)]
    harness.worker.start(lambda: None)
    harness.worker._thread.join(10)
    for generation in generations:
        finished = harness.finished(harness.events(generation))
        assert finished.reason is FinishReason.ERROR
        assert "no more" in finished.error
    with pytest.raises(EngineClosedError, match="no more"):
        harness.submit([5], max_tokens=3)


def test_closing_while_a_batch_runs_ends_every_answer(make_harness):
    harness = make_harness()
    running, stop = threading.Event(), threading.Event()

    def hang(rows):
        running.set()
        stop.wait(10)

    harness.model.during_decode = hang
    raise_flag = harness.model.abort.raise_
    harness.model.abort.raise_ = lambda: (raise_flag(), stop.set())
    generation = harness.submit(range(1, 10), max_tokens=3)
    harness.worker.start(lambda: None)
    assert running.wait(10)
    harness.worker.close()
    assert harness.finished(harness.events(generation)).reason is FinishReason.ERROR
    assert harness.model.batches == []


def test_the_step_time_is_split_into_decode_and_the_rest(make_harness):
    harness = make_harness()

    def take_time(rows):
        harness.now += 0.5

    harness.model.during_decode = take_time
    harness.submit(range(1, 10), max_tokens=4)
    harness.run()
    counters = harness.worker.counters
    num_batches = counters.decode_batches + counters.prefill_batches
    assert counters.decode_seconds == pytest.approx(0.5 * num_batches)
    assert counters.rest_seconds == pytest.approx(0)


def test_waits_gaps_and_rows_are_counted_where_they_fall(make_harness):
    harness = make_harness()
    for prompt in ([1, 2, 3], [4, 5, 6]):
        harness.submit(prompt, max_tokens=5, ignore_eos=True)
    harness.run()
    spread = harness.worker.counters.spread.snapshot()
    assert sum(spread.queue_seconds.counts) == sum(spread.first_token_seconds.counts) == 2
    assert sum(spread.token_seconds.counts) == 2 * 4
    assert spread.token_seconds.total == pytest.approx(2 * 4 * 0.01)
    assert spread.prefill_rows.total == 6
    assert spread.decode_rows.total == harness.worker.counters.decode_rows


def test_who_asks_is_told_how_far_the_prompt_is_read(make_harness):
    harness = make_harness(n_batch=32)
    harness.submit(range(1, 41), max_tokens=1)
    harness.run()
    generation = harness.submit(range(1, 101), max_tokens=3, reports_progress=True)
    harness.run()
    *events, finished = harness.events(generation)
    silent = [event.progress for event in events if event.is_silent]
    assert [each.num_prompt_tokens for each in silent] == [100] * len(silent)
    assert silent[0].num_read_tokens == silent[0].timings.prompt_seconds == 0
    assert silent[0].num_cached_tokens == finished.num_cached_tokens == 40
    counts = [each.num_read_tokens for each in silent]
    assert counts == sorted(set(counts))
    assert counts[-1] == 60
    spoken = [event.progress for event in events if not event.is_silent]
    assert [each.num_completion_tokens for each in spoken] == [1, 2, 3][: len(spoken)]


def test_nobody_is_told_without_asking(make_harness):
    harness = make_harness()
    generation = harness.submit(range(1, 101), max_tokens=3)
    harness.run()
    assert all(event.progress is None for event in harness.events(generation)[:-1])


def test_a_prompt_that_is_to_be_read_anew_is_and_its_cells_serve_others(make_harness):
    harness = make_harness()
    prompt = list(range(1, 41))
    answers = []
    for from_cache in (True, False, True):
        generation = harness.submit(prompt, max_tokens=2, from_cache=from_cache)
        harness.run()
        answers.append(harness.events(generation))
    cached = [harness.finished(events).num_cached_tokens for events in answers]
    assert cached[0] == cached[1] == 0
    assert cached[2] > 30
    assert len({tuple(harness.tokens(events)) for events in answers}) == 1
