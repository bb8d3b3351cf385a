"""Shape what the engine generates as a chat answer, whole or in chunks.

Knows nothing of how the prompt came about: chat and hosted-style FIM both end here.
"""

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from litestar import Request, Response

from serve.api import logprobs
from serve.api.chat_schemas import (
    AnswerMessage,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    Delta,
    StreamOptions,
)
from serve.api.disconnect import unless_disconnected
from serve.api.generation import Outcome, collect_all, merged
from serve.api.served import Served
from serve.api.sse import EventStream
from serve.api.usage import timings, usage
from serve.engine.engine import Generation
from serve.engine.request import Event, Finished


async def respond(
    request: Request[Any, Any, Any],
    served: Served,
    generations: Sequence[Generation],
    *,
    stream: bool | None,
    stream_options: StreamOptions | None,
) -> Response[ChatCompletion]:
    """Return the answer of generations of one prompt, as a stream if one was asked for."""
    if stream:
        counted = stream_options is not None and bool(stream_options.include_usage)
        chunks = _chunks(served, generations, include_usage=counted)
        return EventStream(chunks, generations)
    outcomes = await unless_disconnected(request, collect_all(generations))
    return Response(_completion(served, outcomes))


def _completion(served: Served, outcomes: Sequence[Outcome]) -> ChatCompletion:
    finished = [outcome.finished for outcome in outcomes]
    return ChatCompletion(
        id=_new_id(),
        created=int(time.time()),
        model=served.model_id,
        choices=[_choice(index, outcome) for index, outcome in enumerate(outcomes)],
        usage=usage(finished, num_choices=len(finished)),
        timings=timings(finished[0]),
        system_fingerprint=served.fingerprint,
    )


def _choice(index: int, outcome: Outcome) -> ChatChoice:
    return ChatChoice(
        index=index,
        message=AnswerMessage(content=outcome.text),
        finish_reason=outcome.finished.reason.value,
        logprobs=logprobs.for_chat(outcome.logprobs),
    )


async def _chunks(
    served: Served, generations: Sequence[Generation], *, include_usage: bool
) -> AsyncGenerator[ChatChunk | None, None]:
    """Yield the roles, then text as it comes, then reasons and, if asked for, the usage."""
    chunk = partial(
        ChatChunk,
        id=_new_id(),
        created=int(time.time()),
        model=served.model_id,
        system_fingerprint=served.fingerprint,
    )
    for index in range(len(generations)):
        opening = Delta(role="assistant", content="")
        yield chunk(choices=[ChatChunkChoice(index=index, delta=opening)])
    finished: list[Finished] = []
    events = merged(generations, ping_seconds=served.settings.server.ping_seconds)
    async with aclosing(events):
        async for item in events:
            if item is None:
                yield None
            elif isinstance(item[1], Finished):
                finished.append(item[1])
                yield chunk(choices=[_piece(*item)], timings=timings(item[1]))
            elif item[1].text or item[1].logprobs:
                yield chunk(choices=[_piece(*item)])
    if include_usage:
        yield chunk(choices=[], usage=usage(finished, num_choices=len(finished)))


def _piece(index: int, event: Event) -> ChatChunkChoice:
    if isinstance(event, Finished):
        return ChatChunkChoice(index=index, delta=Delta(), finish_reason=event.reason.value)
    return ChatChunkChoice(
        index=index,
        delta=Delta(content=event.text),
        logprobs=logprobs.for_chat(event.logprobs),
    )


def _new_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"
