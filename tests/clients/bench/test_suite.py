"""Every scenario beside its peers, llama-server at its best, and nothing measured twice."""

import json

import pytest

from clients.__main__ import main
from clients.bench import peers, sweep
from clients.bench.peers import Peer
from clients.bench.rounds import Sample

FOUND = ("edgesmith", "llama-server", "llama-server-fim")


@pytest.fixture
def suite(fake_peers, tmp_path, monkeypatch):
    """Run `bench --suite` with fakes for every program; return its exit code."""
    found = [
        Peer(name=name, command=fake_peers.command(name), program="fake", is_optional=True)
        for name in FOUND
    ]
    monkeypatch.setattr(peers, "OURS", fake_peers.command("edgesmith"))
    monkeypatch.setattr(peers, "present", lambda _environment, _note: found)
    monkeypatch.setattr(sweep, "FLAGS", {"quick": "-q", "slow": "-s"})
    monkeypatch.setattr(sweep, "command", lambda _program, flags: fake_peers.command(flags))
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")

    def run(*only):
        flags = ["--model", str(model), "--output", str(tmp_path / "out"), "--rounds", "1"]
        scenarios = [f"--only={name}" for name in only]
        return main(["bench", "--suite", "--prompt-tokens", "40", *flags, *scenarios])

    return run


def test_each_scenario_has_its_peers_and_all_results_are_one(suite, tmp_path, fake_peers, capsys):
    assert suite("decode", "prefill") == 0
    shown, _ = capsys.readouterr()
    result = json.loads((tmp_path / "out" / "results.json").read_bytes())
    names = {sample["peer"]: sample["scenario"] for sample in result["samples"]}
    assert names == {
        "edgesmith": "prefill",
        "llama-server": "prefill",
        "llama-server-best": "prefill",
    }
    assert shown == (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    assert {"-q", "-s"} < {name for name, _ in fake_peers.asked()}


def test_what_was_measured_is_not_measured_again(suite, tmp_path, fake_peers, capsys):
    suite("decode")
    asked = fake_peers.asked()
    capsys.readouterr()
    assert suite("decode") == 0
    assert fake_peers.asked() == asked
    assert "as measured before" in capsys.readouterr().err
    suite("decode", "prefill")
    assert len(fake_peers.asked()) > len(asked)


def test_the_best_setting_is_by_what_decides_the_scenario():
    def sample(peer, scenario, **figures):
        return Sample(peer=peer, scenario=scenario, round=0, figures=figures)

    samples = [
        sample("a", "mixed", first_token_p95_seconds=3.0),
        sample("b", "mixed", first_token_p95_seconds=0.5),
        sample("a", "prefill", tokens_per_second=90.0),
        sample("b", "prefill", tokens_per_second=80.0),
        sample("c", "prefill"),
    ]
    assert sweep.best(samples, "mixed") == "b"
    assert sweep.best(samples, "prefill") == "a"
    assert sweep.best(samples, "decode-many") is None


def test_an_interpreter_of_its_own_starts_the_packaged_server(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    python = tmp_path / "its own" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    (*_, packaged) = peers.present({"LLAMA_CPP_PYTHON": str(python)}, print)
    assert packaged.command.startswith(f"'{python}' -m llama_cpp.server")
