import itertools
import json

import pytest

from clients import Client
from clients.__main__ import main
from clients.doctor.speed import measure


def diagnose(fake_server, capsys) -> tuple[int, dict]:
    flags = ["--json", "--requests", "1", "--base-url", fake_server.base_url]
    status = main(["doctor", *flags])
    return status, json.loads(capsys.readouterr().out)


def outcomes(diagnosis: dict) -> dict[str, str]:
    return {check["name"]: check["outcome"] for check in diagnosis["checks"]}


def test_a_good_server_passes_every_check(fake_server, capsys):
    status, diagnosis = diagnose(fake_server, capsys)
    assert status == 0
    assert outcomes(diagnosis) == {
        "reach": "ok",
        "context": "warning",  # 2048 tokens
        "chat": "ok",
        "streaming": "ok",
        "fim": "ok",
        "structured": "warning",  # the answer is code
        "tools": "ok",
        "speed": "ok",
    }
    assert diagnosis["speed"]["num_requests"] == 1


def test_an_answer_that_keeps_the_schema_is_found(fake_server, capsys):
    fake_server.words = ['{"sum": 5}']
    fake_server.calls_tools = False
    _, diagnosis = diagnose(fake_server, capsys)
    found = {check["name"]: check for check in diagnosis["checks"]}
    assert found["structured"]["outcome"] == "ok"
    assert (found["tools"]["outcome"], found["tools"]["detail"]) == (
        "warning",
        "a forced call did not come",
    )
    asked = fake_server.bodies("/v1/chat/completions")
    assert [body["response_format"]["type"] for body in asked if "response_format" in body] == [
        "json_schema"
    ]


def test_what_is_missing_is_a_warning_with_a_remedy(fake_server, capsys):
    fake_server.sends_usage = fake_server.serves_infill = fake_server.serves_suffix = False
    status, diagnosis = diagnose(fake_server, capsys)
    assert status == 0
    found = {check["name"]: check for check in diagnosis["checks"]}
    assert found["streaming"]["outcome"] == found["fim"]["outcome"] == "warning"
    assert found["streaming"]["remedy"]
    assert found["fim"]["remedy"]


def test_a_server_that_answers_nothing_fails_and_speed_is_not_tried(fake_server, capsys):
    fake_server.words = []
    status, diagnosis = diagnose(fake_server, capsys)
    assert status == 1
    assert outcomes(diagnosis) == {"reach": "ok", "context": "warning", "chat": "failed"}


def test_no_server_fails_with_what_to_start(capsys):
    assert main(["doctor", "--base-url", "http://127.0.0.1:9/v1"]) == 1
    assert "start a server at" in capsys.readouterr().out.replace("\n", " ")


def test_the_table_shows_every_check(fake_server, capsys):
    assert main(["doctor", "--requests", "1", "--base-url", fake_server.base_url]) == 0
    out = capsys.readouterr().out
    for name in ("reach", "context", "chat", "streaming", "fim", "speed"):
        assert name in out


def test_no_requests_cannot_be_timed(capsys):
    assert main(["doctor", "--requests", "0"]) == 2
    assert "must be 1 or more" in capsys.readouterr().err


def test_rate_counts_tokens_after_the_first_over_the_time_since_it(fake_server):
    clock = itertools.count()  # a second per look: start, then one per piece
    with Client(fake_server.base_url) as client:
        speed = measure(client, num_requests=3, now=lambda: float(next(clock)))
    assert speed.first_token_seconds == pytest.approx(1.0)
    assert speed.tokens_per_second == pytest.approx(1.0)
    assert speed.num_requests == 3


def test_every_timed_question_begins_differently(fake_server):
    with Client(fake_server.base_url) as client:
        measure(client, num_requests=3)
    asked = [body["messages"][0]["content"] for body in fake_server.bodies("/v1/chat/completions")]
    assert len({question[:12] for question in asked}) == 3
