"""The load generator against the fake server."""

import json

import pytest

from clients import AsyncClient
from clients.__main__ import main
from clients.bench import load
from clients.bench.scenarios import Ask, make


def report(fake_server, capsys, *flags: str) -> tuple[int, dict]:
    status = main(["bench", "--json", "--base-url", fake_server.base_url, *flags])
    return status, json.loads(capsys.readouterr().out)


def test_users_share_the_requests_and_every_one_is_measured(fake_server, capsys):
    status, found = report(fake_server, capsys, "--requests", "6", "--users", "3")
    (group,) = found["groups"]
    assert status == 0
    assert (group["num_answered"], group["errors"]) == (6, {})
    assert found["arrivals"] == "3 users"
    assert len(fake_server.bodies("/v1/chat/completions")) == 6


def test_poisson_arrivals_are_all_answered(fake_server, capsys):
    _, found = report(fake_server, capsys, "--requests", "5", "--rate", "200")
    assert found["groups"][0]["num_answered"] == 5


def test_mixed_load_is_reported_by_group(fake_server, capsys):
    _, found = report(fake_server, capsys, "--scenario", "mixed", "--requests", "4")
    assert [group["label"] for group in found["groups"]] == ["long", "short", "all"]


def test_errors_are_measurements_and_no_answer_at_all_is_a_failure(fake_server, capsys):
    fake_server.cuts_stream = True
    status, found = report(fake_server, capsys, "--requests", "2")
    assert status == 1
    assert found["groups"][0]["errors"] == {"ConnectionLostError": 2}


def test_a_replayed_session_cancels_where_the_editor_did(fake_server, capsys, tmp_path):
    fake_server.is_endless = True
    session = tmp_path / "s.jsonl"
    session.write_text('{"kind": "complete", "prompt": "a", "cancel_after_seconds": 0.2}\n')
    _, found = report(fake_server, capsys, "--replay", str(session))
    assert found["groups"][0]["errors"] == {"cancelled": 1}
    assert fake_server.client_left.wait(timeout=30)


def test_the_table_names_what_it_shows(fake_server, capsys):
    assert main(["bench", "--requests", "2", "--base-url", fake_server.base_url]) == 0
    out = capsys.readouterr().out
    for shown in ("p99", "first token", "2 of 2 answered", "goodput"):
        assert shown in out


@pytest.mark.parametrize("flag", ["--requests", "--users", "--rate"])
def test_numbers_that_make_no_sense_are_refused(capsys, flag):
    assert main(["bench", flag, "0"]) == 2
    assert "must be above 0" in capsys.readouterr().err


async def test_an_open_loop_does_not_wait_for_answers(fake_server):
    fake_server.is_endless = True
    asks = [Ask(kind="complete", prompt=str(n), cancel_after_seconds=0.5) for n in range(4)]
    seen = []
    async with AsyncClient(fake_server.base_url) as client:
        measured = await load.open_loop(
            client, asks, [0.0] * 4, on_progress=lambda done, _: seen.append(done)
        )
    assert seen == [1, 2, 3, 4]
    assert {item.error for item in measured} == {"cancelled"}
    assert len(fake_server.bodies("/v1/completions")) == 4


async def test_pieces_are_timed_and_tokens_are_the_servers_count(fake_server):
    async with AsyncClient(fake_server.base_url) as client:
        measured = await load.one(client, make("chat", 1, 0)[0])
    assert len(measured.piece_seconds) == len(fake_server.words)
    assert measured.num_tokens == len(fake_server.words)
    assert list(measured.piece_seconds) == sorted(measured.piece_seconds)


def test_the_waiting_is_drawn(fake_server, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib comes with the bench extra")
    file = tmp_path / "waiting.svg"
    flags = ["--scenario", "mixed", "--requests", "4", "--plot", str(file)]
    assert main(["bench", "--base-url", fake_server.base_url, *flags]) == 0
    drawn = file.read_text()
    assert "between tokens: seconds" in drawn
    assert str(file) in capsys.readouterr().err
    assert main(["bench", "--base-url", fake_server.base_url, "--plot", "x.nonsense"]) == 2
    assert "x.nonsense" in capsys.readouterr().err
