"""The result of a comparison: as a value, as Markdown, as files.

Knows how results are written, not how they came about.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from clients.bench.rounds import Sample  # noqa: TC001  # msgspec reads the field types
from clients.bench.standing import Row  # noqa: TC001  # as above

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from clients.bench.peers import Peer
    from clients.bench.standing import Cell

SCHEMA_VERSION = 1
ARROWS = {"higher": " ↑", "lower": " ↓", "neither": ""}
TIMES = "\N{MULTIPLICATION SIGN}"


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run. `settings` are its sizes; `idle_cpu` the parts of a core that waiting took."""

    created_at: str
    machine: dict[str, Any]
    model: dict[str, Any] | None
    peers: list[dict[str, str]]
    settings: dict[str, Any]
    notes: list[str]
    idle_cpu: dict[str, float]
    rows: list[Row]
    samples: list[Sample]
    schema_version: int = SCHEMA_VERSION


def told(peer: Peer) -> dict[str, str]:
    """Return what is known about a peer."""
    fields = {"name": peer.name, "url": peer.url, "command": peer.command, "version": peer.version}
    return {name: value for name, value in fields.items() if value}


def markdown(result: Comparison) -> str:
    """Return the table, and around it what is needed to believe it."""
    names = [peer["name"] for peer in result.peers]
    num_rounds = result.settings["num_rounds"]
    reading = (
        f"Median (lowest to highest) of {num_rounds} round(s), peers in turn. {TIMES} is the "
        f"median of the rounds' ratios to {names[0]}; ↑ more is better, ↓ less is."
    )
    said = [*result.notes, *_gaps(result.samples), *_failures(result.samples)]
    notes = [f"- {note}" for note in said]
    table = _table(result.rows, names)
    return "\n".join(
        ["# Side by side", "", *_circumstances(result), "", *table, "", reading, "", *notes, ""]
    )


def write(result: Comparison, folder: Path) -> None:
    """Write results.json and results.md."""
    folder.mkdir(parents=True, exist_ok=True)
    document = msgspec.json.format(msgspec.json.encode(result), indent=2)
    (folder / "results.json").write_bytes(document + b"\n")
    (folder / "results.md").write_text(markdown(result), encoding="utf-8")


def _circumstances(result: Comparison) -> list[str]:
    lines = [_machine(result), "", ", ".join(map(" ".join, result.machine["versions"].items()))]
    if result.model:
        size = f"{result.model['size_bytes'] / 1e6:.0f} MB"
        sha256 = result.model["sha256"][:16]
        lines += ["", f"Model {result.model['file']}, {size}, sha256 {sha256}…"]
    for peer in result.peers:
        version = f" ({peer['version']})" if "version" in peer else ""
        lines += ["", f"**{peer['name']}**{version}: `{peer.get('command') or peer['url']}`"]
    return lines


def _machine(result: Comparison) -> str:
    machine, git = result.machine, result.machine["git"]
    parts = [result.created_at]
    if git["commit"]:
        parts.append(f"commit {git['commit'][:12]}{' with changes' if git['dirty'] else ''}")
    parts += [machine["cpu"], f"{machine['num_cores']} cores"]
    if machine["memory_bytes"]:
        parts.append(f"{machine['memory_bytes'] / 2**30:.0f} GiB")
    return ", ".join([*parts, machine["system"]])


def _table(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    lines = [
        f"| | unit | {' | '.join(names)} |",
        f"|---|---|{'---|' * len(names)}",
    ]
    for row in rows:
        cells = " | ".join(_shown(row.cells.get(name)) for name in names)
        lines.append(
            f"| {row.figure.title}{ARROWS[row.figure.better]} | {row.figure.unit} | {cells} |"
        )
    return lines


def _shown(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    ratio = f" {TIMES}{cell.ratio:.2f}" if cell.ratio is not None else ""
    return f"{_number(cell.median)} ({_number(cell.low)} to {_number(cell.high)}){ratio}"


def _number(value: float) -> str:
    """Show three digits, and whole numbers whole."""
    if value >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}" if value < 1 else f"{value:.2f}"


def _gaps(samples: Sequence[Sample]) -> list[str]:
    """Return one line for each figure that a server gives no counts for."""
    missing = {
        (sample.peer, sample.scenario, name): None
        for sample in samples
        for name, value in sample.figures.items()
        if value is None
    }
    return [
        f"{peer}, {scenario}: the server does not report {name.replace('_', ' ')}"
        + ("; pieces of text were counted instead" if name == "tokens" else "")
        for peer, scenario, name in missing
    ]


def _failures(samples: Sequence[Sample]) -> list[str]:
    """Return one line for each way in which a turn failed; none is passed over."""
    failed = Counter((s.peer, s.scenario, s.error) for s in samples if s.error)
    return [
        f"{peer}, {scenario}: failed (rounds: {number}): {error}"
        for (peer, scenario, error), number in failed.items()
    ]
