"""A server is ended and started again at the same address, and asked the same."""

import pytest

from clients.async_client import AsyncClient
from clients.bench import launch, restart
from clients.bench.fim_routes import FimRoute
from clients.bench.peers import Peer
from clients.bench.workloads import Sizes, Turn, WorkloadError


def turn(client, again):
    sizes = Sizes(num_long_functions=2, num_small_tokens=3)
    return Turn(client=client, fim=FimRoute(kind="plain"), key="k", sizes=sizes, restart=again)


async def test_the_long_prompt_is_asked_before_and_after_a_restart(
    fake_peers, tmp_path, monkeypatch
):
    monkeypatch.setattr(restart, "IDLE_SECONDS", 0.0)
    peer = Peer(name="a", command=fake_peers.command("a"))
    with launch.running([peer], None, tmp_path, start_seconds=60, note=print) as (server,):
        first = server.process
        async with AsyncClient(server.url, model="tiny") as client:
            figures = await restart.restart(turn(client, server.restart))
        assert first.returncode is not None
        assert server.process.pid != first.pid
        assert server.process.returncode is None
    assert server.process.returncode is not None
    ratio = figures["first_token_seconds"] / figures["cold_first_token_seconds"]
    assert figures["to_cold"] == ratio
    assert figures["read_tokens"] > 0
    assert len(fake_peers.asked()) == 2 * 3


async def test_a_server_of_somebody_else_is_not_restarted():
    async with AsyncClient("http://127.0.0.1:9") as client:
        with pytest.raises(WorkloadError, match="cannot be restarted"):
            await restart.restart(turn(client, None))
