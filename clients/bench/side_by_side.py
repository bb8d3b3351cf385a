"""A comparison from beginning to end: start the peers, let them take turns, keep the result.

Knows the order of things; the parts do the work.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from clients.bench import comparison, launch, machine, plot, rounds
from clients.bench.comparison import Comparison
from clients.bench.standing import standing
from clients.errors import ClientError
from clients.policy import NO_RETRIES, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from clients.async_client import AsyncClient
    from clients.bench.launch import Running
    from clients.bench.peers import Peer
    from clients.bench.rounds import Plan

MAX_IDLE_CPU = 0.05


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be compared, and how. `model_file` is for servers that are started here.

    `model_name` is sent with each request; None takes the first that each server lists.
    """

    peers: Sequence[Peer]
    plan: Plan
    folder: Path
    notes: Sequence[str] = ()
    model_file: Path | None = None
    model_name: str | None = None
    api_key: str | None = None
    timeout: Timeout = Timeout()
    start_seconds: float = 300.0


def run(
    wish: Wish, *, note: Callable[[str], None], on_progress: Callable[[int, int], None]
) -> Comparison:
    """Compare, write the result into the folder and return it.

    Raises:
        ClientError: a server that was asked for cannot be started or used.
    """
    created_at = datetime.now(UTC)
    notes = list(wish.notes)

    def say(text: str) -> None:
        notes.append(text)
        note(text)

    logs = wish.folder / "logs"
    with launch.running(
        wish.peers, wish.model_file, logs, start_seconds=wish.start_seconds, note=say
    ) as servers:
        try:
            result = asyncio.run(_compare(wish, servers, created_at, notes, on_progress))
        except* ClientError as failures:
            raise failures.exceptions[0] from None
    comparison.write(result, wish.folder)
    if not plot.draw(result, wish.folder / "plot.png"):
        note('no plot: nothing was measured, or matplotlib is missing (the extra "bench")')
    return result


async def _compare(
    wish: Wish,
    servers: Sequence[Running],
    created_at: datetime,
    notes: Sequence[str],
    on_progress: Callable[[int, int], None],
) -> Comparison:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(_client(wish, server)) for server in servers]
        contenders, sizes, routes = await rounds.prepare(servers, clients, wish.plan)
        samples, idle_cpu = await rounds.play(contenders, wish.plan, sizes, on_progress=on_progress)
    plan = msgspec.structs.replace(wish.plan, sizes=sizes)
    file = wish.model_file
    return Comparison(
        created_at=created_at.isoformat(timespec="seconds"),
        machine=machine.describe(),
        model=machine.describe_model(file) if file else None,
        peers=[comparison.told(server.peer) for server in servers],
        settings=msgspec.to_builtins(plan),
        notes=[*notes, *routes, *_busy(idle_cpu)],
        idle_cpu=idle_cpu,
        rows=standing(samples, [server.peer.name for server in servers]),
        samples=samples,
    )


def _client(wish: Wish, server: Running) -> AsyncClient:
    """Return a client that connects for each request.

    A server may close the connection of a stream that ended; a request sent into it at that
    moment would count as the server's failure.
    """
    import httpx

    from clients.async_client import AsyncClient

    return AsyncClient(
        server.url,
        api_key=wish.api_key,
        model=wish.model_name,
        timeout=wish.timeout,
        retry=NO_RETRIES,
        transport=httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0)),
    )


def _busy(idle_cpu: dict[str, float]) -> list[str]:
    """Warn of servers whose waiting took something from the others."""
    return [
        f"{name} used {share:.0%} of a core while others had their turn"
        for name, share in idle_cpu.items()
        if share > MAX_IDLE_CPU
    ]
