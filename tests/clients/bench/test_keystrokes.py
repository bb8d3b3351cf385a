"""Recorded editing sessions, and how they come about."""

import http.client
import json
import random
import threading

import httpx
import msgspec
import pytest

from clients.async_client import AsyncClient
from clients.bench.fim_routes import FimRoute
from clients.bench.keystrokes import replay, sessions
from clients.bench.keystrokes.record import ROOT, Oracle, with_gaps
from clients.bench.keystrokes.scripts import SCRIPTS, Script, fill
from clients.bench.keystrokes.sessions import Keystroke
from clients.bench.workloads import Sizes, Turn, WorkloadError
from clients.errors import ClientError, UsageError


def test_the_package_holds_a_session_for_every_script_and_little_else():
    assert sessions.names() == sorted(SCRIPTS)
    assert sum(path.stat().st_size for path in sessions.FOLDER.iterdir()) < 300_000


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_session_is_what_llama_vim_sends(name):
    keystrokes = sessions.load(name)
    times = [each.at_seconds for each in keystrokes]
    assert times == sorted(times)
    asked = [each for each in keystrokes if not each.is_warm_up]
    assert len(asked) > 50
    assert {each.body["t_max_prompt_ms"] for each in asked} == {500}
    assert all(each.body["input_prefix"].endswith("\n") for each in asked)


def test_a_session_that_is_not_there_is_refused_by_name():
    with pytest.raises(UsageError, match="write-117"):
        sessions.load("none")


def test_what_was_saved_comes_back(tmp_path, monkeypatch):
    keystrokes = sessions.load("write-117")[:3]
    sessions.save(tmp_path / "three.jsonl.xz", keystrokes)
    monkeypatch.setattr(sessions, "FOLDER", tmp_path)
    assert sessions.load("three") == keystrokes


def test_gaps_are_the_lines_to_be_written():
    script = Script(sources=(), num_lines=5, steps=(fill(2, 2),))
    assert with_gaps("a\nb\nc\nd\ne\n", script) == "a\nd\ne\n"


def test_a_script_makes_its_file_of_sources(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.py").write_text(f"{name} = 1\n{name} = 2\n")
    script = Script(sources=("*.py",), num_lines=4, steps=())
    assert script.text(tmp_path) == "a = 1\na = 2\n\n\n"
    assert len(SCRIPTS["write-117"].text(ROOT).splitlines()) <= 117


def test_the_recording_server_notes_the_request_and_answers_with_what_comes_next():
    oracle = Oracle("def one():\n    return 1\n", random.Random(1))
    threading.Thread(target=oracle.serve_forever, daemon=True).start()
    connection = http.client.HTTPConnection("127.0.0.1", oracle.server_port)
    body = {"input_prefix": "def one():\n", "prompt": "    ret", "input_extra": [{"time": 1}]}
    connection.request("POST", "/infill", json.dumps(body))
    answer = json.load(connection.getresponse())
    connection.close()
    oracle.shutdown()
    oracle.server_close()
    assert answer == {"content": "urn 1"}
    assert [each.body["input_extra"] for each in oracle.keystrokes] == [[{}]]


class Served(httpx.AsyncBaseTransport):
    """Answers /infill and keeps what it was asked."""

    def __init__(self):
        self.bodies = []

    async def handle_async_request(self, request):
        assert request.url.path == "/infill"
        self.bodies.append(json.loads(request.content))
        return httpx.Response(200, json={"content": "x", "timings": {"prompt_n": 4}})


def turn(transport, number=0):
    client = AsyncClient("http://127.0.0.1:1", model="m", transport=transport)
    return Turn(client=client, fim=FimRoute(kind="infill"), key=f"k.{number}.x", sizes=Sizes())


async def test_a_replay_sends_the_session_and_counts_what_was_read(monkeypatch):
    monkeypatch.setattr(replay, "pause_seconds", lambda _stroke, _following: 0.0)
    served = Served()
    figures = await replay.keystrokes(turn(served, number=3))
    recorded = [each.body for each in sessions.load(sessions.names()[3])][: replay.NUM_REQUESTS]
    assert [body["t_max_predict_ms"] for body in served.bodies] == [
        body["t_max_predict_ms"] for body in recorded
    ]
    assert {body["model"] for body in served.bodies} == {"m"}
    assert not any("response_fields" in body for body in served.bodies)
    assert figures["read_tokens"] == 4
    assert figures["answer_p95_seconds"] >= figures["answer_p50_seconds"]


async def test_no_cache_knows_the_text_of_a_replay(monkeypatch):
    monkeypatch.setattr(replay, "pause_seconds", lambda _stroke, _following: 0.0)
    prefixes = []
    for key in ("one.0.x", "two.0.x"):
        served = Served()
        await replay.keystrokes(msgspec.structs.replace(turn(served), key=key))
        prefixes.append(served.bodies[0]["input_prefix"])
    different = next(at for at, pair in enumerate(zip(*prefixes, strict=False)) if len({*pair}) > 1)
    assert different < len(prefixes[0]) / 4
    assert abs(len(prefixes[0]) - len(prefixes[1])) == 0


async def test_a_model_that_cannot_fill_in_the_middle_has_no_figures():
    asked = msgspec.structs.replace(turn(Served()), fim=FimRoute(kind="plain"))
    with pytest.raises(WorkloadError):
        await replay.keystrokes(asked)


async def test_a_server_without_the_route_fails_the_replay():
    refusing = httpx.MockTransport(lambda _request: httpx.Response(404))
    with pytest.raises(ClientError):
        await replay.keystrokes(turn(refusing))


def test_the_hand_waits_as_long_as_it_did_and_no_longer_than_a_while():
    def stroke(at_seconds, n_predict=128):
        return Keystroke(at_seconds=at_seconds, action="type", body={"n_predict": n_predict})

    assert replay.pause_seconds(stroke(1.0), stroke(2.0)) == pytest.approx(0.6)
    assert replay.pause_seconds(stroke(1.0, n_predict=0), stroke(2.0)) == pytest.approx(1.0)
    assert replay.pause_seconds(stroke(1.0), stroke(1.2)) == 0
    assert replay.pause_seconds(stroke(1.0), stroke(60.0)) == replay.MOST_PAUSE_SECONDS
    assert replay.pause_seconds(stroke(1.0), None) == 0
