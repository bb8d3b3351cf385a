"""A stream tells how far its prompt is read and what it took so far, to who asks for it."""

import json

import pytest

CHAT = {"messages": [{"role": "user", "content": "hi"}]}
ROUTES = [
    ("/v1/chat/completions", CHAT),
    ("/v1/completions", {"prompt": "hi"}),
    ("/completion", {"prompt": "hi"}),
    ("/infill", {"input_prefix": "a", "input_suffix": "b"}),
    ("/v1/responses", {"input": "hi"}),
]


def told(live, path, **body):
    text = live.http.post(path, json=body | {"stream": True}).text
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@pytest.mark.parametrize(("path", "body"), ROUTES)
def test_progress_and_times_come_when_asked_for(live, path, body):
    live.engine.script.read = (0, 4, 8)
    events = told(live, path, **body, return_progress=True, timings_per_token=True)
    read = [each for each in events if "prompt_progress" in each]
    total = len(live.engine.requests[-1].prompt_token_ids)
    assert [each["prompt_progress"] for each in read] == [
        {"total": total, "cache": 1, "processed": 1 + count, "time_ms": count * 100}
        for count in (0, 4, 8)
    ]
    assert [each["timings"]["prompt_n"] for each in read] == [0, 4, 8]
    pieces = [each for each in events if each.get("timings", {}).get("prompt_n") == 7]
    assert {each["timings"]["predicted_n"] for each in pieces} == {1, 2}


@pytest.mark.parametrize(("path", "body"), ROUTES)
def test_nothing_of_it_comes_unasked(live, path, body):
    live.engine.script.read = (0, 4)
    events = told(live, path, **body)
    assert not any("prompt_progress" in each for each in events)
    assert sum("timings" in each for each in events) <= 1


def test_an_answer_in_one_piece_makes_the_engine_tell_nothing(live):
    body = CHAT | {"return_progress": True, "timings_per_token": True}
    assert "prompt_progress" not in live.http.post("/v1/chat/completions", json=body).json()
    assert not live.engine.requests[-1].reports_progress


@pytest.mark.parametrize(("path", "body"), ROUTES)
def test_cache_prompt_false_reads_everything_anew(live, path, body):
    live.http.post(path, json=body)
    live.http.post(path, json=body | {"cache_prompt": False})
    assert [each.from_cache for each in live.engine.requests] == [True, False]


def test_time_for_an_infill_does_not_begin_while_its_prompt_is_read(live):
    live.engine.script.read = (0, 4)
    live.engine.script.pieces = ["one line", "\n", "more"]
    body = {"input_prefix": "a", "input_suffix": "b", "return_progress": True}
    events = told(live, "/infill", **body, t_max_predict_ms=60_000)
    assert "".join(each["content"] for each in events) == "one line\nmore"
