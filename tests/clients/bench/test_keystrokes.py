"""Recorded editing sessions, and how they come about."""

import http.client
import json
import random
import threading

import pytest

from clients.bench.keystrokes import sessions
from clients.bench.keystrokes.record import ROOT, Oracle, with_gaps
from clients.bench.keystrokes.scripts import SCRIPTS, Script, fill
from clients.errors import UsageError


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
