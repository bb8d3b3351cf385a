"""Events cross from the worker to a reader once each, in order, and to nobody who left."""

from __future__ import annotations

import asyncio

import pytest

from serve.engine.generation import Generation, Outbox
from serve.engine.request import Finished, FinishReason, GenerationRequest, TextDelta, Timings
from serve.engine.sequence import Sequence

END = Finished(
    reason=FinishReason.STOP,
    num_prompt_tokens=1,
    num_cached_tokens=0,
    num_completion_tokens=1,
    timings=Timings(queue_seconds=0, prompt_seconds=0, predicted_seconds=0),
)


def make_generation(event_limit=10, wake=lambda: None):
    request = GenerationRequest(prompt_token_ids=[1])
    sequence = Sequence(request, context_length=10, now=0.0)
    loop = asyncio.get_running_loop()
    return Generation(sequence, loop, event_limit=event_limit, wake_worker=wake)


def post(generation, *events):
    outbox = Outbox()
    for event in events:
        outbox.post(generation, event)
    outbox.flush()


async def test_events_arrive_in_order_and_the_iteration_ends_after_finished():
    generation = make_generation()
    deltas = [TextDelta(text, (1,)) for text in "abc"]
    post(generation, *deltas, END)
    assert [event async for event in generation] == [*deltas, END]
    with pytest.raises(StopAsyncIteration):
        await anext(generation)


async def test_a_read_that_is_given_up_loses_nothing():
    generation = make_generation()
    reading = asyncio.ensure_future(anext(generation))
    await asyncio.sleep(0)
    reading.cancel()
    post(generation, END)
    assert await anext(generation) == END


async def test_after_cancel_only_the_end_is_read_and_the_worker_is_woken():
    woken = []
    generation = make_generation(wake=lambda: woken.append(True))
    post(generation, TextDelta("late", (1,)))
    generation.cancel()
    generation.cancel()
    post(generation, END)
    assert [event async for event in generation] == [END]
    assert woken


async def test_a_reader_that_keeps_up_is_never_cancelled_and_one_that_does_not_is():
    quick, slow = make_generation(event_limit=3), make_generation(event_limit=3)
    for _ in range(20):
        post(quick, TextDelta("a", (1,)))
        await anext(quick)
        post(slow, TextDelta("a", (1,)))
    assert not quick.sequence.is_cancelled
    assert slow.sequence.is_cancelled
