import sys
from pathlib import Path

import httpx
import pytest

from clients.bench import launch
from clients.bench.peers import Peer
from clients.errors import UsageError

FAILS = f"'{sys.executable}' -c 'raise SystemExit(\"no such model\")' {{port}}"


def test_servers_answer_within_the_block_and_are_gone_after_it(fake_peers, tmp_path):
    peers = [Peer(name=name, command=fake_peers.command(name)) for name in ("a", "b")]
    with launch.running(peers, None, tmp_path, start_seconds=60, note=print) as servers:
        assert [server.peer.name for server in servers] == ["a", "b"]
        for server in servers:
            assert httpx.get(f"{server.url}/v1/models").status_code == 200
        assert servers[0].url != servers[1].url
    assert all(server.process.returncode is not None for server in servers)
    assert (tmp_path / "a.log").read_text() == "listening\n"


def test_a_server_that_ends_early_is_quoted_and_takes_the_others_with_it(fake_peers, tmp_path):
    peers = [
        Peer(name="a", command=fake_peers.command("a")),
        Peer(name="b", command=FAILS),
    ]
    with (
        pytest.raises(UsageError, match=r"b ended with status 1.*no such model"),
        launch.running(peers, None, tmp_path, start_seconds=60, note=print),
    ):
        pass


def test_without_an_optional_server_that_fails_the_others_go_on(fake_peers, tmp_path):
    said = []
    peers = [
        Peer(name="a", command=fake_peers.command("a")),
        Peer(name="b", command=FAILS, is_optional=True),
    ]
    with launch.running(peers, None, tmp_path, start_seconds=60, note=said.append) as servers:
        assert [server.peer.name for server in servers] == ["a"]
    assert "without b" in said[0]
    assert "no such model" in said[0]


def test_a_running_server_is_left_alone(tmp_path):
    peers = [Peer(name="a", url="http://127.0.0.1:9")]
    with launch.running(peers, None, tmp_path, start_seconds=1, note=print) as servers:
        assert servers[0].process is None
        assert servers[0].cpu_seconds() is None


def test_a_silent_server_is_given_up(tmp_path):
    command = f"'{sys.executable}' -c 'import sys; sys.stdin.read(); import threading; "
    command += "threading.Event().wait()' {port}"
    peers = [Peer(name="a", command=command)]
    with (
        pytest.raises(UsageError, match=r"did not answer within 0\.5 s"),
        launch.running(peers, None, tmp_path, start_seconds=0.5, note=print),
    ):
        pass


def test_a_command_is_filled_in_word_by_word():
    model = Path("a folder/m.gguf")
    found = launch.words("python -m serve --model {model} --port {port}", model=model, port=7)
    assert found == [sys.executable, "-m", "serve", "--model", "a folder/m.gguf", "--port", "7"]


@pytest.mark.parametrize(
    ("command", "message"),
    [("x '{port}", "cannot split"), ("x -m {model} {port}", "wants a model")],
)
def test_a_command_that_cannot_be_filled_in_is_refused(command, message):
    with pytest.raises(UsageError, match=message):
        launch.words(command, model=None, port=1)


def test_a_program_that_is_not_there_is_named(tmp_path):
    peers = [Peer(name="a", command="no-such-program-here {port}")]
    with (
        pytest.raises(UsageError, match="cannot start a: no-such-program-here"),
        launch.running(peers, None, tmp_path, start_seconds=1, note=print),
    ):
        pass
