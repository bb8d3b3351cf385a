"""Shape what the engine generates as a chat answer, whole or in chunks.

Knows nothing of how the prompt came about: chat and hosted-style FIM both end here.
"""

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec
from litestar import Request, Response
from msgspec import UNSET, UnsetType

from serve.api import logprobs
from serve.api.answer_reader import (
    AnswerReader,
    MoreArguments,
    Piece,
    PlacedCall,
    Quiet,
    calls_of,
    content_of,
    thoughts_of,
)
from serve.api.chat_schemas import (
    AnswerMessage,
    CalledFunction,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    Delta,
    StreamOptions,
    ToolCallBody,
    ToolCallDelta,
    Verbose,
)
from serve.api.chat_tools import Calling
from serve.api.disconnect import unless_disconnected
from serve.api.generation import Outcome, collect_all, merged
from serve.api.progress import Watch
from serve.api.served import Served
from serve.api.sse import EventStream
from serve.api.thinking import Thinking
from serve.api.usage import Usage, timings, usage
from serve.chat.reasoning import Thought
from serve.engine.engine import Generation
from serve.engine.request import Event, Finished


class Telling(msgspec.Struct, frozen=True, kw_only=True):
    """What is told besides the answer."""

    watch: Watch = Watch()
    verbose: Verbose | UnsetType = UNSET


async def respond(
    request: Request[Any, Any, Any],
    served: Served,
    generations: Sequence[Generation],
    *,
    stream: bool | None,
    stream_options: StreamOptions | None,
    calling: Calling | None = None,
    thinking: Thinking | None = None,
    telling: Telling = Telling(),  # noqa: B008  # immutable
) -> Response[ChatCompletion]:
    """Return the answer of generations of one prompt, as a stream if one was asked for."""
    readers = [AnswerReader(calling, thinking) for _ in generations]
    if stream:
        counted = stream_options is not None and bool(stream_options.include_usage)
        chunks = _chunks(served, generations, readers, telling, include_usage=counted)
        return EventStream(chunks, generations)
    outcomes = await unless_disconnected(request, collect_all(generations))
    return Response(_completion(served, outcomes, readers, telling))


def _completion(
    served: Served,
    outcomes: Sequence[Outcome],
    readers: Sequence[AnswerReader],
    telling: Telling,
) -> ChatCompletion:
    finished = [outcome.finished for outcome in outcomes]
    choices = [
        _choice(index, outcome, reader)
        for index, (outcome, reader) in enumerate(zip(outcomes, readers, strict=True))
    ]
    return ChatCompletion(
        id=_new_id(),
        created=int(time.time()),
        model=served.model_id,
        choices=choices,
        usage=_usage(served, finished, readers),
        timings=timings(finished[0]),
        system_fingerprint=served.fingerprint,
        verbose=telling.verbose,
    )


def _choice(index: int, outcome: Outcome, reader: AnswerReader) -> ChatChoice:
    pieces = reader.read_whole(outcome)
    content, calls = content_of(pieces), [_body(call) for call in calls_of(pieces)]
    message = AnswerMessage(
        content=(content or None) if calls else content,
        reasoning_content=thoughts_of(pieces) or UNSET,
        tool_calls=calls or UNSET,
    )
    return ChatChoice(
        index=index,
        message=message,
        finish_reason=reader.finish_reason(outcome.finished),
        logprobs=logprobs.for_chat(outcome.logprobs),
    )


def _body(call: PlacedCall) -> ToolCallBody:
    return ToolCallBody(
        id=call.id, function=CalledFunction(name=call.name, arguments=call.arguments)
    )


async def _chunks(
    served: Served,
    generations: Sequence[Generation],
    readers: Sequence[AnswerReader],
    telling: Telling,
    *,
    include_usage: bool,
) -> AsyncGenerator[ChatChunk | None, None]:
    """Yield the roles, then text and calls, then reasons and, if asked for, the usage."""
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
    ping_seconds = served.settings.server.ping_seconds
    quiet = Quiet(ping_seconds)
    events = merged(generations, ping_seconds=ping_seconds)
    async with aclosing(events):
        async for item in events:
            if item is None:
                yield None
                continue
            index, event = item
            progress = telling.watch.of_prompt(event)
            times = telling.watch.of_times(event)
            if progress is not None:
                silent = ChatChunkChoice(index=index, delta=Delta())
                yield chunk(choices=[silent], prompt_progress=progress, timings=times)
            choices = _pieces(index, event, readers[index])
            for choice in choices:
                yield chunk(choices=[choice], timings=times)
            if quiet.needs_ping(said=bool(choices)):
                yield None
            if isinstance(event, Finished):
                finished.append(event)
                reason = readers[index].finish_reason(event)
                ending = ChatChunkChoice(index=index, delta=Delta(), finish_reason=reason)
                yield chunk(choices=[ending], timings=timings(event), verbose=telling.verbose)
    if include_usage:
        counted = _usage(served, finished, readers)
        yield chunk(choices=[], usage=counted, timings=timings(finished[0]))


def _usage(served: Served, finished: Sequence[Finished], readers: Sequence[AnswerReader]) -> Usage:
    num_thought_tokens = sum(reader.num_thought_tokens(served) for reader in readers)
    return usage(finished, num_choices=len(finished), num_thought_tokens=num_thought_tokens)


def _pieces(index: int, event: Event, reader: AnswerReader) -> list[ChatChunkChoice]:
    """Return what the event adds; its logprobs go with the first piece, or alone."""
    deltas = [delta for piece in reader.read(event) for delta in _deltas(piece)]
    marks = None if isinstance(event, Finished) else logprobs.for_chat(event.logprobs)
    if marks and not deltas:
        deltas = [Delta(content="")]
    return [
        ChatChunkChoice(index=index, delta=delta, logprobs=None if place else marks)
        for place, delta in enumerate(deltas)
    ]


def _deltas(piece: Piece) -> list[Delta]:
    """Return text as it is; of a call the name first, then the arguments."""
    match piece:
        case str():
            return [Delta(content=piece)]
        case Thought():
            return [Delta(reasoning_content=piece.text)]
        case MoreArguments():
            return [_arguments(piece.index, piece.text)]
    named = CalledFunction(name=piece.name, arguments="")
    opening = ToolCallDelta(index=piece.index, id=piece.id, type="function", function=named)
    rest = [_arguments(piece.index, piece.arguments)] if piece.arguments else []
    return [Delta(tool_calls=[opening]), *rest]


def _arguments(index: int, text: str) -> Delta:
    return Delta(tool_calls=[ToolCallDelta(index=index, function=CalledFunction(arguments=text))])


def _new_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"
