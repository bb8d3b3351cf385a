"""The synchronous client: runs calls over httpx, one at a time.

Knows no routes' details: `calls` builds and reads, `policy` decides, this file only sends.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Self, Unpack

import httpx

from clients import DEFAULT_BASE_URL, calls, exchange, wire
from clients.errors import ClientError, from_response
from clients.policy import RetryPolicy, Timeout
from clients.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from clients.calls import Answer, Call, ChatOptions, Chunk, Messages, Options, StreamCall


class Client:
    """Talk to one server. `model` is sent with every request that names none itself.

    `transport` replaces the network, for tests and for special set-ups.

        with Client("http://127.0.0.1:8080/v1") as client:
            print(client.chat("Write a haiku about rivers.").text)
    """

    def __init__(
        self,
        base_url: str = DEFAULT_BASE_URL,
        *,
        api_key: str | None = None,
        model: str | None = None,
        timeout: Timeout = Timeout(),  # noqa: B008  # frozen
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  # frozen
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.address = exchange.address(base_url, api_key)
        self.model = model
        self._timeout = timeout
        self._retry = retry
        self._http = httpx.Client(transport=transport)

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
        """Close every connection."""
        self._http.close()

    def health(self) -> wire.Health:
        """Ask whether the server is up."""
        return self.run(calls.health())

    def models(self) -> list[wire.Model]:
        """List what is served."""
        return self.run(calls.models())

    def props(self) -> wire.Props:
        """Ask for the model's properties."""
        return self.run(calls.props())

    def tokenize(
        self, content: str, *, add_special: bool = False, parse_special: bool = True
    ) -> list[int]:
        """Turn text into token ids."""
        call = calls.tokenize(content, add_special=add_special, parse_special=parse_special)
        return self.run(call)

    def detokenize(self, token_ids: Sequence[int]) -> str:
        """Turn token ids into text."""
        return self.run(calls.detokenize(token_ids))

    def apply_template(self, messages: Messages) -> str:
        """Render messages with the model's own chat template."""
        return self.run(calls.apply_template(messages))

    def embeddings(self, texts: Sequence[str], **options: Unpack[Options]) -> list[list[float]]:
        """Embed texts; the vectors come in the order of the texts."""
        return self.run(calls.embeddings(texts, calls.named(options, self.model)))

    def chat(self, messages: Messages, **options: Unpack[ChatOptions]) -> wire.ChatCompletion:
        """Answer a conversation; a bare string is one user turn."""
        return self.run(calls.chat(messages, calls.named(options, self.model)))

    def chat_as(
        self, messages: Messages, answer_type: type[Answer], **options: Unpack[ChatOptions]
    ) -> Answer:
        """Answer a conversation with a value of a msgspec Struct, dataclass or TypedDict."""
        call = calls.chat_as(messages, answer_type, calls.named(options, self.model))
        return self.run(call)

    def stream_chat(
        self, messages: Messages, **options: Unpack[ChatOptions]
    ) -> Stream[wire.ChatChunk]:
        """Answer a conversation as it is written."""
        return self.stream(calls.chat_stream(messages, calls.named(options, self.model)))

    def complete(
        self, prompt: str, *, suffix: str | None = None, **options: Unpack[Options]
    ) -> wire.Completion:
        """Continue a prompt, towards `suffix` where one is given."""
        return self.run(calls.complete(prompt, suffix, calls.named(options, self.model)))

    def stream_complete(
        self, prompt: str, *, suffix: str | None = None, **options: Unpack[Options]
    ) -> Stream[wire.Completion]:
        """Continue a prompt as it is written."""
        return self.stream(calls.complete_stream(prompt, suffix, calls.named(options, self.model)))

    def fim(
        self,
        prefix: str,
        suffix: str,
        *,
        context: Sequence[Mapping[str, str]] = (),
        **options: Unpack[Options],
    ) -> wire.Infill:
        """Fill the gap between prefix and suffix."""
        return self.run(calls.fim(prefix, suffix, context, calls.named(options, self.model)))

    def stream_fim(
        self,
        prefix: str,
        suffix: str,
        *,
        context: Sequence[Mapping[str, str]] = (),
        **options: Unpack[Options],
    ) -> Stream[wire.Infill]:
        """Fill the gap as it is written."""
        return self.stream(
            calls.fim_stream(prefix, suffix, context, calls.named(options, self.model))
        )

    def run(self, call: Call[Answer]) -> Answer:
        """Send a call and return its answer.

        Raises:
            ClientError: in one of its forms; see `clients.errors`.
        """
        return call.decode(self._open(call.request, stream=False).content)

    def stream(self, call: StreamCall[Chunk]) -> Stream[Chunk]:
        """Send a call and return its running answer, headers received.

        Raises:
            ClientError: in one of its forms; see `clients.errors`.
        """
        return Stream(call, self._open(call.request, stream=True))

    def _open(self, request: calls.Request, *, stream: bool) -> httpx.Response:
        """Send until it works or the policy gives up."""
        outgoing = exchange.to_httpx(request, self.address, self._timeout)
        num_tried = 0
        while True:
            try:
                return self._send(outgoing, stream=stream)
            except ClientError as failure:
                num_tried += 1
                delay = self._retry.delay_seconds(
                    failure, num_tried=num_tried, is_safe=request.is_safe, random=random.random
                )
                if delay is None:
                    raise
            time.sleep(delay)

    def _send(self, outgoing: httpx.Request, *, stream: bool) -> httpx.Response:
        """Send; a kept connection that proves closed leaves the pool, and the next one is tried."""
        while True:
            journey = exchange.Journey()
            outgoing.extensions["trace"] = journey.see
            try:
                response = self._http.send(outgoing, stream=True)
                if not (stream and response.is_success):
                    response.read()
            except httpx.HTTPError as error:
                if journey.ended_on_a_stale_connection(error):
                    continue
                raise exchange.failure_of(error, outgoing) from error
            if not response.is_success:
                raise from_response(response.status_code, response.headers, response.content)
            return response
