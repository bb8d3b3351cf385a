"""`bench`: put a server under load and write how long its users waited."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from clients.bench.scenarios import SCENARIOS
from clients.commands.connection import add_server_flags, async_client, connected
from clients.commands.progress import progress
from clients.commands.terminal import note, write_json
from clients.errors import ClientError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from clients.async_client import AsyncClient
    from clients.bench.load import Measured
    from clients.bench.scenarios import Ask
    from clients.bench.summary import Spread, Summary

EXAMPLES = """\
examples:
  python -m clients bench --scenario mixed --requests 32 --users 4
  python -m clients bench --rate 0.5 --json
  python -m clients bench --replay session.jsonl
"""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run. `arrivals` says how requests came; `wall_seconds` is the run's length."""

    base_url: str
    model: str | None
    scenario: str
    arrivals: str
    seed: int
    wall_seconds: float
    groups: list[Summary]


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    listing = "; ".join(f"{name}: {phrase}" for name, phrase in SCENARIOS.items())
    add = parser.add_argument
    add("--scenario", choices=SCENARIOS, default="chat", help=listing)
    add(
        "--replay",
        type=Path,
        metavar="FILE",
        help="a recorded session instead: one JSON object a line with kind, prompt, suffix, "
        "max_tokens, at_seconds, cancel_after_seconds",
    )
    add("--requests", type=int, default=16, metavar="N", help="default: %(default)s")
    add("--users", type=int, default=1, metavar="N", help="users who ask in turn (default: 1)")
    add("--rate", type=float, metavar="R", help="instead of users: Poisson arrivals a second")
    add("--seed", type=int, default=0, metavar="N", help="which requests (default: 0)")
    add("--max-first-token", type=float, default=2.0, metavar="S", help="for goodput: 2 s")
    add("--max-inter-token", type=float, default=0.2, metavar="S", help="for goodput: 0.2 s")
    add("--json", action="store_true", help="write the report as JSON")
    add_server_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Run the load; status 1 when no request was answered."""
    for name in ("requests", "users", "rate"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            raise UsageError(f"--{name} is {value}; it must be above 0")
    asks = _asks(args)
    with connected(args) as client:
        model = client.model
    with progress("asking") as on_progress:
        measured, wall_seconds = asyncio.run(_measure(args, model, asks, on_progress))
    report = _report(args, model, measured, wall_seconds)
    if args.json:
        write_json(report)
    else:
        _show(report)
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


def _show(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"{report.scenario}, {report.arrivals}, {report.model or report.base_url}"
    table = Table(title=title, title_justify="left")
    for heading in ("group", "seconds", "p50", "p90", "p95", "p99"):
        table.add_column(heading)
    for group in report.groups:
        table.add_row(group.label, "first token", *_shown(group.first_token_seconds))
        table.add_row("", "between tokens", *_shown(group.inter_token_seconds))
        table.add_row("", "whole answer", *_shown(group.total_seconds), end_section=True)
    console = Console(markup=False, highlight=False)
    console.print(table)
    for group in report.groups:
        failures = "".join(f", {number} {kind}" for kind, number in group.errors.items())
        console.print(
            f"{group.label}: {group.num_answered} of {group.num_requests} answered{failures}; "
            f"{group.tokens_per_second:.1f} tok/s, goodput {group.goodput_per_second:.2f}/s"
        )


def _shown(spread: Spread | None) -> tuple[str, ...]:
    if spread is None:
        return ("-",) * 4
    return tuple(f"{value:.3f}" for value in (spread.p50, spread.p90, spread.p95, spread.p99))
