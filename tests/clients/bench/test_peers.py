import pytest

from clients.bench import peers
from clients.errors import UsageError


def test_a_peer_is_a_name_with_an_address_or_a_command():
    assert peers.parse("a=http://x:1", is_command=False).url == "http://x:1"
    command = peers.parse("b=run --set x=1 --port {port}", is_command=True).command
    assert command == "run --set x=1 --port {port}"


@pytest.mark.parametrize(
    ("text", "is_command", "message"),
    [
        ("http://x:1", False, "is not NAME=URL"),
        ("=http://x", False, "is not NAME=URL"),
        ("a=", True, "is not NAME=COMMAND"),
        ("a=run", True, "lacks {port}"),
    ],
)
def test_what_is_no_peer_is_refused(text, is_command, message):
    with pytest.raises(UsageError, match=message):
        peers.parse(text, is_command=is_command)


def test_two_peers_of_one_name_are_refused():
    with pytest.raises(UsageError, match="two servers are called a"):
        peers.distinct([peers.Peer(name="a"), peers.Peer(name="b"), peers.Peer(name="a")])


def test_ours_comes_first_and_a_llama_server_twice_with_its_version(tmp_path):
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\necho 'loading' >&2\necho 'version: 7 (abc)' >&2\n")
    program.chmod(0o755)
    found = peers.present({"LLAMA_SERVER": str(program)}, print)
    assert [peer.name for peer in found][:3] == [
        "edgesmith",
        "llama-server",
        "llama-server-fim",
    ]
    assert [peer.is_optional for peer in found][:3] == [False, True, True]
    assert found[1].version == "version: 7 (abc)"
    assert str(program) in found[1].command
    assert all("{port}" in peer.command for peer in found)


def test_a_llama_server_that_is_no_program_is_refused():
    with pytest.raises(UsageError, match="LLAMA_SERVER is /nowhere"):
        peers.present({"LLAMA_SERVER": "/nowhere"}, print)


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(peers, "PACKAGED_NEEDS", ("no_such_package",))
    said = []
    assert [peer.name for peer in peers.present({}, said.append)] == ["edgesmith"]
    assert "LLAMA_SERVER" in said[0]
    assert "no_such_package" in said[1]
