"""llama-server at its best: a few settings are tried on a scenario, and the best one is named.

The settings are those that decide what our scenarios measure: rows of a batch (`-b`, `-ub`), seats
(`-np`), and whether seats share one cache. Threads are left alone: one a core is its default, too.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from clients.bench.peers import Peer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clients.bench.rounds import Sample

FLAGS = {
    "one seat": "-c 8192 -np 1",
    "eight seats": "-c 8192 -np 8 --kv-unified --cache-reuse 256",
    "batches of 128": "-c 8192 -np 8 --kv-unified -b 128 -ub 128 --cache-reuse 256",
    "batches of 64": "-c 8192 -np 8 --kv-unified -b 64 -ub 64 --cache-reuse 256",
}

DECIDING = {
    "decode-many": ("tokens_per_second", max),
    "prefill": ("tokens_per_second", max),
    "mixed-edits": ("first_token_p95_seconds", min),
    "mixed": ("first_token_p95_seconds", min),
}
"""The scenarios worth a sweep, and what is best there."""


def candidates(program: str, version: str | None) -> list[Peer]:
    """Return a peer for each setting."""
    return [
        Peer(name=name, command=command(program, flags), version=version, is_optional=True)
        for name, flags in FLAGS.items()
    ]


def command(program: str, flags: str) -> str:
    """Return what starts llama-server so."""
    return f"{shlex.quote(program)} -m {{model}} --port {{port}} {flags}"


def best(samples: Sequence[Sample], scenario: str) -> str | None:
    """Return the name of the setting that did best; None where none has a figure."""
    figure, choose = DECIDING[scenario]
    found = {
        sample.peer: value
        for sample in samples
        if sample.scenario == scenario and (value := sample.figures.get(figure)) is not None
    }
    return choose(found, key=lambda name: found[name]) if found else None
