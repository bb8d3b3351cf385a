"""`doctor`: check a server step by step, measure it, say what to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from clients.commands.connection import add_server_flags, api_key, timeout
from clients.commands.terminal import note, write_json
from clients.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from clients.client import Client
    from clients.doctor.checks import Check
    from clients.doctor.speed import Speed

EXAMPLES = """\
examples:
  python -m clients doctor
  python -m clients doctor --requests 10 --json
"""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """Everything found. `is_healthy`: no check failed; warnings do not count."""

    base_url: str
    model: str | None
    is_healthy: bool
    checks: list[Check]
    speed: Speed | None


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_server_flags(parser)
    parser.add_argument(
        "--requests",
        type=int,
        default=3,
        metavar="N",
        help="how many requests to time (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="write the diagnosis as JSON")


def run(args: argparse.Namespace) -> int:
    """Examine the server; status 1 when a check failed."""
    from clients.client import Client

    if args.requests < 1:
        raise UsageError(f"--requests is {args.requests}; it must be 1 or more")
    key = api_key(args.api_key_file)
    with Client(args.base_url, api_key=key, model=args.model, timeout=timeout(args)) as client:
        diagnosis = examine(client, args.requests)
    if args.json:
        write_json(diagnosis)
    else:
        _show(diagnosis)
    return 0 if diagnosis.is_healthy else 1


def examine(client: Client, num_requests: int) -> Diagnosis:
    """Run the checks in order; without a server or without chat the rest is not tried."""
    from clients.doctor import checks, speed

    found = [checks.reach(client)]
    measured = None
    if found[0].outcome == "ok":
        client.model = client.model or client.models()[0].id
        for check in (checks.context, checks.chat):
            note(f"checking {check.__name__} ...")
            found.append(check(client))
        if found[-1].outcome == "ok":
            for check in (checks.streaming, checks.fim, checks.structured, checks.tools):
                note(f"checking {check.__name__} ...")
                found.append(check(client))
            note("measuring speed ...")
            verdict, measured = speed.judge(client, num_requests)
            found.append(verdict)
    return Diagnosis(
        base_url=client.address.api_url,
        model=client.model,
        is_healthy=all(check.outcome != "failed" for check in found),
        checks=found,
        speed=measured,
    )


def _show(diagnosis: Diagnosis) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{diagnosis.base_url} {diagnosis.model or ''}".strip(), title_justify="left"
    )
    for heading in ("check", "outcome", "found"):
        table.add_column(heading, overflow="fold")
    for check in diagnosis.checks:
        table.add_row(check.name, check.outcome, check.detail)
    console = Console(markup=False, highlight=False)
    console.print(table)
    for check in diagnosis.checks:
        if check.remedy:
            console.print(f"{check.name}: {check.remedy}")
