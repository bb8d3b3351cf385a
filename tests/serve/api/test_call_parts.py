"""Calls in parts, in every dialect: as they are written, and when they break off."""

import json

import pytest

from serve.engine.request import FinishReason

TEMPLATE = "{# <tool_call> #}{% for m in messages %}{{ m.content }}{% endfor %}"
USER = {"role": "user", "content": "hi"}
FUNCTION = {"name": "look", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}
ARGUMENTS = '{"at": "a long way from here", "n": 12}'
CALL = f'<tool_call>\n{{"name": "look", "arguments": {ARGUMENTS}}}\n</tool_call>'
CUT = CALL[: CALL.index("from") + 4]
CUT_ARGUMENTS = ARGUMENTS[: ARGUMENTS.index("from") + 4]


@pytest.fixture
def live(serving):
    return serving(metadata={"tokenizer.chat_template": TEMPLATE})


def write(live, text, reason=FinishReason.STOP):
    live.engine.script.pieces = list(text)
    live.engine.script.reason = reason


def events(response) -> list[dict]:
    assert response.status_code == 200, response.text
    data = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    return [json.loads(each) for each in data if each != "[DONE]"]


def chat(live, **more):
    return live.http.post("/v1/chat/completions", json={"messages": [USER], "tools": [TOOL]} | more)


def messages(live, **more):
    tool = {"name": "look", "input_schema": FUNCTION["parameters"]}
    body = {"messages": [USER], "max_tokens": 9, "model": "x", "tools": [tool]}
    return live.http.post("/v1/messages", json=body | more)


def responses(live, **more):
    body = {"input": "hi", "tools": [{"type": "function"} | FUNCTION]}
    return live.http.post("/v1/responses", json=body | more)


def ollama(live, **more):
    return live.http.post("/api/chat", json={"messages": [USER], "tools": [TOOL]} | more)


def test_chat_streams_arguments_in_many_pieces(live):
    write(live, CALL)
    deltas = [each["choices"][0]["delta"] for each in events(chat(live, stream=True))]
    parts = [call["function"]["arguments"] for d in deltas for call in d.get("tool_calls", [])]
    assert "".join(parts) == ARGUMENTS
    assert len(parts) > len(ARGUMENTS) / 2


def test_messages_streams_partial_json_in_many_pieces(live):
    write(live, f"{CALL}\n{CALL}")
    told = events(messages(live, stream=True))
    for index in (0, 1):
        inside = [each for each in told if each.get("index") == index]
        assert [inside[0]["type"], inside[-1]["type"]] == [
            "content_block_start",
            "content_block_stop",
        ]
        parts = [each["delta"]["partial_json"] for each in inside[1:-1]]
        assert "".join(parts) == ARGUMENTS
        assert len(parts) > len(ARGUMENTS) / 2


def test_responses_streams_argument_deltas_and_then_all_of_them(live):
    write(live, f"{CALL}\n{CALL}")
    told = events(responses(live, stream=True))
    for index in (0, 1):
        inside = [each for each in told if each.get("output_index") == index]
        kinds = [each["type"].removeprefix("response.") for each in inside]
        assert kinds[0] == "output_item.added"
        assert kinds[-2:] == ["function_call_arguments.done", "output_item.done"]
        assert set(kinds[1:-2]) == {"function_call_arguments.delta"}
        assert "".join(each["delta"] for each in inside[1:-2]) == ARGUMENTS
        assert inside[-2]["arguments"] == inside[-1]["item"]["arguments"] == ARGUMENTS
        assert inside[-1]["item"]["status"] == "completed"


def test_ollama_gets_calls_whole(live):
    write(live, CALL)
    told = [json.loads(line) for line in ollama(live).text.splitlines()]
    calls = [call for each in told for call in each["message"].get("tool_calls", [])]
    assert [call["function"]["arguments"] for call in calls] == [json.loads(ARGUMENTS)]


@pytest.mark.parametrize("stream", [False, True])
def test_of_calls_that_were_not_to_be_parallel_only_the_first_is_told(live, stream):
    write(live, f"{CALL}\n{CALL}")
    response = chat(live, stream=stream, parallel_tool_calls=False)
    if stream:
        deltas = [each["choices"][0]["delta"] for each in events(response)]
        calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
        assert {call["index"] for call in calls} == {0}
        assert "".join(call["function"]["arguments"] for call in calls) == ARGUMENTS
    else:
        assert len(response.json()["choices"][0]["message"]["tool_calls"]) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_breaks_off_has_the_beginning_of_its_arguments_and_ends_by_length(live, stream):
    write(live, CUT, FinishReason.LENGTH)
    response = chat(live, stream=stream)
    if stream:
        choices = [each["choices"][0] for each in events(response)]
        calls = [call for each in choices for call in each["delta"].get("tool_calls", [])]
        assert not any(each["delta"].get("content") for each in choices)
    else:
        choices = response.json()["choices"]
        calls = choices[0]["message"]["tool_calls"]
    assert "".join(call["function"]["arguments"] for call in calls) == CUT_ARGUMENTS
    assert choices[-1]["finish_reason"] == "length"


def test_a_broken_off_call_has_no_input_in_a_whole_message(live):
    write(live, CUT, FinishReason.LENGTH)
    answer = messages(live).json()
    assert answer["content"][0]["input"] == {}
    assert answer["stop_reason"] == "max_tokens"


@pytest.mark.parametrize("stream", [False, True])
def test_a_broken_off_call_is_an_incomplete_item(live, stream):
    write(live, CUT, FinishReason.LENGTH)
    response = responses(live, stream=stream)
    body = events(response)[-1]["response"] if stream else response.json()
    [item] = body["output"]
    assert (item["status"], item["arguments"]) == ("incomplete", CUT_ARGUMENTS)
    assert body["status"] == "incomplete"


def test_ollama_leaves_a_broken_off_call_out(live):
    write(live, CUT, FinishReason.LENGTH)
    answer = ollama(live, stream=False).json()
    assert "tool_calls" not in answer["message"]
    assert answer["done_reason"] == "length"
