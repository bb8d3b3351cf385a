"""Seats are free or used, and a prompt goes where most of it is already known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve.engine.prefix import common_prefix_length
from serve.engine.request import FinishReason, GenerationRequest
from serve.engine.sequence import Sequence
from serve.engine.slots import SlotTable


def sequence_of(token_ids):
    request = GenerationRequest(prompt_token_ids=list(token_ids))
    return Sequence(request, context_length=1000, now=0.0)


def occupy(slots, token_ids):
    """Seat a sequence and read all of it."""
    sequence = sequence_of(token_ids)
    slots.seat(sequence)
    sequence.num_computed = len(sequence.token_ids)
    return sequence


def leave(slots, sequence):
    slots.release(sequence, keep_cells=True)
    sequence.finish(FinishReason.STOP, 0.0)


short_lists = st.lists(st.integers(0, 2), max_size=30)


@given(short_lists, short_lists)
def test_the_common_prefix_is_counted_exactly(left, right):
    count = 0
    while count < min(len(left), len(right)) and left[count] == right[count]:
        count += 1
    assert common_prefix_length(left, right) == count


def test_a_returning_conversation_gets_its_own_seat_back():
    slots = SlotTable(3)
    history = occupy(slots, range(100))
    seq_id = history.seq_id
    leave(slots, history)
    leave(slots, occupy(slots, range(500, 520)))
    seating = slots.seat(sequence_of(range(120)))
    assert (seating.seq_id, seating.num_cached, seating.copy_from) == (seq_id, 100, None)


def test_an_exact_repeat_reads_its_last_token_again():
    slots = SlotTable(1)
    leave(slots, occupy(slots, range(10)))
    assert slots.seat(sequence_of(range(10))).num_cached == 9


def test_a_prefix_held_by_a_running_sequence_is_shared():
    slots = SlotTable(2)
    running = occupy(slots, range(50))
    seating = slots.seat(sequence_of([*range(40), 99]))
    assert (seating.copy_from, seating.num_cached) == (running.seq_id, 40)
    assert seating.seq_id != running.seq_id


def test_a_short_common_beginning_does_not_cost_a_long_conversation_its_cells():
    slots = SlotTable(2)
    long = occupy(slots, range(100))
    seq_id = long.seq_id
    leave(slots, long)
    seating = slots.seat(sequence_of([*range(10), 99]))
    assert seating.seq_id != seq_id
    assert (seating.copy_from, seating.num_cached) == (seq_id, 10)
    assert slots.slots[seq_id].held_token_ids == list(range(100))


def test_an_unknown_prompt_takes_the_seat_that_was_left_first():
    slots = SlotTable(2)
    first, second = occupy(slots, [1, 2, 3]), occupy(slots, [4, 5, 6])
    seq_id = second.seq_id
    leave(slots, second)
    leave(slots, first)
    seating = slots.seat(sequence_of([7, 8]))
    assert (seating.seq_id, seating.num_cached) == (seq_id, 0)


def test_eviction_goes_from_the_seat_left_first_to_the_last_and_ends():
    slots = SlotTable(2)
    first, second = occupy(slots, [1, 2, 3]), occupy(slots, [4, 5, 6])
    seq_ids = [second.seq_id, first.seq_id]
    leave(slots, second)
    leave(slots, first)
    assert [slots.evict_idle().seq_id for _ in seq_ids] == seq_ids
    assert slots.evict_idle() is None


def test_memory_that_cannot_be_cut_shares_nothing_with_a_running_sequence():
    slots = SlotTable(2, can_trim=False)
    occupy(slots, range(50))
    seating = slots.seat(sequence_of(range(60)))
    assert (seating.copy_from, seating.num_cached) == (None, 0)
