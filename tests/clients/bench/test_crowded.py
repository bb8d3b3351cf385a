"""The scenario of a busy machine, against a fake on a real socket."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clients.async_client import AsyncClient
from clients.bench import crowded
from clients.bench.fim_routes import FimRoute
from clients.bench.registry import WORKLOADS
from clients.bench.workloads import Sizes, Turn


async def test_answers_are_written_beside_busy_cores_and_the_cores_are_free_afterwards(
    fake_server, monkeypatch
):
    fake_server.words = ["x "] * 9
    seen = []
    busy_cores = crowded.busy_cores

    def watched(num):
        seen.append(num)
        return busy_cores(num)

    monkeypatch.setattr(crowded, "busy_cores", watched)
    async with AsyncClient(fake_server.base_url) as client:
        sizes = Sizes(num_decoded_tokens=9)
        turn = Turn(client=client, fim=FimRoute(kind="infill"), key="k", sizes=sizes)
        figures = await WORKLOADS["crowded"](turn)
    assert seen == [os.cpu_count()]
    asks = fake_server.bodies("/v1/completions")
    assert [ask["max_tokens"] for ask in asks] == [9] * 3
    assert len({ask["prompt"] for ask in asks}) == 3
    assert figures["tokens_per_second"] > 0


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")
def test_busy_processes_end_with_the_turn():
    with crowded.busy_cores(2):
        assert len(_busy()) == 2
    assert _busy() == []


def _busy():
    """Return the children of this process that keep a core busy."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes().decode().split("\0")
            parent = int((file.parent / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if crowded.BUSY in command and parent == os.getpid():
            found.append(file.parent.name)
    return found
