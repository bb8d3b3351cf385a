"""Shape what the engine generates as an Anthropic message, whole or as events, and its errors.

    message_start  (content_block_start  content_block_delta*  content_block_stop)*
    message_delta  message_stop,  with `ping` wherever there is nothing else to say

Knows nothing of how the prompt came about.
"""

from __future__ import annotations

import json
import secrets
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Response
from litestar.exceptions import HTTPException

from serve.api.answer_reader import MoreArguments, PlacedCall, Quiet
from serve.api.anthropic_schemas import (
    AnthropicError,
    AnthropicErrorBody,
    AnthropicEvent,
    AnthropicUsage,
    MessageBody,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
)
from serve.api.disconnect import unless_disconnected
from serve.api.errors import describe
from serve.api.generation import collect, merged
from serve.api.sse import EVENTS, AnswerStream
from serve.chat.reasoning import Thought
from serve.engine.errors import PromptTooLongError
from serve.engine.request import Finished

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping

    from litestar import Request

    from serve.api.answer_reader import AnswerReader, Piece
    from serve.api.anthropic_schemas import Block
    from serve.api.served import Served
    from serve.engine.engine import Generation


_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


async def respond(
    request: Request[Any, Any, Any],
    served: Served,
    generation: Generation,
    reader: AnswerReader,
    *,
    num_prompt_tokens: int | None,
) -> Response[MessageBody]:
    """Return the answer; given `num_prompt_tokens`, as a stream, whose first event has it."""
    if num_prompt_tokens is not None:
        frames = _frames(_events(served, generation, reader, num_prompt_tokens))
        return AnswerStream(frames, [generation], EVENTS)
    try:
        outcome = await unless_disconnected(request, collect(generation))
    finally:
        generation.cancel()
    content = _blocks(reader.read_whole(outcome))
    reason, sequence = _ending(reader, outcome.finished)
    return Response(
        MessageBody(
            id=_new_id(),
            model=served.model_id,
            content=content,
            usage=_usage(outcome.finished),
            stop_reason=reason,
            stop_sequence=sequence,
        )
    )


def refuse(request: Request[Any, Any, Any], error: Exception) -> Response[AnthropicError]:
    """Return an error as this dialect spells it; an exception handler."""
    failure = describe(error)
    if failure.status >= 500:
        request.app.state.log_error(request, error)
    return Response(
        _envelope(error),
        status_code=failure.status,
        headers=dict(failure.headers),
        media_type="application/json",
    )


HANDLERS: Mapping[int | type[Exception], Callable[..., Response[Any]]] = {
    Exception: refuse,
    HTTPException: refuse,
}


def _envelope(error: Exception) -> AnthropicError:
    failure = describe(error)
    other = "api_error" if failure.status >= 500 else "invalid_request_error"
    message = failure.body.message
    if isinstance(error, PromptTooLongError):
        # Claude Code looks for these words and then shortens the conversation.
        counts = f"{error.num_prompt_tokens} tokens > {error.context_length} maximum"
        message = f"prompt is too long: {counts}; {message}"
    kind = _ERROR_TYPES.get(failure.status, other)
    return AnthropicError(error=AnthropicErrorBody(type=kind, message=message))


def _blocks(pieces: Iterable[Piece]) -> list[Block]:
    blocks: list[Block] = []
    for piece in pieces:
        match piece:
            case PlacedCall():
                arguments = _object(piece.arguments)
                blocks.append(ToolUseBlock(id=piece.id, name=piece.name, input=arguments))
            case Thought():
                blocks.append(ThinkingBlock(thinking=piece.text))
            case str() if piece:
                blocks.append(TextBlock(text=piece))
    return blocks


def _object(arguments: str) -> msgspec.Raw:
    """Return the arguments of a call; none where it breaks off, which `stop_reason` says."""
    try:
        json.loads(arguments)
    except ValueError:
        return msgspec.Raw(b"{}")
    return msgspec.Raw(arguments.encode())


