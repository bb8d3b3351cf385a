"""Turns: who computes when the sequences want different adapters."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.engine.chunking import SHARED_SECONDS, RowCosts
from serve.engine.request import FinishReason, GenerationRequest, Priority
from serve.engine.scheduler import Limits, Scheduler
from serve.engine.sequence import Sequence, Status
from serve.engine.slots import SlotTable

AGING = 2.0
STEP = 0.02
BASE, ODD, HALF = (), ((0, 1.0),), ((0, 0.5),)


def make_scheduler(n_slots=6):
    costs = RowCosts()
    costs.observe_prefill(32, 0.32)
    limits = Limits(max_rows=64, n_cells=100_000, num_general=n_slots, aging_seconds=AGING)
    return Scheduler(SlotTable(n_slots), costs, limits)


def add(scheduler, mix, *, num_tokens=8, priority=Priority.INTERACTIVE, now=0.0):
    request = GenerationRequest(
        prompt_token_ids=list(range(num_tokens)),
        priority=priority,
        adapters=mix,
        cache_scope=str(mix),
    )
    sequence = Sequence(request, context_length=10_000, now=now)
    scheduler.add(sequence)
    return sequence


def step(scheduler, now):
    plan = scheduler.plan(now)
    spans = plan.decode + plan.prefill
    for span in spans:
        scheduler.mark_computed(span, now)
        if span.wants_logits:
            span.sequence.append(7)
            span.sequence.status = Status.DECODE
    mixes = {span.sequence.request.adapters for span in spans}
    assert len(mixes) == 1  # one decode call computes with one mix
    return mixes.pop()


def mixes_of(scheduler, num_steps, now=0.0):
    return [step(scheduler, now + index * STEP) for index in range(num_steps)]


def num_switches(mixes):
    return sum(left != right for left, right in itertools.pairwise(mixes))


def test_two_mixes_share_the_time_in_turns_of_several_steps():
    scheduler = make_scheduler()
    for mix in (BASE, ODD):
        add(scheduler, mix)
    steps = mixes_of(scheduler, 400)
    assert steps.count(BASE) == pytest.approx(200, abs=20)
    assert num_switches(steps) <= 400 * STEP / SHARED_SECONDS + 1


def test_many_mixes_wait_no_longer_for_their_turn_than_two():
    scheduler = make_scheduler()
    mixes = [((0, scale),) for scale in (0.25, 0.5, 0.75, 1.0)]
    for mix in mixes:
        add(scheduler, mix)
    steps = mixes_of(scheduler, 400)
    for mix in mixes:
        times = [index * STEP for index, each in enumerate(steps) if each == mix]
        waits = [after - before for before, after in itertools.pairwise(times)]
        assert max(waits) < SHARED_SECONDS + 4 * STEP


def test_a_keystroke_takes_the_turn_at_once():
    scheduler = make_scheduler()
    add(scheduler, BASE)
    mixes_of(scheduler, 3)
    fim = add(scheduler, ODD, priority=Priority.FIM, now=0.06)
    assert step(scheduler, 0.06) == ODD
    scheduler.finish(fim, FinishReason.STOP, 0.07)
    assert step(scheduler, 0.08) == BASE


def test_a_flood_of_keystrokes_leaves_a_stream_of_another_mix_whole_turns():
    scheduler = make_scheduler()
    add(scheduler, BASE)
    steps = []
    for number in range(150):
        if number % 50 == 0:
            add(scheduler, ODD, priority=Priority.FIM, now=number * STEP)
        steps.append(step(scheduler, number * STEP))
    assert ODD in steps
    first = steps.index(BASE)
    assert first * STEP <= AGING + SHARED_SECONDS + STEP
    turn = steps[first : first + int(SHARED_SECONDS / STEP)]
    assert set(turn) == {BASE}


wanted = st.tuples(
    st.sampled_from([BASE, ODD, HALF]),
    st.sampled_from(list(Priority)),
    st.integers(1, 60),
    st.integers(0, 60),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(wanted, min_size=1, max_size=6))
def test_nobody_starves_and_no_call_mixes_adapters(asked):
    scheduler = make_scheduler()
    late = sorted(asked, key=lambda each: each[3])
    sequences = []
    now = 0.0
    for number in range(700):
        now = number * STEP
        while late and late[0][3] <= number:
            mix, priority, num_tokens, _ = late.pop(0)
            sequences.append(add(scheduler, mix, num_tokens=num_tokens, priority=priority, now=now))
        if scheduler.has_work:
            step(scheduler, now)
        for sequence in scheduler.running:
            assert now - sequence.served_at <= 3 * AGING + len(asked) * SHARED_SECONDS
    assert all(sequence.num_output_tokens > 0 for sequence in sequences)
