"""The side of `bench` that compares servers: flags to a plan, the result to stdout."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.bench.registry import WORKLOADS
from clients.commands.connection import api_key, timeout
from clients.commands.flags import require_positive
from clients.commands.progress import progress
from clients.commands.terminal import note, write_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from clients.bench.peers import Peer
    from clients.bench.rounds import Plan

DEFAULTS = {
    "suite": False,
    "only": [],
    "rounds": 3,
    "tokens": 64,
    "prompt_tokens": 1500,
    "output": None,
    "start_seconds": 300.0,
}
"""Flags that mean nothing for one server, and their defaults."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that several servers take."""
    parser.set_defaults(**DEFAULTS)
    add = parser.add_argument_group("several servers, side by side").add_argument
    add("--compare", action="append", default=[], metavar="NAME=URL", help="a running server")
    add(
        "--serve",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="a server to start: {port} is filled in, and {model} with --model FILE",
    )
    add(
        "--present",
        action="store_true",
        help="start this project's server and the peers found here: llama-server ($LLAMA_SERVER "
        "or on PATH) and the packaged llama-cpp-python server",
    )
    add(
        "--suite",
        action="store_true",
        help="as --present, scenario by scenario, each beside the peers that matter to it, "
        "llama-server also at the best of a few settings; goes on where it was broken off",
    )
    add("--only", action="append", choices=WORKLOADS, help="may be given repeatedly (default: all)")
    add("--rounds", type=int, metavar="N", help="turns of each server (default: 3)")
    add("--tokens", type=int, metavar="N", help="length of a decoded answer (default: 64)")
    add("--prompt-tokens", type=int, metavar="N", help="of the long prompt (default: 1500)")
    add("--output", type=Path, metavar="DIR", help="default: a new folder in runs/bench")
    add("--start-seconds", type=float, metavar="S", help="for a server to load (default: 300)")


def is_asked_for(args: argparse.Namespace) -> bool:
    """Say whether the flags name several servers."""
    return bool(args.compare or args.serve or args.present or args.suite)


def run(args: argparse.Namespace) -> int:
    """Compare servers; status 1 when nothing was measured."""
    from clients.bench import comparison, model_file, side_by_side, suite

    require_positive(args, "rounds", "tokens", "prompt_tokens", "start_seconds")
    notes: list[str] = []
    peers = [] if args.suite else _peers(args, notes)
    starts = args.suite or any("{model}" in (peer.command or "") for peer in peers)
    file = model_file.choose(args.model) if starts else None
    now = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    wish = side_by_side.Wish(
        peers=peers,
        plan=_plan(args, key=now if args.seed is None else f"seed{args.seed}"),
        folder=args.output
        or model_file.runs_root() / "bench" / (file.stem if args.suite and file else now),
        notes=notes,
        model_file=file,
        model_name=None if starts else args.model,
        api_key=api_key(args.api_key_file),
        timeout=timeout(args),
        start_seconds=args.start_seconds,
    )
    note(f"results: {wish.folder}" + (f"; model: {wish.model_file}" if wish.model_file else ""))
    with _interruptible(), progress("comparing") as on_progress:
        if args.suite:
            result = suite.run(wish, os.environ, note=note, on_progress=on_progress)
        else:
            result = side_by_side.run(wish, note=note, on_progress=on_progress)
    if args.json:
        write_json(result)
    else:
        sys.stdout.write(comparison.markdown(result))
    return 0 if result.rows else 1


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end the servers that were started, as ^C does."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _peers(args: argparse.Namespace, notes: list[str]) -> list[Peer]:
    from clients.bench import peers

    def say(text: str) -> None:
        notes.append(text)
        note(text)

    found = peers.present(os.environ, say) if args.present else []
    found += [peers.parse(text, is_command=True) for text in args.serve]
    found += [peers.parse(text, is_command=False) for text in args.compare]
    return peers.distinct(found)


def _plan(args: argparse.Namespace, *, key: str) -> Plan:
    from clients.bench.rounds import Plan
    from clients.bench.workloads import Sizes

    return Plan(
        scenarios=tuple(dict.fromkeys(args.only or WORKLOADS)),
        num_rounds=args.rounds,
        num_long_tokens=args.prompt_tokens,
        sizes=Sizes(num_decoded_tokens=args.tokens),
        key=key,
    )
