"""Send requests at their times, and note when each piece of an answer comes.

Either a number of users who ask again when answered, or arrivals at given times whatever the
server does. Knows no percentiles.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from clients.bench.counts import Counts, count
from clients.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from clients import wire
    from clients.async_client import AsyncClient
    from clients.bench.scenarios import Ask
    from clients.calls import Options
    from clients.streams import AsyncStream


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What one request saw, in seconds since it was sent.

    `piece_seconds` has one entry for each piece of text. `error` is the kind of failure, or
    `cancelled` where the session gave up on purpose. Where the server counts nothing,
    `is_counted` is false, `num_tokens` counts pieces and the prompt's counts are None.
    `num_read_tokens` are those of the prompt that no cache held.
    """

    label: str
    total_seconds: float
    piece_seconds: tuple[float, ...]
    num_tokens: int
    is_counted: bool = False
    num_prompt_tokens: int | None = None
    num_read_tokens: int | None = None
    text: str = ""
    error: str | None = None

    @property
    def first_token_seconds(self) -> float:
        """When the first text came; of an answer without text, when it was over."""
        return self.piece_seconds[0] if self.piece_seconds else self.total_seconds


async def closed_loop(
    client: AsyncClient,
    asks: Sequence[Ask],
    *,
    num_users: int,
    on_progress: Callable[[int, int], None],
) -> list[Measured]:
    """Let so many users work through the requests, each waiting for its answer."""
    waiting = iter(asks)
    measured: list[Measured] = []

    async def user() -> None:
        for ask in waiting:
            measured.append(await one(client, ask))
            on_progress(len(measured), len(asks))

    async with asyncio.TaskGroup() as group:
        for _ in range(num_users):
            group.create_task(user())
    return measured


async def open_loop(
    client: AsyncClient,
    asks: Sequence[Ask],
    times: Sequence[float],
    *,
    on_progress: Callable[[int, int], None],
) -> list[Measured]:
    """Send each request at its time, in seconds from now, however many still wait."""
    started = time.perf_counter()
    measured: list[Measured] = []

    async def arrival(ask: Ask, at: float) -> None:
        await asyncio.sleep(max(0.0, started + at - time.perf_counter()))
        measured.append(await one(client, ask))
        on_progress(len(measured), len(asks))

    async with asyncio.TaskGroup() as group:
        for ask, at in zip(asks, times, strict=True):
            group.create_task(arrival(ask, at))
    return measured


async def one(client: AsyncClient, ask: Ask) -> Measured:
    """Send one request; a failure is a measurement too."""
    pieces: list[tuple[float, str]] = []
    counts = Counts()
    error = None
    started = time.perf_counter()
    try:
        async with asyncio.timeout(ask.cancel_after_seconds):
            counts = await _read(
                client, ask, lambda text: pieces.append((time.perf_counter(), text))
            )
    except TimeoutError:
        error = "cancelled"
    except ClientError as failure:
        error = type(failure).__name__
    return Measured(
        label=ask.label,
        total_seconds=time.perf_counter() - started,
        piece_seconds=tuple(at - started for at, _ in pieces),
        num_tokens=counts.num_tokens or len(pieces),
        is_counted=counts.num_tokens is not None,
        num_prompt_tokens=counts.num_prompt_tokens,
        num_read_tokens=counts.num_read_tokens,
        text="".join(text for _, text in pieces),
        error=error,
    )


async def _read(client: AsyncClient, ask: Ask, on_piece: Callable[[str], None]) -> Counts:
    """Read an answer; return the server's counts."""
    async with await _send(client, ask) as stream:
        async for chunk in stream:
            if chunk.text:
                on_piece(chunk.text)
    return count(stream.usage, stream.timings)


async def _send(
    client: AsyncClient, ask: Ask
) -> AsyncStream[wire.ChatChunk] | AsyncStream[wire.Completion] | AsyncStream[wire.Infill]:
    options: Options = {"max_tokens": ask.max_tokens, "temperature": 0.0, "extra": ask.extra}
    if ask.kind == "chat":
        return await client.stream_chat(ask.messages or ask.prompt, **options)
    if ask.kind == "fim":
        return await client.stream_fim(ask.prompt, ask.suffix, **options)
    return await client.stream_complete(ask.prompt, suffix=ask.suffix or None, **options)
