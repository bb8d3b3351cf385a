"""Streams over httpx: iterate for chunks, close to cancel.

Both kinds only move bytes into a StreamReader; what the bytes mean is decided there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Self

import httpx

from clients.calls import Chunk, StreamCall
from clients.exchange import failure_of
from clients.stream_reader import StreamReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType

    from clients import wire


class _Stream(Generic[Chunk]):
    """What a stream knows apart from how its bytes come."""

    def __init__(self, call: StreamCall[Chunk], response: httpx.Response) -> None:
        self._response = response
        self._reader = StreamReader(call.chunk_type, response.headers.get("x-request-id"))

    @property
    def usage(self) -> wire.Usage | None:
        """Token counts; known at the end, where the server sends them."""
        return self._reader.usage

    @property
    def timings(self) -> wire.Timings | None:
        """Where the server's time went; known at the end, where the server says."""
        return self._reader.timings

    @property
    def finish_reason(self) -> str | None:
        """Why the first answer ended; None while it runs."""
        return self._reader.finish_reason

    @property
    def request_id(self) -> str | None:
        """The server's name for this request."""
        return self._reader.request_id


class Stream(_Stream[Chunk]):
    """A running answer. Closing it, or leaving its `with` block, stops the server's work.

    Raises, while iterated: ServerError, ConnectionLostError, TimedOutError, ProtocolError.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the server sees it and stops generating."""
        self._response.close()

    def __iter__(self) -> Iterator[Chunk]:
        try:
            for piece in self._response.iter_bytes():
                yield from self._reader.feed(piece)
        except httpx.HTTPError as error:
            raise failure_of(error, self._response.request) from error
        finally:
            self.close()
        self._reader.finish()


class AsyncStream(_Stream[Chunk]):
    """A running answer. Closing it, or leaving its `async with` block, stops the server's work.

    Raises, while iterated: ServerError, ConnectionLostError, TimedOutError, ProtocolError.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; the server sees it and stops generating."""
        await self._response.aclose()

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        try:
            async for piece in self._response.aiter_bytes():
                for chunk in self._reader.feed(piece):
                    yield chunk
        except httpx.HTTPError as error:
            raise failure_of(error, self._response.request) from error
        finally:
            await self.close()
        self._reader.finish()
