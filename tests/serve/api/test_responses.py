"""The Responses dialect over a real socket, with a scripted engine and the SDK."""

import json

import openai
import pytest

from serve.config import ApiSettings, ServerSettings, Settings
from serve.engine.request import FinishReason

CALL = '<tool_call>\n{"name": "look", "arguments": {"at": 1}}\n</tool_call>'
TEMPLATE = (
    "{# <tool_call> #}{% for m in messages %}[{{ m.role }}{% if m.name %} {{ m.name }}{% endif %}]"
    "{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}\n{% endfor %}"
    "{% if tools %}TOOLS {{ tools | tojson }}\n{% endif %}[assistant]{# </think> #}"
)
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
PREFACE = ["response.created", "response.in_progress"]
TEXT = [
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
]


@pytest.fixture
def agent(serving):
    return serving(metadata={"tokenizer.chat_template": TEMPLATE})


@pytest.fixture
def sdk(agent):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{agent.port}/v1", api_key="-") as client:
        yield client


def ask(live, headers=None, **body):
    return live.http.post("/v1/responses", json={"input": "hi"} | body, headers=headers)


def events(response) -> list[dict]:
    found = []
    for block in response.text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    assert [each["sequence_number"] for each in found] == list(range(len(found)))
    return found


def names(found) -> list[str]:
    return [each["type"] for each in found]


def prompt(live) -> str:
    return live.engine.detokenize(live.engine.requests[-1].prompt_token_ids)


def test_a_whole_answer_is_a_response_of_one_message(live):
    answer = ask(live, instructions="Be brief.", metadata={"a": "b"}).json()
    [item] = answer["output"]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    part = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
    assert item["content"] == [part]
    assert (answer["object"], answer["status"]) == ("response", "completed")
    assert answer["metadata"] == {"a": "b"}
    usage = answer["usage"]
    assert usage["input_tokens_details"] == {"cached_tokens": 1}
    assert usage["output_tokens_details"] == {"reasoning_tokens": 0}
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert prompt(live) == "<s>[system]Be brief.\n[user]hi\n[assistant]"


def test_the_events_of_a_stream_come_in_order(live):
    found = events(ask(live, stream=True))
    assert names(found) == [*PREFACE, *TEXT, "response.completed"]
    first, last = found[0]["response"], found[-1]["response"]
    assert first["id"] == last["id"]
    assert (first["status"], first["output"], first["usage"]) == ("in_progress", [], None)
    assert last["status"] == "completed"
    assert last["usage"]["output_tokens"] == 2
    assert last["output"] == [found[-2]["item"]]
    inside = {each["item_id"] for each in found if "item_id" in each}
    assert inside == {last["output"][0]["id"]}


def test_thoughts_are_an_item_before_the_message(agent):
    agent.engine.script.pieces = ["<think>", "First.", "</think>", "\n\nThen."]
    found = events(ask(agent, stream=True, include=["reasoning.encrypted_content"]))
    kinds = [each["item"]["type"] for each in found if each["type"].endswith("item.added")]
    assert kinds == ["reasoning", "message"]
    deltas = [each for each in found if each["type"] == "response.reasoning_text.delta"]
    assert "".join(each["delta"] for each in deltas) == "First."
    last = found[-1]["response"]
    thought, message = last["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "First."}]
    assert message["content"][0]["text"] == "Then."
    assert last["usage"]["output_tokens_details"]["reasoning_tokens"] == len("First.")

    carried = thought | {"content": None}  # as agents send it back that keep no thoughts
    assert ask(agent, input=[carried, message, {"role": "user", "content": "On."}]).is_success
    assert "[assistant](First.)Then.[user]On." in prompt(agent)


def test_a_call_has_an_item_of_its_own(agent):
    agent.engine.script.pieces = ["Let me.\n", CALL]
    found = events(ask(agent, stream=True, tools=[TOOL]))
    assert names(found)[-6:] == [
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    call = found[-2]["item"]
    assert (call["type"], call["name"], call["status"]) == ("function_call", "look", "completed")
    assert json.loads(call["arguments"]) == {"at": 1}
    assert [each["output_index"] for each in found if "item" in each] == [0, 0, 1, 1]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "seen"}
    turns = [{"role": "user", "content": "hi"}, *found[-1]["response"]["output"], result]
    assert ask(agent, input=turns, tools=[TOOL]).status_code == 200
    assert '[assistant]Let me.{"name": "look", "arguments": {"at": 1}}' in prompt(agent)
    assert "[tool look]seen" in prompt(agent)


def test_tools_and_items_of_other_kinds_are_left_out(agent):
    kinds = ("web_search", "custom", "namespace", "image_generation", "local_shell")
    others = [{"type": kind, "name": "other"} for kind in kinds]
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "custom_tool_call", "call_id": "c1", "name": "other", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "y"},
        {"type": "function_call_output", "call_id": "gone", "output": "z"},
    ]
    assert ask(agent, input=items, tools=[TOOL, *others]).status_code == 200
    assert "other" not in prompt(agent)
    assert "[user]hiTOOLS" in prompt(agent)
    assert ask(agent, tools=others, tool_choice="required").status_code == 200
    assert "TOOLS" not in prompt(agent)


