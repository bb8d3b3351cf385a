"""Send requests at their times, and note when each piece of an answer comes.

Either a number of users who ask again when answered, or arrivals at given times whatever the
server does. Knows no percentiles.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

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
    `cancelled` where the session gave up on purpose.
    """

    label: str
    total_seconds: float
    piece_seconds: tuple[float, ...]
    num_tokens: int
    error: str | None = None


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
    pieces: list[float] = []
    num_tokens = 0
    error = None
    started = time.perf_counter()
    try:
        async with asyncio.timeout(ask.cancel_after_seconds):
            num_tokens = await _read(client, ask, lambda: pieces.append(time.perf_counter()))
    except TimeoutError:
        error = "cancelled"
    except ClientError as failure:
        error = type(failure).__name__
    return Measured(
        label=ask.label,
        total_seconds=time.perf_counter() - started,
        piece_seconds=tuple(at - started for at in pieces),
        num_tokens=num_tokens or len(pieces),
        error=error,
    )


async def _read(client: AsyncClient, ask: Ask, on_piece: Callable[[], None]) -> int:
    """Read an answer; return its tokens as the server counts them, 0 where it does not."""
    async with await _send(client, ask) as stream:
        async for chunk in stream:
            if chunk.text:
                on_piece()
    return stream.usage.completion_tokens if stream.usage else 0


async def _send(
    client: AsyncClient, ask: Ask
) -> AsyncStream[wire.ChatChunk] | AsyncStream[wire.Completion] | AsyncStream[wire.Infill]:
    options: Options = {"max_tokens": ask.max_tokens, "temperature": 0.0}
    if ask.kind == "chat":
        return await client.stream_chat(ask.prompt, **options)
    if ask.kind == "fim":
        return await client.stream_fim(ask.prompt, ask.suffix, **options)
    return await client.stream_complete(ask.prompt, suffix=ask.suffix or None, **options)
