"""Who goes first: classes, aging, urgency, seats and cells."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.engine.chunking import RowCosts
from serve.engine.request import FinishReason, GenerationRequest, Priority
from serve.engine.scheduler import Limits, Scheduler
from serve.engine.sequence import Sequence, Status
from serve.engine.slots import SlotTable

AGING = 2.0


def make_scheduler(*, num_general=4, n_slots=5, n_cells=10_000, max_rows=64):
    costs = RowCosts()
    costs.observe_prefill(32, 0.32)
    limits = Limits(
        max_rows=max_rows, n_cells=n_cells, num_general=num_general, aging_seconds=AGING
    )
    return Scheduler(SlotTable(n_slots), costs, limits)


def add(scheduler, num_tokens=200, *, now=0.0, beginning=(), **asked):
    first = add.next_token = getattr(add, "next_token", 0) + 1000
    prompt = [*beginning, *range(first, first + num_tokens)]
    request = GenerationRequest(prompt_token_ids=prompt, **asked)
    sequence = Sequence(request, context_length=1000, now=now)
    scheduler.add(sequence)
    return sequence


def compute(scheduler, plan, now):
    """Do what the worker does after a batch: cells exist, a whole prompt gets its next token."""
    for span in plan.decode + plan.prefill:
        scheduler.mark_computed(span, now)
        if span.wants_logits:
            span.sequence.append(7)
            span.sequence.status = Status.DECODE


def step(scheduler, now):
    plan = scheduler.plan(now)
    compute(scheduler, plan, now)
    return plan


def read_by(plan):
    return [span.sequence for span in plan.prefill]


def test_classes_go_first_and_arrival_decides_within_one():
    scheduler = make_scheduler()
    background = add(scheduler, priority=Priority.BACKGROUND)
    chats = [add(scheduler), add(scheduler)]
    fim = add(scheduler, priority=Priority.FIM)
    order = []
    while len(order) < 4:
        for sequence in read_by(step(scheduler, 0.0)):
            if sequence not in order:
                order.append(sequence)
            if sequence.status is Status.DECODE:
                scheduler.finish(sequence, FinishReason.LENGTH, 0.0)
    assert order == [fim, *chats, background]


def test_a_short_prompt_does_not_wait_for_a_long_one_of_its_class_which_goes_on_by_age():
    scheduler = make_scheduler()
    long = add(scheduler, 900)
    step(scheduler, 0.0)
    steps_until_answered, now = [], 0.0
    while now < 20:
        short = add(scheduler, 60, now=now)
        num_steps = 0
        while short.status is not Status.DECODE:
            now += 0.2
            step(scheduler, now)
            num_steps += 1
        scheduler.finish(short, FinishReason.STOP, now)
        steps_until_answered.append(num_steps)
    assert max(steps_until_answered) <= 4  # of 60 tokens; the long one alone would take 14 before
    assert long.num_computed >= 9 * 16  # a short chunk each time it has aged


def test_a_prompt_that_is_being_read_is_waited_for_and_shared():
    scheduler = make_scheduler()
    leader = add(scheduler, 200)
    copies = [add(scheduler, 4, beginning=leader.token_ids) for _ in range(2)]
    num_rows = 0
    for number in range(40):
        plan = step(scheduler, 0.1 * number)
        num_rows += sum(span.stop - span.start for span in plan.prefill)
    assert [copy.num_cached_tokens for copy in copies] == [200, 200]
    assert num_rows == 208
    assert scheduler.num_preemptions == 0


def test_nobody_waits_for_what_a_lower_class_another_scope_or_a_few_tokens_would_share():
    scheduler = make_scheduler()
    leader = add(scheduler, 900, priority=Priority.BACKGROUND)
    step(scheduler, 0.0)
    others = [
        add(scheduler, 4, priority=Priority.FIM, beginning=leader.token_ids),
        add(scheduler, 4, beginning=leader.token_ids, cache_scope="another key"),
        add(scheduler, 300, beginning=leader.token_ids[: leader.num_computed + 7]),
    ]
    scheduler.plan(0.1)
    assert all(each.is_seated for each in others)


def test_who_waits_for_a_leader_goes_on_alone_when_it_ends():
    scheduler = make_scheduler()
    leader = add(scheduler, 900)
    follower = add(scheduler, 4, beginning=leader.token_ids)
    step(scheduler, 0.0)
    assert not follower.is_seated
    scheduler.finish(leader, FinishReason.CANCELLED, 0.1)
    step(scheduler, 0.1)
    assert follower.is_seated
    assert follower.num_cached_tokens == leader.num_computed


def test_running_sequences_decode_in_every_step_of_another_prefill():
    scheduler = make_scheduler()
    first = add(scheduler, 20)
    step(scheduler, 0.0)
    second = add(scheduler, 300)
    plans = [step(scheduler, 0.1) for _ in range(3)]
    assert all([span.sequence for span in plan.decode] == [first] for plan in plans)
    assert all(read_by(plan) == [second] for plan in plans)


def test_chunks_are_shorter_while_streams_wait_and_come_in_fours():
    scheduler = make_scheduler(max_rows=256)
    add(scheduler, 20)
    step(scheduler, 0.0)
    alone = make_scheduler(max_rows=256)
    long, long_alone = add(scheduler, 900), add(alone, 900)
    shared_rows = step(scheduler, 0.0).prefill[0].stop
    rows = step(alone, 0.0).prefill[0].stop
    assert (shared_rows % 4, rows % 4) == (0, 0)
    assert shared_rows < rows
    assert (long.num_computed, long_alone.num_computed) == (shared_rows, rows)


def test_short_prompts_of_one_class_share_a_batch_and_other_classes_do_not_ride_along():
    scheduler = make_scheduler()
    chats = [add(scheduler, 10), add(scheduler, 10)]
    add(scheduler, 10, priority=Priority.BACKGROUND)
    assert read_by(scheduler.plan(0.0)) == chats


def test_lower_prefills_wait_while_a_fim_sequence_decodes_until_they_age():
    scheduler = make_scheduler()
    fim = add(scheduler, 8, priority=Priority.FIM)
    chat = add(scheduler, 300)
    step(scheduler, 0.0)
    assert fim.status is Status.DECODE
    assert read_by(step(scheduler, AGING - 0.1)) == []
    assert read_by(step(scheduler, AGING)) == [chat]
    assert read_by(step(scheduler, AGING + 0.1)) == []


def test_a_long_fim_answer_stops_holding_others_back():
    scheduler = make_scheduler()
    fim = add(scheduler, 8, priority=Priority.FIM)
    chat = add(scheduler, 300)
    for _ in range(64):
        step(scheduler, 0.0)
    assert fim.num_output_tokens == 64
    assert read_by(step(scheduler, 0.0)) == [chat]


def test_a_seat_is_kept_for_fim():
    scheduler = make_scheduler(num_general=2, n_slots=3)
    chats = [add(scheduler) for _ in range(3)]
    scheduler.plan(0.0)
    assert scheduler.running == chats[:2]
    fim = add(scheduler, priority=Priority.FIM)
    scheduler.plan(0.0)
    assert fim in scheduler.running
    assert chats[2] in scheduler.waiting


def test_nobody_is_admitted_beyond_the_cells():
    scheduler = make_scheduler(n_cells=500)
    first, second = add(scheduler, 300), add(scheduler, 300)
    scheduler.plan(0.0)
    assert (scheduler.running, scheduler.waiting) == ([first], [second])
    scheduler.finish(first, FinishReason.STOP, 0.0)
    scheduler.plan(0.0)
    assert scheduler.running == [second]


def test_admission_expects_growth_but_not_beyond_a_sequence_s_own_limit():
    scheduler = make_scheduler(n_cells=500)
    first = add(scheduler, 200, max_tokens=1000)
    open_ended, short = add(scheduler, 200, max_tokens=1000), add(scheduler, 200, max_tokens=10)
    scheduler.plan(0.0)
    assert scheduler.running == [first]
    scheduler.finish(open_ended, FinishReason.CANCELLED, 0.0)
    scheduler.plan(0.0)
    assert scheduler.running == [first, short]


def test_room_is_made_by_the_newest_of_the_lowest_class_and_never_by_the_last_one():
    scheduler = make_scheduler()
    oldest = add(scheduler, priority=Priority.INTERACTIVE)
    newer = add(scheduler, priority=Priority.INTERACTIVE)
    scheduler.plan(0.0)
    seq_id = newer.seq_id
    assert scheduler.make_room().seq_id == seq_id
    assert (newer.status, newer.num_computed) == (Status.QUEUED, 0)
    assert scheduler.make_room() is None
    assert scheduler.running == [oldest]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([Priority.INTERACTIVE, Priority.BACKGROUND]),
    st.integers(1, 3),
    st.floats(0.05, 0.4),
)
def test_under_a_flood_of_fim_every_prefill_gets_a_chunk_within_its_bound(
    priority, num_patient, step_seconds
):
    scheduler = make_scheduler(n_slots=6, num_general=4)
    patient = [add(scheduler, 400, priority=priority) for _ in range(num_patient)]
    bound = int(priority) * AGING + (num_patient + 1) * step_seconds
    now = 0.0
    while not all(s.status is Status.DECODE for s in patient) and now < 200:
        while scheduler.slots.num_free or not scheduler.waiting:
            add(scheduler, 40, priority=Priority.FIM, now=now)
            scheduler.plan(now)
        now += step_seconds
        plan = step(scheduler, now)
        for sequence in {span.sequence for span in plan.prefill} - set(patient):
            if sequence.status is Status.DECODE:
                scheduler.finish(sequence, FinishReason.STOP, now)
        reading = [s for s in patient if s.status is Status.PREFILL]
        assert all(now - s.served_at <= bound for s in reading)
    assert all(s.status is Status.DECODE for s in patient)


@pytest.mark.parametrize("seated", [True, False])
def test_finishing_works_wherever_a_sequence_stands(seated):
    scheduler = make_scheduler()
    sequence = add(scheduler)
    if seated:
        scheduler.plan(0.0)
    scheduler.finish(sequence, FinishReason.CANCELLED, 1.0)
    assert not scheduler.has_work
    assert scheduler.slots.num_free == 5
