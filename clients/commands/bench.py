"""`bench`: put a server under load and write how long its users waited.

Several servers at a time are `side_by_side`'s; this file only sends them there.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from clients import DEFAULT_BASE_URL
from clients.bench.scenarios import SCENARIOS
from clients.commands import side_by_side
from clients.commands.connection import add_server_flags, async_client, connected
from clients.commands.flags import refuse, require_positive
from clients.commands.progress import progress
from clients.commands.terminal import note, write_json
from clients.errors import ClientError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from clients.async_client import AsyncClient
    from clients.bench.load import Measured
    from clients.bench.load_report import Report
    from clients.bench.scenarios import Ask

EXAMPLES = """\
examples:
  python -m clients bench --scenario mixed --requests 32 --users 4
  python -m clients bench --rate 0.5 --json
  python -m clients bench --replay session.jsonl
  python -m clients bench --compare ours=http://127.0.0.1:8080 --compare theirs=http://127.0.0.1:8081
  python -m clients bench --present --model model.gguf --rounds 5
  python -m clients bench --suite --model model.gguf --output results
  python -m clients bench --model model.gguf \\
      --serve 'edgesmith=python -m serve --model {model} --port {port}' \\
      --serve 'llama-server=llama-server -m {model} --port {port} -c 8192'
"""

OF_ONE_SERVER = {
    "scenario": "chat",
    "replay": None,
    "requests": 16,
    "users": 1,
    "rate": None,
    "max_first_token": 2.0,
    "max_inter_token": 0.2,
    "plot": None,
    "base_url": DEFAULT_BASE_URL,
}
"""Flags that mean nothing side by side, and their defaults."""


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    listing = "; ".join(f"{name}: {phrase}" for name, phrase in SCENARIOS.items())
    parser.set_defaults(**OF_ONE_SERVER)
    add = parser.add_argument
    add("--json", action="store_true", help="write the result as JSON")
    add("--seed", type=int, metavar="N", help="which requests (default: 0; of several: the time)")
    add = parser.add_argument_group("load on one server").add_argument
    add("--scenario", choices=SCENARIOS, help=f"default: chat; {listing}")
    add(
        "--replay",
        type=Path,
        metavar="FILE",
        help="a recorded session instead: one JSON object a line with kind, prompt, suffix, "
        "messages, max_tokens, at_seconds, cancel_after_seconds",
    )
    add("--requests", type=int, metavar="N", help="default: 16")
    add("--users", type=int, metavar="N", help="users who ask in turn (default: 1)")
    add("--rate", type=float, metavar="R", help="instead of users: Poisson arrivals a second")
    add("--max-first-token", type=float, metavar="S", help="for goodput: 2 s")
    add("--max-inter-token", type=float, metavar="S", help="for goodput: 0.2 s")
    add("--plot", type=Path, metavar="FILE", help="draw the waiting, as PNG, SVG or PDF")
    side_by_side.add_flags(parser)
    add_server_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Run the load; status 1 when no request was answered."""
    if side_by_side.is_asked_for(args):
        refuse(args, OF_ONE_SERVER, "for one server, without --suite, --compare and so on")
        return side_by_side.run(args)
    refuse(args, side_by_side.DEFAULTS, "for several: add --suite, --present, --serve or --compare")
    require_positive(args, "requests", "users", "rate")
    args.seed = args.seed or 0
    asks = _asks(args)
    with connected(args) as client:
        model = client.model
    with progress("asking") as on_progress:
        measured, wall_seconds = asyncio.run(_measure(args, model, asks, on_progress))
    report = _report(args, model, measured, wall_seconds)
    if args.json:
        write_json(report)
    else:
        from clients.bench.load_report import show

        show(report)
    if args.plot:
        from clients.bench.load_plot import draw

        draw(measured, f"{report.base_url} {report.scenario}, {report.arrivals}", args.plot)
        note(f"wrote {args.plot}")
    return 0 if any(group.num_answered for group in report.groups) else 1


def _asks(args: argparse.Namespace) -> list[Ask]:
    from clients.bench import scenarios

    if args.replay:
        return scenarios.recorded(args.replay)
    return scenarios.make(args.scenario, args.requests, args.seed)


async def _measure(
    args: argparse.Namespace,
    model: str | None,
    asks: Sequence[Ask],
    on_progress: Callable[[int, int], None],
) -> tuple[list[Measured], float]:
    """Return the measurements and how long the whole took; the first request only warms up."""
    from clients.bench import load, scenarios
    from clients.policy import NO_RETRIES

    async with async_client(args, model, NO_RETRIES) as client:
        await _warm_up(client)
        started = time.perf_counter()
        if args.replay:
            times: Sequence[float] = [ask.at_seconds for ask in asks]
            measured = await load.open_loop(client, asks, times, on_progress=on_progress)
        elif args.rate:
            times = scenarios.poisson_times(len(asks), args.rate, args.seed)
            measured = await load.open_loop(client, asks, times, on_progress=on_progress)
        else:
            measured = await load.closed_loop(
                client, asks, num_users=args.users, on_progress=on_progress
            )
        return measured, time.perf_counter() - started


async def _warm_up(client: AsyncClient) -> None:
    try:
        await client.complete("def ", max_tokens=1, temperature=0.0)
    except ClientError as error:
        note(f"warming up failed: {error}")


def _report(
    args: argparse.Namespace, model: str | None, measured: list[Measured], wall_seconds: float
) -> Report:
    from clients.bench.load_report import Report
    from clients.bench.summary import Bound, summarize

    bound = Bound(
        first_token_seconds=args.max_first_token, inter_token_seconds=args.max_inter_token
    )
    arrivals = f"poisson {args.rate:g}/s" if args.rate else f"{args.users} users"
    return Report(
        base_url=args.base_url,
        model=model,
        scenario=str(args.replay or args.scenario),
        arrivals="recorded" if args.replay else arrivals,
        seed=args.seed,
        wall_seconds=round(wall_seconds, 3),
        groups=summarize(measured, wall_seconds, bound),
    )
