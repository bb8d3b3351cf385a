"""Shape what the engine generates as Ollama's lines of JSON, or as one object.

Knows nothing of how the prompt came about; a dialect hands in what one piece looks like.
"""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from litestar import Response
from litestar.exceptions import HTTPException

from serve.api import logprobs
from serve.api.answer_reader import AnswerReader
from serve.api.disconnect import unless_disconnected
from serve.api.errors import describe
from serve.api.generation import Outcome, collect_all, merged
from serve.api.ollama_schemas import OllamaError, OllamaPiece
from serve.api.sse import AnswerStream
from serve.engine.request import Finished, FinishReason

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from litestar import Request

    from serve.api.answer_reader import Piece
    from serve.api.chat_schemas import LogprobEntry
    from serve.api.served import Served
    from serve.engine.engine import Generation
    from serve.engine.request import TokenLogprob

MEDIA_TYPE = "application/x-ndjson"


class Shape(Protocol):
    """Makes one of chat or text out of what was read and the fields that all have."""

    def __call__(self, read: Sequence[Piece], /, **fields: Any) -> OllamaPiece:
        """Return the piece."""


async def respond(
    request: Request[Any, Any, Any],
    served: Served,
    generation: Generation,
    shape: Shape,
    *,
    stream: bool | None,
    reader: AnswerReader | None = None,
) -> Response[Any]:
    """Return the answer, as a stream unless the client asked for none."""
    reader = reader or AnswerReader(None)
    if stream is not False:
        pieces = _pieces(served, generation, shape, reader)
        return AnswerStream(_lines(pieces), [generation], MEDIA_TYPE)
    [outcome] = await unless_disconnected(request, collect_all([generation]))
    return Response(_last(served, shape, outcome, reader.read_whole(outcome)))


def loaded(served: Served, shape: Shape, *, stream: bool | None, reason: str) -> Response[Any]:
    """Answer a request that only asks for the model: it is there, or goes by its wish."""
    piece = shape([], **_stamp(served), done=True, done_reason=reason)
    if stream is False:
        return Response(piece)
    return Response(_line(piece), media_type=MEDIA_TYPE)


def refuse(request: Request[Any, Any, Any], error: Exception) -> Response[OllamaError]:
    """Return an error as this dialect spells it; an exception handler."""
    failure = describe(error)
    if failure.status >= 500:
        request.app.state.log_error(request, error)
    return Response(
        OllamaError(failure.body.message),
        status_code=failure.status,
        headers=dict(failure.headers),
        media_type="application/json",
    )


HANDLERS: dict[int | type[Exception], Callable[..., Response[Any]]] = {
    Exception: refuse,
    HTTPException: refuse,
}


async def _pieces(
    served: Served, generation: Generation, shape: Shape, reader: AnswerReader
) -> AsyncGenerator[OllamaPiece, None]:
    """Yield content and calls, an empty piece to keep a silent line open, then the figures."""
    events = merged([generation], ping_seconds=served.settings.server.ping_seconds)
    async with aclosing(events):
        async for item in events:
            if item is None:
                yield shape([], **_stamp(served), done=False)
                continue
            _, event = item
            read = reader.read(event)
            if isinstance(event, Finished):
                end = Outcome(text="", token_ids=[], logprobs=[], finished=event)
                yield _last(served, shape, end, read)
            elif read or event.logprobs:
                marks = _logprobs(event.logprobs)
                yield shape(read, **_stamp(served), done=False, logprobs=marks)


async def _lines(pieces: AsyncGenerator[OllamaPiece, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(pieces):
        try:
            async for piece in pieces:
                yield _line(piece)
        except Exception as error:  # noqa: BLE001  # headers are out: this is the error's last way
            yield _line(OllamaError(describe(error).body.message))


def _last(served: Served, shape: Shape, outcome: Outcome, read: Sequence[Piece]) -> OllamaPiece:
    finished = outcome.finished
    times = finished.timings
    total = times.queue_seconds + times.prompt_seconds + times.predicted_seconds
    return shape(
        read,
        **_stamp(served),
        done=True,
        done_reason="length" if finished.reason is FinishReason.LENGTH else "stop",
        total_duration=_nanoseconds(total),
        load_duration=0,
        prompt_eval_count=finished.num_prompt_tokens,
        prompt_eval_duration=_nanoseconds(times.prompt_seconds),
        eval_count=finished.num_completion_tokens,
        eval_duration=_nanoseconds(times.predicted_seconds),
        logprobs=_logprobs(outcome.logprobs),
    )


def _stamp(served: Served) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return {"model": served.model_id, "created_at": now}


def _logprobs(marks: Sequence[TokenLogprob]) -> list[LogprobEntry] | msgspec.UnsetType:
    entries = logprobs.for_chat(marks)
    return msgspec.UNSET if entries is None else entries.content


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _line(piece: msgspec.Struct) -> bytes:
    return msgspec.json.encode(piece) + b"\n"
