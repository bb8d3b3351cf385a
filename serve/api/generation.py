"""Submit requests and bring their events together, for streams and for plain answers.

Whatever way a request ends, its sequences are cancelled: a finished one does not mind. Knows no
dialect.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec.structs import replace

from serve.api.access import CACHE_SCOPE
from serve.api.adapters import mix_of
from serve.api.errors import GenerationFailedError
from serve.engine.request import Event, Finished, FinishReason, TokenLogprob

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence

    from serve.api.adapters import LoraChoice
    from serve.api.served import Served
    from serve.engine.engine import Generation
    from serve.engine.request import AdapterMix, GenerationRequest
    from serve.engine.sequence import Sequence as Running

_PENDING_EVENTS = 32


class Answer(Protocol):
    """What is read: the engine's generation, or one that ends earlier.

    A read that is cancelled loses nothing.
    """

    def __aiter__(self) -> AsyncIterator[Event]:
        """Return the events, `Finished` last."""

    def cancel(self) -> None:
        """Stop it; any number of times."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One whole answer."""

    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprob]
    finished: Finished
    prompt_logprobs: list[TokenLogprob] = []


def copies(first: GenerationRequest, n: int) -> list[GenerationRequest]:
    """Return `n` requests that differ in their seed: equal ones would give equal answers."""
    seed = first.sampling.seed
    if seed is None:
        return [first] * n
    reseed = partial(replace, first.sampling)
    return [replace(first, sampling=reseed(seed=seed + i)) for i in range(n)]


def submit(
    served: Served,
    requests: Iterable[GenerationRequest],
    lora: list[LoraChoice] | None = None,
) -> list[Generation]:
    """Submit all or none, each in the scope of the key it came with, with its adapters."""
    scope, mix = CACHE_SCOPE.get(), mix_of(served, lora)
    own = [replace(each, cache_scope=scope, adapters=mix) for each in requests]
    if served.cache_log is not None:
        for each in own:
            served.cache_log.look_up(each.prompt_token_ids, scope, mix, each.request_id)
    generations: list[Generation] = []
    try:
        generations.extend(served.engine.submit(each) for each in own)
    except BaseException:
        cancel(generations)
        raise
    for generation, each in zip(generations, own, strict=True):
        if each.prompt_logprobs is None:  # texts that are scored are no conversations
            generation.on_finished = partial(_remember, served, scope, mix)
    return generations


def _remember(served: Served, scope: str, mix: AdapterMix, sequence: Running) -> None:
    """Note a whole answer where the next turn of its conversation will look."""
    num_prompt = sequence.num_prompt_tokens
    if served.transcripts is not None:
        served.transcripts.note(
            sequence.token_ids[:num_prompt], sequence.token_ids[num_prompt:], scope
        )
    if served.cache_log is not None:
        served.cache_log.note(sequence.token_ids, scope, mix)


def cancel(generations: Iterable[Answer]) -> None:
    """Stop what still runs."""
    for generation in generations:
        generation.cancel()


async def collect(answer: Answer) -> Outcome:
    """Wait for a whole answer.

    Raises:
        GenerationFailedError: the engine gave up.
    """
    texts: list[str] = []
    token_ids: list[int] = []
    logprobs: list[TokenLogprob] = []
    prompt_logprobs: list[TokenLogprob] = []
    finished: Finished | None = None
    async for event in answer:
        if isinstance(event, Finished):
            finished = event
            continue
        texts.append(event.text)
        token_ids.extend(event.token_ids)
        logprobs.extend(event.logprobs)
        prompt_logprobs.extend(event.prompt_logprobs)
    return Outcome(
        text="".join(texts),
        token_ids=token_ids,
        logprobs=logprobs,
        finished=completed(finished),
        prompt_logprobs=prompt_logprobs,
    )


async def collect_all(generations: Sequence[Answer]) -> list[Outcome]:
    """Wait for every answer, in order; if one fails the rest are stopped."""
    try:
        return list(await asyncio.gather(*(collect(generation) for generation in generations)))
    finally:
        cancel(generations)


def completed(finished: Finished | None) -> Finished:
    """Return the event of an answer that is whole.

    Raises:
        GenerationFailedError: it is not.
    """
    if finished is None or finished.reason is FinishReason.CANCELLED:
        raise GenerationFailedError("the answer was stopped before it was complete")
    if finished.reason is FinishReason.ERROR:
        raise GenerationFailedError(finished.error or "the engine failed on this request")
    return finished


def merged(
    generations: Sequence[Answer], *, ping_seconds: float
) -> AsyncGenerator[tuple[int, Event] | None, None]:
    """Return (index, event) as they come, and None whenever `ping_seconds` bring nothing.

    Raises, when it is read:
        GenerationFailedError: one of them failed; the others are stopped by the caller.
    """
    if len(generations) == 1:
        return _alone(generations[0], ping_seconds)
    return _several(generations, ping_seconds)


async def _alone(
    answer: Answer, ping_seconds: float
) -> AsyncGenerator[tuple[int, Event] | None, None]:
    """Read one without a task and a queue between, which every token would pay for."""
    reading = aiter(answer)
    event: Event | None = None
    while not isinstance(event, Finished):
        try:
            async with asyncio.timeout(ping_seconds):
                event = await anext(reading)
        except TimeoutError:
            yield None
            continue
        if isinstance(event, Finished):
            completed(event)
        yield 0, event


async def _several(
    generations: Sequence[Answer], ping_seconds: float
) -> AsyncGenerator[tuple[int, Event] | None, None]:
    queue: asyncio.Queue[tuple[int, Event | Exception]] = asyncio.Queue(_PENDING_EVENTS)
    pumps = [
        asyncio.create_task(_pump(index, generation, queue))
        for index, generation in enumerate(generations)
    ]
    num_running = len(generations)
    try:
        while num_running:
            item = await _next(queue, ping_seconds)
            if item is None:
                yield None
                continue
            index, event = item
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Finished):
                num_running -= 1
                completed(event)
            yield index, event
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(
    index: int, generation: Answer, queue: asyncio.Queue[tuple[int, Event | Exception]]
) -> None:
    try:
        async for event in generation:
            await queue.put((index, event))
    except Exception as error:  # noqa: BLE001  # a task's edge: the reader raises it
        await queue.put((index, error))


async def _next(
    queue: asyncio.Queue[tuple[int, Event | Exception]], seconds: float
) -> tuple[int, Event | Exception] | None:
    try:
        async with asyncio.timeout(seconds):
            return await queue.get()
    except TimeoutError:
        return None
