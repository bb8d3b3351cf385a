"""The result of loading one server: as a value and as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from clients.bench.summary import Spread, Summary


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run. `arrivals` says how requests came; `wall_seconds` is the run's length."""

    base_url: str
    model: str | None
    scenario: str
    arrivals: str
    seed: int
    wall_seconds: float
    groups: list[Summary]


def show(report: Report) -> None:
    """Write the table to stdout."""
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
