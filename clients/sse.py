"""Parse Server-Sent Events out of bytes that arrive in any pieces.

Knows the event-stream format and nothing of what the events carry.

Source: WHATWG HTML, section 9.2.6 "Interpreting an event stream".
"""

from __future__ import annotations

import codecs
import re

import msgspec

_LINE_END = re.compile(r"\r\n|\r|\n")
_BYTE_ORDER_MARK = "\ufeff"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One dispatched event. `data` has its lines joined by newlines."""

    data: str
    event: str = "message"
    last_event_id: str = ""
    retry_milliseconds: int | None = None


class Parser:
    """Turn pieces of a body into events. One parser reads one stream, once.

    An event that the stream's end leaves without its blank line is dropped, as the specification
    wants: it may be cut short.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""  # the unfinished line
        self._at_start = True
        self._data: list[str] = []
        self._event = ""
        self._last_event_id = ""
        self._retry_milliseconds: int | None = None

    def feed(self, piece: bytes) -> list[Event]:
        """Return the events that `piece` completes."""
        self._pending += self._decoder.decode(piece)
        if self._at_start and self._pending:
            self._pending = self._pending.removeprefix(_BYTE_ORDER_MARK)
            self._at_start = False
        events = []
        for line in self._take_lines():
            event = self._read_line(line)
            if event is not None:
                events.append(event)
        return events

    def _take_lines(self) -> list[str]:
        """Cut the finished lines off. A last CR waits: its LF may come with the next piece."""
        held = "\r" if self._pending.endswith("\r") else ""
        lines = _LINE_END.split(self._pending.removesuffix("\r"))
        self._pending = lines.pop() + held
        return lines

    def _read_line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._last_event_id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self._retry_milliseconds = int(value)
        return None  # a comment has an empty name; unknown fields are ignored

    def _dispatch(self) -> Event | None:
        data, event = self._data, self._event
        self._data, self._event = [], ""
        if not data:
            return None
        return Event(
            data="\n".join(data),
            event=event or "message",
            last_event_id=self._last_event_id,
            retry_milliseconds=self._retry_milliseconds,
        )
