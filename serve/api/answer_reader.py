"""What chat dialects share about an answer: its thoughts, its content and its calls, in order.

Knows no dialect's shape of them; the markup is the chat room's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from serve.chat.reasoning import Thought
from serve.chat.tools.calls import ToolCall
from serve.chat.tools.grammar import new_call_id
from serve.chat.tools.parser import ToolParser
from serve.chat.tools.running import CallArguments, CallBegun, CallEnded
from serve.engine.request import Event, Finished, FinishReason, TextDelta

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from serve.api.chat_tools import Calling
    from serve.api.generation import Outcome
    from serve.api.served import Served
    from serve.api.thinking import Thinking
    from serve.chat.tools.running import Parsed


class PlacedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call, its number within the answer and its id.

    `arguments` is the text of an object, or its beginning: `MoreArguments` then go on.
    """

    index: int
    id: str
    name: str
    arguments: str


class MoreArguments(msgspec.Struct, frozen=True, kw_only=True):
    """What follows of the arguments of the call with this number, the last one that came."""

    index: int
    text: str


Piece = str | Thought | PlacedCall | MoreArguments


class AnswerReader:
    """One answer as thoughts, content and calls.

    Without `thinking` there are no thoughts, without `calling` no calls: all of it is content.
    `whole_calls` is for dialects that know no pieces of a call: one that breaks off is left out.
    """

    def __init__(
        self,
        calling: Calling | None,
        thinking: Thinking | None = None,
        *,
        whole_calls: bool = False,
    ) -> None:
        self._calling = calling
        self._whole_calls = whole_calls
        self._held: list[Piece] = []  # a call that is not whole yet
        self._takes_arguments = False
        self._thoughts = thinking.parser() if thinking else None
        self._parser = ToolParser(calling.grammar) if calling else None
        self._num_calls = 0
        self._thought_texts: list[str] = []

    def read(self, event: Event) -> list[Piece]:
        """Return what an event makes certain, in order."""
        if not isinstance(event, Finished):
            return self._parted(self._thoughts.push(event.text) if self._thoughts else [event.text])
        held = self._parted(self._thoughts.flush() if self._thoughts else [])
        return [*held, *self._placed(self._parser.flush() if self._parser else [])]

    def read_whole(self, outcome: Outcome) -> list[Piece]:
        """Return all of an answer."""
        whole = TextDelta(outcome.text, tuple(outcome.token_ids))
        return _joined([*self.read(whole), *self.read(outcome.finished)])

    def finish_reason(self, finished: Finished) -> str:
        """Return OpenAI's name for why the answer ended."""
        is_stop = finished.reason is FinishReason.STOP
        return "tool_calls" if is_stop and self._num_calls else finished.reason.value

    def num_thought_tokens(self, served: Served) -> int:
        """Count the tokens of the thoughts read so far, without their marks."""
        text = "".join(self._thought_texts)
        return len(served.tokenize_plain(text)) if text else 0

    def _parted(self, pieces: Iterable[str | Thought]) -> list[Piece]:
        """Look for calls outside the thoughts only."""
        read: list[Piece] = []
        for piece in pieces:
            if isinstance(piece, Thought):
                self._thought_texts.append(piece.text)
                read.append(piece)
            elif self._parser is not None:
                read += self._placed(self._parser.push(piece))
            elif piece:
                read.append(piece)
        return read

    def _placed(self, pieces: Iterable[Parsed]) -> list[Piece]:
        return [placed for piece in pieces for placed in self._place(piece)]

    def _place(self, piece: Parsed) -> list[Piece]:
        match piece:
            case ToolCall(name=name, arguments=arguments):
                return self._new_call(name, arguments)
            case CallBegun(name):
                begun = self._new_call(name, "")
                self._takes_arguments = bool(begun)
                return self._hold(begun)
            case CallArguments(text):
                index = self._num_calls - 1
                more: list[Piece] = [MoreArguments(index=index, text=text)]
                return self._hold(more) if self._takes_arguments else []
            case CallEnded(is_whole):
                held, self._held = self._held, []
                self._num_calls -= bool(held) and not is_whole
                return _joined(held) if is_whole else []
            case _:
                return [piece]

    def _new_call(self, name: str, arguments: str) -> list[Piece]:
        """Return a call, unless one was enough."""
        if self._calling is None or (self._num_calls and not self._calling.parallel):
            return []
        number, self._num_calls = self._num_calls, self._num_calls + 1
        call_id = new_call_id(self._calling.grammar.family)
        return [PlacedCall(index=number, id=call_id, name=name, arguments=arguments)]

    def _hold(self, pieces: list[Piece]) -> list[Piece]:
        if not self._whole_calls:
            return pieces
        self._held += pieces
        return []


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Put text that follows text together, thoughts that follow thoughts, and parts of a call."""
    joined: list[Piece] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if isinstance(piece, str) and isinstance(last, str):
            joined[-1] = last + piece
        elif isinstance(piece, Thought) and isinstance(last, Thought):
            joined[-1] = Thought(last.text + piece.text)
        elif isinstance(piece, MoreArguments) and isinstance(last, PlacedCall):
            joined[-1] = replace(last, arguments=last.arguments + piece.text)
        else:
            joined.append(piece)
    return joined


def content_of(pieces: Sequence[Piece]) -> str:
    """Return the visible text of pieces."""
    return "".join(piece for piece in pieces if isinstance(piece, str))


def thoughts_of(pieces: Sequence[Piece]) -> str:
    """Return the text of the thoughts in pieces."""
    return "".join(piece.text for piece in pieces if isinstance(piece, Thought))


def calls_of(pieces: Sequence[Piece]) -> list[PlacedCall]:
    """Return the calls in pieces."""
    return [piece for piece in pieces if isinstance(piece, PlacedCall)]


class Quiet:
    """Tells when a stream has been silent too long: some calls are given whole, however long."""

    def __init__(self, ping_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ping_seconds = ping_seconds
        self._clock = clock
        self._since = clock()

    def needs_ping(self, *, said: bool) -> bool:
        """Note whether the last event had something to say, and return whether a ping is due."""
        now = self._clock()
        is_due = now - self._since >= self._ping_seconds
        if said or is_due:
            self._since = now
        return is_due and not said
