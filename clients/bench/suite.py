"""The whole benchmark of one model: each scenario beside the peers that have something to say.

Scenario by scenario, each into a folder of its own, so that a suite that was broken off goes on
where it was. Knows the order of things; `side_by_side` does the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from clients.bench import comparison, peers, plot, side_by_side, sweep
from clients.bench.comparison import Comparison

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from clients.bench.peers import Peer
    from clients.bench.side_by_side import Wish

PEERS = {
    "decode": ("llama-server", "llama-cpp-python"),
    "decode-many": ("llama-server", "llama-server-best", "llama-cpp-python"),
    "prefill": ("llama-server", "llama-server-best"),
    "mixed": ("llama-server", "llama-server-fim", "llama-server-best"),
    "mixed-edits": ("llama-server", "llama-server-fim", "llama-server-best"),
    "chat-replay": ("llama-server",),
    "keystrokes": ("llama-server-fim",),
    "restart": ("llama-server",),
    "constrained": ("llama-server",),
    "crowded": ("llama-server",),
}
"""Who stands beside us; scenarios that are not named here are ours alone."""


def run(
    wish: Wish,
    environment: Mapping[str, str],
    *,
    note: Callable[[str], None],
    on_progress: Callable[[int, int], None],
) -> Comparison:
    """Play every scenario of the wish that has no result yet; write and return all results.

    Raises:
        ClientError: a server that was asked for cannot be started or used.
    """
    notes: list[str] = []
    found = {peer.name: peer for peer in peers.present(environment, notes.append)}
    for text in notes:
        note(text)
    results = []
    for scenario in wish.plan.scenarios:
        beside = _beside(wish, scenario, found, note, on_progress)
        part = _part(wish, scenario, scenario, [_ours(wish, scenario), *beside])
        results.append(_kept_or_played(part, note, on_progress))
    whole = _together(results, notes)
    comparison.write(whole, wish.folder)
    plot.draw(whole, wish.folder / "plot.png")
    return whole


def _ours(wish: Wish, scenario: str) -> Peer:
    """Return our server; over a restart with a folder of its own, so that no earlier run helps."""
    command = peers.OURS
    if scenario == "restart":
        folder = wish.folder.absolute() / "restart" / "cache"
        command = f"{command} --set 'engine.cache_folder=\"{folder}\"'"
    return peers.Peer(name="edgesmith", command=command)


def _beside(
    wish: Wish,
    scenario: str,
    found: Mapping[str, Peer],
    note: Callable[[str], None],
    on_progress: Callable[[int, int], None],
) -> list[Peer]:
    names = PEERS.get(scenario, ())
    chosen = [found[name] for name in names if name in found]
    default = found.get("llama-server")
    if "llama-server-best" not in names or default is None or default.program is None:
        return chosen
    tried = sweep.candidates(default.program, default.version)
    part = _part(wish, f"sweep-{scenario}", scenario, tried, num_rounds=1)
    result = _kept_or_played(part, note, on_progress)
    name = sweep.best(result.samples, scenario)
    by_name = {peer.name: peer for peer in tried}
    return [*chosen, *_renamed(by_name.get(name or ""))]


def _renamed(best: Peer | None) -> list[Peer]:
    return [msgspec.structs.replace(best, name="llama-server-best")] if best else []


def _part(
    wish: Wish,
    folder: str,
    scenario: str,
    chosen: Sequence[Peer],
    num_rounds: int | None = None,
) -> Wish:
    """Cut one scenario out of the wish."""
    rounds = num_rounds or wish.plan.num_rounds
    plan = msgspec.structs.replace(wish.plan, scenarios=(scenario,), num_rounds=rounds)
    return msgspec.structs.replace(wish, plan=plan, peers=chosen, folder=wish.folder / folder)


def _kept_or_played(
    wish: Wish, note: Callable[[str], None], on_progress: Callable[[int, int], None]
) -> Comparison:
    name = wish.folder.name
    file = wish.folder / "results.json"
    if file.is_file():
        note(f"{name}: as measured before, in {file}")
        return msgspec.json.decode(file.read_bytes(), type=Comparison)
    note(f"{name}: {', '.join(peer.name for peer in wish.peers)}")
    return side_by_side.run(wish, note=note, on_progress=on_progress)


def _together(results: Sequence[Comparison], notes: Sequence[str]) -> Comparison:
    """Make one result of all; a peer started differently for a scenario is told in a note."""
    first = results[0]
    told: dict[str, dict[str, str]] = {}
    others: list[str] = []
    for result in results:
        for peer in result.peers:
            known = told.setdefault(peer["name"], peer)
            if known.get("command") != peer.get("command"):
                scenario = result.settings["scenarios"][0]
                others.append(f"{peer['name']} in {scenario}: `{peer.get('command')}`")
    said = [text for result in results for text in result.notes]
    return msgspec.structs.replace(
        first,
        peers=list(told.values()),
        notes=list(dict.fromkeys([*notes, *others, *said])),
        idle_cpu={},
        rows=[row for result in results for row in result.rows],
        samples=[sample for result in results for sample in result.samples],
    )
