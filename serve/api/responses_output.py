"""Gather what is read of an answer into output items, and tell of each step in events.

    output_item.added  (content_part.added  delta*  text.done  content_part.done)  output_item.done

Text and thoughts go on in one item; a call has its own. Knows no request and no response.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import msgspec

from serve.api.answer_reader import MoreArguments, PlacedCall
from serve.api.responses_input import hidden
from serve.api.responses_schemas import (
    CallItem,
    MessageItem,
    OutputItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    ResponseEvent,
)
from serve.chat.reasoning import Thought

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from serve.api.answer_reader import Piece
    from serve.api.chat_schemas import LogprobEntry


_ARGUMENTS = "function_call_arguments"


class Output:
    """The items of one response, as far as they have come."""

    def __init__(self, *, hides_thoughts: bool) -> None:
        """`hides_thoughts`: thoughts come a second time, in the form that clients carry."""
        self.items: list[OutputItem] = []
        self._hides_thoughts = hides_thoughts
        self._open: MessageItem | ReasoningItem | CallItem | None = None
        self._texts: list[str] = []
        self._marks: list[LogprobEntry] = []

    def add(self, piece: Piece, marks: Sequence[LogprobEntry] = ()) -> Iterator[ResponseEvent]:
        """Yield the events of a piece; `marks` are the logprobs of its text."""
        if isinstance(piece, PlacedCall):
            yield from self.close()
            yield from self._call(piece)
            return
        if isinstance(piece, MoreArguments):
            yield self._more(piece.text)
            return
        text, kind = (
            (piece.text, ReasoningItem) if isinstance(piece, Thought) else (piece, MessageItem)
        )
        if not isinstance(self._open, kind):
            yield from self.close()
            yield from self._begin(kind)
        self._texts.append(text)
        self._marks += marks
        more = {"logprobs": list(marks)} if kind is MessageItem else {}
        yield self._inside(f"{self._word()}.delta", delta=text, **more)

    def close(self, status: str = "completed") -> Iterator[ResponseEvent]:
        """Yield the end of the item that is open, if one is."""
        if self._open is None:
            return
        if isinstance(self._open, CallItem):
            yield from self._close_call(self._open, status)
            return
        text, part = "".join(self._texts), self._part()
        more = {"logprobs": self._marks} if isinstance(self._open, MessageItem) else {}
        yield self._inside(f"{self._word()}.done", text=text, **more)
        yield self._inside("content_part.done", part=part)
        item = msgspec.structs.replace(self._open, status=status, content=[part])
        if isinstance(item, ReasoningItem) and self._hides_thoughts:
            item = msgspec.structs.replace(item, encrypted_content=hidden(text))
        self._open = None
        yield self._end(item)

    def _begin(self, kind: type[MessageItem | ReasoningItem]) -> Iterator[ResponseEvent]:
        prefix = "msg" if kind is MessageItem else "rs"
        self._open = kind(id=_new_id(prefix), status="in_progress", content=[])
        self._texts, self._marks = [], []
        yield self._event("output_item.added", item=self._open)
        yield self._inside("content_part.added", part=self._part())

    def _call(self, call: PlacedCall) -> Iterator[ResponseEvent]:
        item = CallItem(
            id=_new_id("fc"), status="in_progress", call_id=call.id, name=call.name, arguments=""
        )
        yield self._event("output_item.added", item=item)
        self._open, self._texts = item, []
        if call.arguments:
            yield self._more(call.arguments)

    def _more(self, arguments: str) -> ResponseEvent:
        assert isinstance(self._open, CallItem)  # arguments follow their call
        self._texts.append(arguments)
        return self._event(f"{_ARGUMENTS}.delta", item_id=self._open.id, delta=arguments)

    def _close_call(self, item: CallItem, status: str) -> Iterator[ResponseEvent]:
        arguments = "".join(self._texts)
        self._open = None
        yield self._event(
            f"{_ARGUMENTS}.done", item_id=item.id, name=item.name, arguments=arguments
        )
        yield self._end(msgspec.structs.replace(item, status=status, arguments=arguments))

    def _end(self, item: OutputItem) -> ResponseEvent:
        event = self._event("output_item.done", item=item)
        self.items.append(item)
        return event

    def _word(self) -> str:
        return "output_text" if isinstance(self._open, MessageItem) else "reasoning_text"

    def _part(self) -> OutputText | ReasoningText:
        text = "".join(self._texts)
        if isinstance(self._open, MessageItem):
            return OutputText(text=text, logprobs=self._marks)
        return ReasoningText(text=text)

    def _inside(self, step: str, /, **fields: object) -> ResponseEvent:
        assert self._open is not None  # events inside stand between the item's begin and end
        return self._event(step, item_id=self._open.id, content_index=0, **fields)

    def _event(self, step: str, /, **fields: object) -> ResponseEvent:
        # Which fields there are is the schema's to say; mypy sees the names in it only.
        given: dict[str, object] = {"type": f"response.{step}", "output_index": len(self.items)}
        return ResponseEvent(**given | fields)  # type: ignore[arg-type]


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"
