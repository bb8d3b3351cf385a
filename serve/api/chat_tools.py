"""What chat dialects share about tools: which are offered, and the calls in an answer.

Knows no dialect's answer; the markup is the chat room's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from serve.api.errors import InvalidRequestError
from serve.chat.tools.grammar import Grammar, grammar_for, new_call_id
from serve.chat.tools.parser import ToolParser
from serve.chat.tools.tagged import typed_parameters
from serve.engine.request import Event, Finished, FinishReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from serve.api.chat_schemas import ChatRequest
    from serve.api.generation import Outcome
    from serve.api.served import Served
    from serve.chat.tools.calls import ToolCall


class Calling(msgspec.Struct, frozen=True, kw_only=True):
    """How calls look, and whether more than the first is wanted."""

    grammar: Grammar
    parallel: bool


class PlacedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call, its number within the answer and its id. `arguments` is the text of an object."""

    index: int
    id: str
    name: str
    arguments: str


class AnswerReader:
    """One answer as content and calls; without `calling` all of it is content."""

    def __init__(self, calling: Calling | None) -> None:
        self._calling = calling
        self._parser = ToolParser(calling.grammar) if calling else None
        self._num_calls = 0

    def read(self, event: Event) -> list[str | PlacedCall]:
        """Return what an event makes certain, in order."""
        if isinstance(event, Finished):
            return self._placed(self._parser.flush() if self._parser else [])
        if self._parser is None:
            return [event.text] if event.text else []
        return self._placed(self._parser.push(event.text))

    def read_whole(self, outcome: Outcome) -> list[str | PlacedCall]:
        """Return all of an answer."""
        if self._parser is None:
            return [outcome.text]
        return self._placed([*self._parser.push(outcome.text), *self._parser.flush()])

    def finish_reason(self, finished: Finished) -> str:
        """Return OpenAI's name for why the answer ended."""
        is_stop = finished.reason is FinishReason.STOP
        return "tool_calls" if is_stop and self._num_calls else finished.reason.value

    def _placed(self, pieces: Iterable[str | ToolCall]) -> list[str | PlacedCall]:
        placed: list[str | PlacedCall] = []
        for piece in pieces:
            if isinstance(piece, str):
                placed.append(piece)
            elif self._calling is not None and (self._calling.parallel or not self._num_calls):
                placed.append(self._place(piece, self._calling.grammar))
                self._num_calls += 1
        return placed

    def _place(self, call: ToolCall, grammar: Grammar) -> PlacedCall:
        return PlacedCall(
            index=self._num_calls,
            id=new_call_id(grammar.family),
            name=call.name,
            arguments=call.arguments,
        )


class Quiet:
    """Tells when a stream has been silent too long: a call is given whole, however long it is."""

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


def calling(served: Served, data: ChatRequest) -> Calling | None:
    """Return how to read calls in the answer, None when the request allows none."""
    if not data.tools or data.tool_choice == "none":
        return None
    return calling_of(served, data.tools, parallel=data.parallel_tool_calls is not False)


def calling_of(served: Served, tools: Sequence[dict[str, Any]], *, parallel: bool) -> Calling:
    """Return how to read calls of these tools, which have been checked."""
    functions = [tool["function"] for tool in tools]
    names = [function["name"] for function in functions]
    typed = [
        pair
        for function in functions
        for pair in typed_parameters(function["name"], function.get("parameters"))
    ]
    grammar = grammar_for(served.chat_template(), names, typed=typed)
    return Calling(grammar=grammar, parallel=parallel)


def check_tools(tools: Sequence[dict[str, Any]]) -> None:
    """Refuse tools that have no name to be called by.

    Raises:
        InvalidRequestError: naming the field.
    """
    for index, tool in enumerate(tools):
        if tool.get("type", "function") != "function":
            raise InvalidRequestError(
                f"tools.{index} is of type {tool['type']!r}; this server offers functions only",
                param=f"tools.{index}.type",
            )
        function = tool.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not name:
            param = f"tools.{index}.function.name"
            raise InvalidRequestError(f"{param} is {name!r}; it must be a string", param=param)
