"""Drafts in the worker: they change how soon a token comes, never which one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.engine.batch import MAX_DRAFT_ROWS
from serve.engine.request import FinishReason, Priority, SamplingParams

CONTEXT_LENGTH = 120
PROMPTS = [[1, 2, 3, 4, 5] * 6, list(range(60, 65)), list(range(100, 140))]

arrivals = st.tuples(
    st.just("submit"),
    st.sampled_from(PROMPTS),
    st.lists(st.integers(1, 255), max_size=10),
    st.integers(0, 60),
    st.sampled_from(list(Priority)),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=4),  # wrong guesses
)
actions = st.lists(
    st.one_of(
        arrivals,
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("step"), st.integers(1, 5)),
        st.tuples(st.just("abort"), st.none()),
        st.tuples(st.just("slow"), st.floats(0.001, 1.0)),
    ),
    max_size=30,
)


def nearly(token_ids, edits):
    """Return a guess at an answer that is wrong at some places."""
    guess = list(token_ids)
    for at, token_id in edits:
        if at < len(guess):
            guess[at] = token_id
    return guess


def take_seconds(harness, seconds_per_row, seconds_per_call=0.0):
    def during_decode(rows):
        harness.now += seconds_per_call + seconds_per_row * len(rows)

    harness.model.during_decode = during_decode


def act(harness, action):
    kind, *rest = action
    if kind == "submit":
        beginning, ending, max_tokens, priority, edits = rest
        prompt = beginning + ending
        expected = harness.expected(prompt, max_tokens, CONTEXT_LENGTH)
        harness.submit(
            prompt,
            max_tokens=max_tokens,
            priority=priority,
            context_length=CONTEXT_LENGTH,
            prediction_token_ids=nearly(expected, edits),
        )
    elif kind == "slow":
        take_seconds(harness, *rest)
    else:
        harness.act(kind, *rest)


@settings(max_examples=300, deadline=None)
@given(actions, st.sampled_from([150, 400, 10_000]), st.booleans())
def test_drafted_answers_are_what_the_model_says_alone(make_harness, script, n_cells, repeats):
    harness = make_harness(
        n_slots=3, n_batch=32, n_cells=n_cells, drafts=True, repeats_itself=repeats
    )
    for action in script:
        act(harness, action)
    harness.run()
    harness.check_seats()
    assert harness.slots.num_free == 4
    for generation in harness.generations:
        request, events = generation.sequence.request, harness.events(generation)
        finished = harness.finished(events)
        expected = harness.expected(request.prompt_token_ids, request.max_tokens, CONTEXT_LENGTH)
        tokens = harness.tokens(events)
        assert finished.num_completion_tokens == len(tokens)
        assert finished.num_accepted_tokens <= min(finished.num_draft_tokens, len(tokens))
        if finished.reason is FinishReason.CANCELLED:
            assert tokens == expected[: len(tokens)]
        else:
            assert finished.error is None
            assert tokens == expected


def test_a_right_prediction_takes_a_fraction_of_the_steps(make_harness):
    harness = make_harness(drafts=True)
    prompt = list(range(1, 30))
    expected = harness.expected(prompt, 60)
    generation = harness.submit(prompt, max_tokens=60, prediction_token_ids=expected)
    harness.run()
    events = harness.events(generation)
    finished = harness.finished(events)
    assert harness.tokens(events) == expected
    assert harness.worker.counters.decode_batches <= 6
    assert finished.num_predicted_tokens == 60
    assert finished.num_unpredicted_tokens == 0
    assert finished.num_accepted_tokens == harness.worker.counters.accepted_tokens > 50


def test_text_that_repeats_is_drafted_without_a_prediction(make_harness):
    harness = make_harness(drafts=True, repeats_itself=True)
    generation = harness.submit([1, 2, 3, 4, 5] * 4, max_tokens=60)
    harness.run()
    finished = harness.finished(harness.events(generation))
    assert finished.num_accepted_tokens > 20
    assert finished.num_predicted_tokens == finished.num_unpredicted_tokens == 0


def test_a_wrong_prediction_is_soon_left_alone(make_harness):
    harness = make_harness(drafts=True)
    take_seconds(harness, 0.01)  # a row costs as much as any other: drafts must all be right
    generation = harness.submit(range(1, 30), max_tokens=100, prediction_token_ids=[7, 8, 9] * 40)
    harness.run()
    finished = harness.finished(harness.events(generation))
    assert finished.num_draft_tokens <= 3
    assert finished.num_unpredicted_tokens > 100


def test_memory_that_cannot_hold_a_draft_goes_on_without(make_harness):
    harness = make_harness(drafts=True, n_cells=60)
    prompt = list(range(1, 41))
    expected = harness.expected(prompt, 20)
    generation = harness.submit(
        prompt, max_tokens=20, context_length=60, prediction_token_ids=expected * 4
    )
    harness.run()
    assert harness.tokens(harness.events(generation)) == expected
    assert harness.scheduler.num_preemptions == 0


@pytest.mark.parametrize("stop", ["def", "zz"])
def test_a_stop_string_inside_a_draft_ends_where_it_would_without(make_harness, stop):
    texts = []
    for drafts in (False, True):
        harness = make_harness(drafts=drafts, repeats_itself=True)
        generation = harness.submit([1, 2, 3, 4, 5] * 4, max_tokens=60, stop=(stop,))
        harness.run()
        events = harness.events(generation)
        texts.append(
            (
                "".join(event.text for event in events[:-1]),
                harness.tokens(events),
                harness.finished(events).stop_text,
            )
        )
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 0, "frequency_penalty": 1.5},
        {"temperature": 0, "repeat_penalty": 4.0, "repeat_last_n": 5},
        {"temperature": 0, "logit_bias": {3: -100.0}, "logprobs": 3},
        {"temperature": 8.0, "seed": 11, "logprobs": 2},
        {"temperature": 8.0, "seed": 12, "presence_penalty": 2.0},
    ],
)
def test_sampling_parameters_mean_the_same_with_drafts(make_harness, params):
    answers = []
    for drafts in (False, True):
        harness = make_harness(drafts=drafts, repeats_itself=True)
        generation = harness.submit(
            [1, 2, 3, 4, 5] * 4,
            max_tokens=80,
            ignore_eos=True,
            sampling=SamplingParams(**params),
            prediction_token_ids=[1, 2, 3, 4, 5] * 10,
        )
        harness.run()
        events = harness.events(generation)
        logprobs = [each for event in events[:-1] for each in event.logprobs]
        answers.append((harness.tokens(events), logprobs))
    assert harness.worker.counters.draft_tokens > 0
    assert answers[0] == answers[1]


def test_while_an_editor_waits_only_its_completion_is_drafted(make_harness):
    harness = make_harness(drafts=True)
    asks = [(list(range(1, 30)), Priority.INTERACTIVE), (list(range(50, 70)), Priority.FIM)]
    for prompt, priority in asks:
        expected = harness.expected(prompt, 40)
        harness.submit(prompt, max_tokens=40, priority=priority, prediction_token_ids=expected)
    slow, urgent = harness.generations
    while urgent.status != "finished":
        harness.step()
    assert urgent.sequence.num_draft_tokens > 0
    assert slow.sequence.num_draft_tokens == 0
    harness.run()
    assert slow.sequence.num_draft_tokens > 0


def test_beside_a_stream_that_cannot_draft_a_call_is_at_most_twice_as_long(make_harness):
    harness = make_harness(drafts=True)
    take_seconds(harness, 0.001, 0.008)  # 10 ms for both
    for prompt, is_known in ((list(range(1, 30)), True), (list(range(50, 70)), False)):
        expected = harness.expected(prompt, 40)
        harness.submit(prompt, max_tokens=40, drafts=is_known, prediction_token_ids=expected)
    while any(generation.status != "decode" for generation in harness.generations):
        harness.step()
    num_before = len(harness.model.batches)
    harness.run()
    shared = [rows for rows in harness.model.batches[num_before:] if {0, 1} == {r[0] for r in rows}]
    assert harness.worker.counters.accepted_tokens > 20
    assert max(map(len, shared)) <= 12


def test_where_a_row_alone_takes_long_drafts_are_shorter_and_not_left_out(make_harness):
    harness = make_harness(drafts=True)
    take_seconds(harness, 0.05, 0.4)
    prompt = list(range(1, 30))
    expected = harness.expected(prompt, 60)
    harness.submit(prompt, max_tokens=60, prediction_token_ids=expected)
    harness.run()
    assert harness.worker.counters.accepted_tokens > 30
    longest = max(map(len, harness.model.batches[2:]))
    assert 0.4 + 0.05 * longest <= 4 * 0.45


def test_no_batch_is_longer_than_the_library_takes(make_harness):
    harness = make_harness(n_slots=6, n_batch=16, drafts=True)
    for first in range(1, 7):
        prompt = [first, 2, 3]
        harness.submit(prompt, max_tokens=50, prediction_token_ids=harness.expected(prompt, 50))
    harness.run()
    assert harness.worker.counters.accepted_tokens > 100
    assert harness.model.n_outputs_max == 7 + MAX_DRAFT_ROWS


def test_a_request_can_go_without(make_harness):
    harness = make_harness(drafts=True)
    prompt = [1, 2, 3]
    expected = harness.expected(prompt, 30)
    harness.submit(prompt, max_tokens=30, drafts=False, prediction_token_ids=expected)
    harness.run()
    assert harness.worker.counters.draft_tokens == 0
