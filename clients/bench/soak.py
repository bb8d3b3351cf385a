"""Keep a server busy for long, with clients that change their minds, and see whether it stays well.

    python -m clients.bench.soak --model FILE [--minutes 10] [--users 6] [--seed 0] [--json]

Starts `python -m serve` (or `--serve COMMAND`) with a small prefix cache, so that its memory is
full early. Exit status 1 when a request failed that nobody broke off, when a seat stays taken, or
when the process grew in the second half. Knows what is sent; how, the load generator knows.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import msgspec

from clients.async_client import AsyncClient
from clients.bench import launch
from clients.bench.load import Measured, one
from clients.bench.peers import Peer
from clients.bench.scenarios import Ask, make
from clients.bench.summary import percentile
from clients.errors import UsageError
from clients.policy import RetryPolicy

COMMAND = (
    "python -m serve --model {model} --port {port} --no-tune --no-disk-cache "
    "--set engine.cache_memory_bytes=33554432 --set engine.context_length=4096"
)
SCENARIOS = ("chat", "shared-prefix", "mixed", "mixed", "fim")
DROPPED_SHARE = 0.4
LONGEST_PATIENCE_SECONDS = 3.0
SAMPLE_SECONDS = 2.0
DRAIN_SECONDS = 30.0
MOST_GROWTH_BYTES = 32 * 2**20  # allocators keep some; a leak of a request's cells is far more


class Soak(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent and how the server bore it; `rss_bytes` are medians of the four quarters."""

    seconds: float
    outcomes: dict[str, int]
    num_tokens: int
    first_token_p95_seconds: float
    rss_bytes: list[int]
    busy_slots: int
    problems: list[str]


def asks(seed: int) -> list[Ask]:
    """Return a shuffled thousand, of which many are broken off at a random time."""
    draw = random.Random(seed)  # noqa: S311  # load, not secrets
    found = []
    for number, scenario in enumerate(SCENARIOS):
        for ask in make(scenario, 200, seed * 10 + number):
            drops = draw.random() < DROPPED_SHARE
            patience = draw.uniform(0.0, LONGEST_PATIENCE_SECONDS) if drops else None
            found.append(msgspec.structs.replace(ask, cancel_after_seconds=patience))
    draw.shuffle(found)
    return found


async def soak(running: launch.Running, *, seconds: float, num_users: int, seed: int) -> Soak:
    """Load the server for so long, wait until it rests, and judge."""
    began = time.monotonic()
    measured: list[Measured] = []
    sizes: list[int] = []
    async with AsyncClient(f"{running.url}/v1", retry=RetryPolicy(max_retries=0)) as client:
        kinds, note = await _possible(client), measured.append

        async def user(number: int) -> None:
            for ask in itertools.cycle(asks(seed * 1000 + number)):
                if ask.kind in kinds:
                    note(await one(client, ask))

        async def watch() -> None:
            while True:
                sizes.append(_resident_bytes(running))
                _show(measured, sizes[-1], began + seconds - time.monotonic())
                await asyncio.sleep(SAMPLE_SECONDS)

        with contextlib.suppress(TimeoutError):  # which breaks off what still runs
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                group.create_task(watch())
                for number in range(num_users):
                    group.create_task(user(number))
    busy = await _busy_slots(running.url)
    return judge(measured, sizes, busy, time.monotonic() - began)


async def _possible(client: AsyncClient) -> set[str]:
    """Leave gaps out where the model cannot fill them."""
    gap = make("fim", 1, 0)[0]
    return {"chat", "complete", *(() if (await one(client, gap)).error else ("fim",))}


def _resident_bytes(running: launch.Running) -> int:
    assert running.process is not None  # started here
    statm = Path(f"/proc/{running.process.pid}/statm").read_text(encoding="ascii")
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _show(measured: list[Measured], size: int, left: float) -> None:
    text = f"{len(measured)} requests, {size / 2**20:.0f} MiB, {left:.0f} s to go"
    print(f"\r{text:60}", end="", file=sys.stderr, flush=True)


async def _busy_slots(url: str) -> int:
    """Count the seats that are still taken once everyone has gone."""
    deadline = time.monotonic() + DRAIN_SECONDS
    async with httpx.AsyncClient() as http:
        while True:
            slots = (await http.get(f"{url}/slots", timeout=10)).json()
            busy: int = sum(slot["is_processing"] for slot in slots)
            if not busy or time.monotonic() > deadline:
                return busy
            await asyncio.sleep(0.2)


def judge(measured: list[Measured], sizes: list[int], busy: int, seconds: float) -> Soak:
    """Say what is not well: failures, seats still `busy`, growth of the resident `sizes`."""
    outcomes = Counter(each.error or "answered" for each in measured)
    quarter = max(len(sizes) // 4, 1)
    rss = [int(statistics.median(sizes[i * quarter :][:quarter] or sizes)) for i in range(4)]
    growth = rss[3] - rss[1]
    firsts = [each.first_token_seconds for each in measured if not each.error]
    problems = [
        f"{num} requests ended with {name}"
        for name, num in outcomes.items()
        if name not in {"answered", "cancelled"}
    ]
    if not firsts:
        problems.append("no request was answered")
    if busy:
        problems.append(f"{busy} seats are taken {DRAIN_SECONDS:g} s after the last client left")
    if growth > MOST_GROWTH_BYTES:
        problems.append(f"it grew by {growth / 2**20:.0f} MiB from the second quarter to the last")
    return Soak(
        seconds=round(seconds, 1),
        outcomes=dict(outcomes),
        num_tokens=sum(each.num_tokens for each in measured),
        first_token_p95_seconds=round(percentile(firsts, 95), 3) if firsts else 0.0,
        rss_bytes=rss,
        busy_slots=busy,
        problems=problems,
    )


def main() -> int:
    """Start the server, soak it, report; 2 when it cannot be started."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a GGUF")
    parser.add_argument("--serve", default=COMMAND, help="with {model} and {port}")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--users", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    args = parser.parse_args()
    peer = Peer(name="soaked", command=args.serve)
    with tempfile.TemporaryDirectory() as logs:
        try:
            with launch.running([peer], args.model, Path(logs), start_seconds=120, note=print) as [
                running
            ]:
                done = asyncio.run(
                    soak(running, seconds=args.minutes * 60, num_users=args.users, seed=args.seed)
                )
        except UsageError as error:
            print(error, file=sys.stderr)
            return 2
    print(file=sys.stderr)
    print(msgspec.json.format(msgspec.json.encode(done)).decode() if args.json else _table(done))
    return 1 if done.problems else 0


def _table(done: Soak) -> str:
    sizes = ", ".join(f"{each / 2**20:.0f}" for each in done.rss_bytes)
    counts = ", ".join(f"{num} {name}" for name, num in sorted(done.outcomes.items()))
    lines = [
        f"{done.seconds:.0f} s: {counts}; {done.num_tokens} tokens",
        f"first token p95 {done.first_token_p95_seconds:.2f} s; resident MiB by quarter: {sizes}",
        *(done.problems or ["nothing failed, every seat is free, memory is steady"]),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
