"""Server-sent events: framing, keep-alive comments, errors after the headers, and the end.

Knows no dialect: chunks come in as structs, None stands for "nothing to say yet".
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Response
from litestar.response.streaming import ASGIStreamingResponse

from serve.api.errors import ErrorEnvelope, describe
from serve.api.generation import cancel

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from litestar.response.base import ASGIResponse
    from litestar.types import Receive, Send

    from serve.api.generation import Answer

    Chunks = AsyncGenerator[msgspec.Struct | dict[str, Any] | None, None]

EVENTS = "text/event-stream"
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class AnswerStream(Response[Any]):
    """A response whose generations are stopped when it ends, however it ends.

    Headers go out at once: clients wait for those with a time-out of their own.
    """

    def __init__(
        self, frames: AsyncGenerator[bytes, None], answers: Sequence[Answer], media_type: str
    ) -> None:
        super().__init__(b"", media_type=media_type)
        self._frames = frames
        self._answers = answers

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIResponse:
        """Return the ASGI response; Litestar calls this."""
        response = _CancellingResponse(
            iterator=self._frames, media_type=self.media_type, headers=HEADERS, status_code=200
        )
        response.answers = self._answers
        return response


class EventStream(AnswerStream):
    """An answer as server-sent events."""

    def __init__(self, chunks: Chunks, answers: Sequence[Answer], *, done: bytes = DONE) -> None:
        """`done` ends a stream that is complete; b"" for dialects that just close."""
        super().__init__(_frames(chunks, done), answers, EVENTS)


class _CancellingResponse(ASGIStreamingResponse):
    """Litestar's own stops writing when the client goes; this one also stops the engine."""

    answers: Sequence[Answer] = ()

    async def send_body(self, send: Send, receive: Receive) -> None:
        """Send until done or disconnected."""
        try:
            await super().send_body(send, receive)
        finally:
            cancel(self.answers)


async def _frames(chunks: Chunks, done: bytes) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks):
        try:
            async for chunk in chunks:
                yield PING if chunk is None else frame(chunk)
        except Exception as error:  # noqa: BLE001  # headers are out: this is the error's last way
            yield frame(ErrorEnvelope(error=describe(error).body))
            return
    if done:
        yield done


def frame(chunk: msgspec.Struct | dict[str, Any]) -> bytes:
    """Return one event."""
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
