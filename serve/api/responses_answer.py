"""Shape what the engine generates as a response, whole or as events.

    response.created  response.in_progress  (the events of items)*
    response.completed | response.incomplete | response.failed

Knows nothing of how the prompt came about, and nothing of who may see what is stored.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from serve.api import logprobs
from serve.api.answer_reader import Quiet
from serve.api.errors import ClientGoneError, describe
from serve.api.generation import merged
from serve.api.progress import watch
from serve.api.responses_output import Output
from serve.api.responses_schemas import (
    IncompleteDetails,
    InputTokensDetails,
    OutputTokensDetails,
    ReasoningOptions,
    ResponseBody,
    ResponseError,
    ResponseEvent,
    ResponseRequest,
    ResponseUsage,
    TextOptions,
)
from serve.api.sse import PING
from serve.api.usage import timings
from serve.engine.request import Finished, FinishReason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serve.api.answer_reader import AnswerReader, Piece
    from serve.api.chat_schemas import LogprobEntry
    from serve.api.generation import Outcome
    from serve.api.served import Served
    from serve.api.usage import TimingsBody
    from serve.engine.engine import Generation
    from serve.engine.request import TokenLogprob

Events = AsyncGenerator[ResponseEvent | None, None]

_HIDDEN_THOUGHTS = "reasoning.encrypted_content"


def opened(served: Served, data: ResponseRequest, *, is_stored: bool) -> ResponseBody:
    """Return the response as it stands before anything is read."""
    return ResponseBody(
        id=f"resp_{secrets.token_hex(16)}",
        created_at=int(time.time()),
        model=served.model_id,
        status="in_progress",
        output=[],
        parallel_tool_calls=data.parallel_tool_calls is not False,
        tool_choice=data.tool_choice or "auto",
        tools=data.tools or [],
        instructions=data.instructions,
        max_output_tokens=data.max_output_tokens,
        previous_response_id=data.previous_response_id,
        reasoning=data.reasoning or ReasoningOptions(),
        store=is_stored,
        temperature=data.temperature,
        text=_text_options(data.text),
        top_p=data.top_p,
        top_logprobs=data.top_logprobs or 0,
        metadata=data.metadata or {},
        user=data.user,
        prompt_cache_key=data.prompt_cache_key,
    )


class Writing:
    """One response in the making."""

    def __init__(
        self, served: Served, data: ResponseRequest, body: ResponseBody, reader: AnswerReader
    ) -> None:
        self.body = body
        self._served = served
        self._reader = reader
        self._watch = watch(data)
        self._times: TimingsBody | UnsetType = UNSET
        self._output = Output(hides_thoughts=_HIDDEN_THOUGHTS in (data.include or []))

    @property
    def times(self) -> TimingsBody | UnsetType:
        """Return what an answer took that has come to its end."""
        return self._times

    def whole(self, outcome: Outcome) -> ResponseBody:
        """Return the response of a whole answer."""
        marks = _marks(outcome.logprobs)
        for piece in self._reader.read_whole(outcome):
            for _ in self._output.add(piece, marks if isinstance(piece, str) else ()):
                pass
        return self._ended(outcome.finished)

    async def events(self, generation: Generation) -> Events:
        """Yield the events between the first two and the last, and None to keep the line open."""
        ping_seconds = self._served.settings.server.ping_seconds
        quiet = Quiet(ping_seconds)
        items = merged([generation], ping_seconds=ping_seconds)
        async with aclosing(items):
            async for item in items:
                if item is None:
                    yield None
                    continue
                event = item[1]
                progress, times = self._watch.of_prompt(event), self._watch.of_times(event)
                if progress is not None:
                    told = _lifecycle("in_progress", self.body)
                    yield replace(told, prompt_progress=progress, timings=times)
                pieces = self._reader.read(event)
                for each in self._told(
                    pieces, () if isinstance(event, Finished) else event.logprobs
                ):
                    yield each if times is UNSET else replace(each, timings=times)
                if quiet.needs_ping(said=bool(pieces)):
                    yield None
                if isinstance(event, Finished):
                    for each in self._output.close(_status(event)):
                        yield each
                    self._ended(event)

    def failed(self, error: Exception, *, status: str = "failed") -> ResponseBody:
        """Return the response that came to nothing, with what was written before."""
        failure = describe(error).body
        wrong = ResponseError(failure.code or "server_error", failure.message)
        self.body = msgspec.structs.replace(
            self.body, status=status, output=self._output.items, error=wrong
        )
        return self.body

    def _told(self, pieces: Sequence[Piece], marks: Sequence[TokenLogprob]) -> list[ResponseEvent]:
        """Return the events of pieces; logprobs go with the first of text."""
        entries = _marks(marks)
        told: list[ResponseEvent] = []
        for piece in pieces:
            told += self._output.add(piece, entries if isinstance(piece, str) else ())
            entries = [] if isinstance(piece, str) else entries
        return told

    def _ended(self, finished: Finished) -> ResponseBody:
        status = _status(finished)
        self._times = timings(finished)
        for _ in self._output.close(status):
            pass
        is_cut = status == "incomplete"
        self.body = msgspec.structs.replace(
            self.body,
            status=status,
            completed_at=int(time.time()),
            output=self._output.items,
            incomplete_details=IncompleteDetails("max_output_tokens") if is_cut else None,
            usage=_usage(finished, self._reader.num_thought_tokens(self._served)),
        )
        return self.body


async def frames(
    writing: Writing, events: Events, end: Callable[[Exception | None], object]
) -> AsyncGenerator[bytes, None]:
    """Yield the whole stream; `end` learns what became of it, also when nobody reads on."""
    numbers = itertools.count()
    error: Exception | None = ClientGoneError("the client closed the connection")
    try:
        for name in ("created", "in_progress"):
            yield _frame(_lifecycle(name, writing.body), next(numbers))
        async with aclosing(events):
            async for event in events:
                yield PING if event is None else _frame(event, next(numbers))
        error = None
    except Exception as caught:  # noqa: BLE001  # headers are out: this is the error's last way
        error = caught
    finally:
        end(error)
    status = writing.body.status
    name = status if status in {"completed", "incomplete"} else "failed"
    yield _frame(replace(_lifecycle(name, writing.body), timings=writing.times), next(numbers))


async def refused(error: Exception) -> Events:
    """Yield nothing and raise: the answer failed before it began."""
    nothing: list[ResponseEvent] = []
    for event in nothing:
        yield event
    raise error


def _lifecycle(name: str, body: ResponseBody) -> ResponseEvent:
    return ResponseEvent(type=f"response.{name}", response=body)


def _frame(event: ResponseEvent, number: int) -> bytes:
    numbered = msgspec.structs.replace(event, sequence_number=number)
    return b"event: %b\ndata: %b\n\n" % (event.type.encode(), msgspec.json.encode(numbered))


def _status(finished: Finished) -> str:
    return "incomplete" if finished.reason is FinishReason.LENGTH else "completed"


def _text_options(asked: TextOptions | None) -> TextOptions:
    given = asked or TextOptions()
    return msgspec.structs.replace(given, format=given.format or {"type": "text"})


def _marks(marks: Sequence[TokenLogprob]) -> list[LogprobEntry]:
    entries = logprobs.for_chat(marks)
    return [] if entries is None else entries.content


def _usage(finished: Finished, num_thought_tokens: int) -> ResponseUsage:
    num_prompt, num_output = finished.num_prompt_tokens, finished.num_completion_tokens
    return ResponseUsage(
        input_tokens=num_prompt,
        input_tokens_details=InputTokensDetails(finished.num_cached_tokens),
        output_tokens=num_output,
        output_tokens_details=OutputTokensDetails(num_thought_tokens),
        total_tokens=num_prompt + num_output,
    )