def test_only_allowed_tools_are_offered(agent):
    other = TOOL | {"name": "write"}
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "write"}]}
    assert ask(agent, tools=[TOOL, other], tool_choice=allowed).status_code == 200
    assert '"write"' in prompt(agent)
    assert '"look"' not in prompt(agent)


def test_what_stands_before_the_first_turn_is_one_system_message(live):
    items = [{"role": "developer", "content": "B"}, {"role": "user", "content": "hi"}]
    ask(live, instructions="A", input=items)
    assert prompt(live) == "<s>[system]A\n\nB\n[user]hi\n[assistant]"


def test_an_answer_cut_by_the_limit_is_incomplete(live):
    live.engine.script.reason = FinishReason.LENGTH
    answer = ask(live, max_output_tokens=2).json()
    assert live.engine.requests[0].max_tokens == 2
    assert (answer["status"], answer["output"][0]["status"]) == ("incomplete", "incomplete")
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
    assert names(events(ask(live, stream=True)))[-1] == "response.incomplete"


def test_an_overflow_fails_in_the_stream_and_is_a_400_without_one(live):
    long = "x" * 3000
    found = events(ask(live, input=long, stream=True))
    assert names(found) == [*PREFACE, "response.failed"]
    assert found[-1]["response"]["error"]["code"] == "context_length_exceeded"
    assert found[-1]["response"]["status"] == "failed"
    assert ask(live, input=long).json()["error"]["code"] == "context_length_exceeded"


