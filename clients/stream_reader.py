"""From the bytes of a stream to typed chunks: what both kinds of stream share.

Keeps usage and finish reason, raises errors that arrive inside the stream, and knows whether the
stream came to its end. Knows no transport.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic

import msgspec

from clients.calls import Chunk, read
from clients.errors import ConnectionLostError, ProtocolError, from_fields, quoted
from clients.sse import Parser

if TYPE_CHECKING:
    from clients import wire

DONE = "[DONE]"


class _ErrorEvent(msgspec.Struct):
    error: Any = None


class StreamReader(Generic[Chunk]):
    """Read one stream of `chunk_type`.

    `usage` and `timings` are what the server reported last; `finish_reason` is the first answer's.
    """

    def __init__(self, chunk_type: type[Chunk], request_id: str | None = None) -> None:
        self.usage: wire.Usage | None = None
        self.timings: wire.Timings | None = None
        self.finish_reason: str | None = None
        self.request_id = request_id
        self._chunk_type = chunk_type
        self._parser = Parser()
        self._is_done = False

    def feed(self, piece: bytes) -> list[Chunk]:
        """Return the chunks that `piece` completes.

        Raises:
            ServerError: the stream carries an error.
            ProtocolError: an event is not a chunk.
        """
        chunks = []
        for event in self._parser.feed(piece):
            if event.data == DONE:
                self._is_done = True
            if not self._is_done:
                chunks.append(self._read(event.data))
        return chunks

    def finish(self) -> None:
        """Check, when the connection ended, that the answer is whole.

        Raises:
            ConnectionLostError: it is not.
        """
        if not self._is_done and self.finish_reason is None:
            raise ConnectionLostError(
                "the stream ended before the answer was complete; the server may have stopped"
            )

    def _read(self, data: str) -> Chunk:
        self._raise_error_event(data)
        chunk = read(data, self._chunk_type)
        self.usage = chunk.usage or self.usage
        self.timings = chunk.timings or self.timings
        self.finish_reason = chunk.finish_reason or self.finish_reason
        return chunk

    def _raise_error_event(self, data: str) -> None:
        """Servers put an error where a chunk would be, as an object or as its message."""
        try:
            error = msgspec.json.decode(data, type=_ErrorEvent).error
        except msgspec.DecodeError:
            raise ProtocolError(
                f"an event of the stream is not JSON: {quoted(data.encode())}"
            ) from None
        if error is not None:
            fields = error if isinstance(error, Mapping) else {"message": error}
            raise from_fields(fields, status=0, request_id=self.request_id)