def _usage(finished: Finished) -> AnthropicUsage:
    return AnthropicUsage(
        input_tokens=finished.num_prompt_tokens - finished.num_cached_tokens,
        cache_read_input_tokens=finished.num_cached_tokens,
        output_tokens=finished.num_completion_tokens,
    )


def _ending(reader: AnswerReader, finished: Finished) -> tuple[str, str | None]:
    """Return why the answer ended, and the stop sequence if it was one."""
    reason = _STOP_REASONS[reader.finish_reason(finished)]
    if reason == "end_turn" and finished.stop_text is not None:
        return "stop_sequence", finished.stop_text
    return reason, None


async def _frames(events: AsyncGenerator[AnthropicEvent, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        try:
            async for event in events:
                yield _frame(event.type, event)
        except Exception as error:  # noqa: BLE001  # headers are out: this is the error's last way
            yield _frame("error", _envelope(error))


def _frame(name: str, body: msgspec.Struct) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(body))


async def _events(
    served: Served, generation: Generation, reader: AnswerReader, num_prompt_tokens: int
) -> AsyncGenerator[AnthropicEvent, None]:
    usage = AnthropicUsage(input_tokens=num_prompt_tokens, output_tokens=0)
    message = MessageBody(id=_new_id(), model=served.model_id, content=[], usage=usage)
    yield AnthropicEvent(type="message_start", message=message)
    blocks = _BlockEvents()
    ping_seconds = served.settings.server.ping_seconds
    quiet = Quiet(ping_seconds)
    items = merged([generation], ping_seconds=ping_seconds)
    async with aclosing(items):
        async for item in items:
            if item is None:
                yield AnthropicEvent(type="ping")
                continue
            event = item[1]
            pieces = reader.read(event)
            for piece in pieces:
                for each in blocks.add(piece):
                    yield each
            if quiet.needs_ping(said=bool(pieces)):
                yield AnthropicEvent(type="ping")
            if isinstance(event, Finished):
                for each in blocks.close():
                    yield each
                reason, sequence = _ending(reader, event)
                ending = {"stop_reason": reason, "stop_sequence": sequence}
                yield AnthropicEvent(type="message_delta", delta=ending, usage=_usage(event))
    yield AnthropicEvent(type="message_stop")


class _BlockEvents:
    """Opens and closes blocks around what comes: text, thoughts and arguments go on in theirs."""

    def __init__(self) -> None:
        self._index = 0
        self._open: type | None = None  # the kind of piece that the open block takes

    def add(self, piece: Piece) -> Iterator[AnthropicEvent]:
        """Yield the events of a piece."""
        if not isinstance(piece, MoreArguments) and (
            isinstance(piece, PlacedCall) or self._open is not type(piece)
        ):
            yield from self._begin(piece)
        match piece:
            case PlacedCall() if not piece.arguments:
                return
            case PlacedCall():
                yield self._delta(type="input_json_delta", partial_json=piece.arguments)
            case MoreArguments():
                yield self._delta(type="input_json_delta", partial_json=piece.text)
            case Thought():
                yield self._delta(type="thinking_delta", thinking=piece.text)
            case _:
                yield self._delta(type="text_delta", text=piece)

    def close(self) -> Iterator[AnthropicEvent]:
        """Yield the end of the block that is open, if one is."""
        if self._open is not None:
            yield AnthropicEvent(type="content_block_stop", index=self._index)
            self._index += 1
            self._open = None

    def _begin(self, piece: Piece) -> Iterator[AnthropicEvent]:
        yield from self.close()
        self._open = type(piece)
        block = _opening(piece)
        yield AnthropicEvent(type="content_block_start", index=self._index, content_block=block)

    def _delta(self, **delta: str) -> AnthropicEvent:
        return AnthropicEvent(type="content_block_delta", index=self._index, delta=delta)


def _opening(piece: Piece) -> Block:
    """Return the empty block that a piece goes into."""
    match piece:
        case PlacedCall():
            return ToolUseBlock(id=piece.id, name=piece.name, input={})
        case Thought():
            return ThinkingBlock(thinking="")
    return TextBlock(text="")


def _new_id() -> str:
    return f"msg_{secrets.token_hex(12)}"