def test_a_failure_on_the_way_keeps_what_was_written(live):
    live.engine.script.reason, live.engine.script.error = FinishReason.ERROR, "decode broke"
    last = events(ask(live, stream=True))[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["message"] == "decode broke"
    assert ask(live).status_code == 500


def test_a_stored_response_can_be_read_and_gone_on_from(live):
    first = ask(live, input="one", instructions="A").json()
    second = ask(live, input="two", previous_response_id=first["id"]).json()
    assert prompt(live) == "<s>[user]one\n[assistant]Hello\n[user]two\n[assistant]"
    ask(live, input="three", previous_response_id=second["id"])
    assert prompt(live).count("[assistant]") == 3
    path = f"/v1/responses/{second['id']}"
    assert live.http.get(path).json() == second
    listed = live.http.get(f"{path}/input_items").json()["data"]
    assert [each["role"] for each in listed] == ["user", "assistant", "user"]
    assert live.http.delete(path).json()["deleted"] is True
    assert live.http.get(path).status_code == 404
    assert live.http.delete(path).status_code == 404


def test_a_response_that_is_not_stored_cannot_be_found(live, serving):
    unstored = ask(live, store=False).json()
    assert unstored["store"] is False
    assert live.http.get(f"/v1/responses/{unstored['id']}").status_code == 404
    refused = ask(live, previous_response_id=unstored["id"])
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "previous_response_not_found"
    off = serving(Settings(api=ApiSettings(stored_responses=0)))
    assert ask(off).json()["store"] is False


def test_only_the_newest_responses_are_kept(serving):
    live = serving(Settings(api=ApiSettings(stored_responses=2)))
    ids = [ask(live).json()["id"] for _ in range(3)]
    found = [live.http.get(f"/v1/responses/{each}").status_code for each in ids]
    assert found == [404, 200, 200]
    small = serving(Settings(api=ApiSettings(stored_response_bytes=5000)))
    ids = [ask(small, input="x" * 1500).json()["id"] for _ in range(3)]
    found = [small.http.get(f"/v1/responses/{each}").status_code for each in ids]
    assert found[0] == 404
    assert found[-1] == 200


def test_one_keys_responses_are_invisible_to_another(serving):
    live = serving(api_keys=("first", "second"))
    mine, yours = ({"Authorization": f"Bearer {key}"} for key in ("first", "second"))
    stored = ask(live, headers=mine).json()["id"]
    assert live.http.get(f"/v1/responses/{stored}", headers=mine).status_code == 200
    assert live.http.get(f"/v1/responses/{stored}", headers=yours).status_code == 404
    assert live.http.delete(f"/v1/responses/{stored}", headers=yours).status_code == 404
    assert ask(live, headers=yours, previous_response_id=stored).status_code == 400


def test_a_response_in_progress_can_be_cancelled(live):
    live.engine.script.hang = True
    body = {"input": "hi", "stream": True}
    with live.http.stream("POST", "/v1/responses", json=body) as response:
        lines = (line for line in response.iter_lines() if line.startswith("data"))
        response_id = json.loads(next(lines).removeprefix("data: "))["response"]["id"]
        path = f"/v1/responses/{response_id}"
        assert live.http.get(path).json()["status"] == "in_progress"
        assert live.http.post(f"{path}/cancel").json()["status"] == "cancelled"
        *_, last = lines
    last = json.loads(last.removeprefix("data: "))
    assert (last["type"], last["response"]["status"]) == ("response.failed", "cancelled")
    assert live.http.get(path).json()["status"] == "cancelled"
    assert live.http.post(f"{path}/cancel").status_code == 400
    live.engine.wait_for_running(0)


def test_hanging_up_stops_the_answer_and_the_store_says_so(live):
    live.engine.script.hang = True
    body = {"input": "hi", "stream": True}
    with live.http.stream("POST", "/v1/responses", json=body) as response:
        lines = (line for line in response.iter_lines() if line.startswith("data"))
        response_id = json.loads(next(lines).removeprefix("data: "))["response"]["id"]
    live.engine.wait_for_running(0)
    assert live.http.get(f"/v1/responses/{response_id}").json()["status"] == "failed"


def test_pings_keep_a_silent_stream_open(serving):
    live = serving(Settings(server=ServerSettings(ping_seconds=0.02)))
    live.engine.script.hang, live.engine.script.pieces = True, []
    body = {"input": "hi", "stream": True}
    with live.http.stream("POST", "/v1/responses", json=body) as response:
        assert any(line == ": ping" for line in response.iter_lines())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": "clown", "content": ""}]}, "input.0.role"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content.0"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input.0.call_id"),
        ({"input": [{"type": "function_call_output"}]}, "input.0.call_id"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_output_tokens": -7}, "max_tokens"),
    ],
)
def test_what_cannot_be_honoured_is_a_400_naming_the_field(live, body, param):
    response = ask(live, **body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert not live.engine.requests


def test_logprobs_come_with_the_text(live):
    asked = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    [part] = ask(live, **asked).json()["output"][0]["content"]
    assert [entry["token"] for entry in part["logprobs"]] == ["Hel", "lo"]
    assert len(part["logprobs"][0]["top_logprobs"]) == 2
    found = [e for e in events(ask(live, stream=True, **asked)) if e["type"].endswith("text.delta")]
    assert [each["logprobs"][0]["token"] for each in found] == ["Hel", "lo"]


def test_the_sdk_gathers_a_stream(sdk, agent):
    agent.engine.script.pieces = ["Let me.\n", CALL]
    with sdk.responses.stream(model="any", input="hi", tools=[TOOL]) as stream:
        answer = stream.get_final_response()
    assert answer.output_text == "Let me."
    assert answer.output[1].name == "look"
    result = {
        "type": "function_call_output",
        "call_id": answer.output[1].call_id,
        "output": "seen",
    }
    agent.engine.script.pieces = ["Done."]
    done = sdk.responses.create(model="any", input=[result], previous_response_id=answer.id)
    assert done.output_text == "Done."
    assert "[tool look]seen" in prompt(agent)
    assert sdk.responses.retrieve(done.id).output_text == "Done."
    assert next(each.type for each in sdk.responses.input_items.list(done.id)) == "message"
    sdk.responses.delete(done.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(done.id)
