"""The Anthropic dialect over a real socket, with a scripted engine."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.config import ApiSettings, ServerSettings, Settings
from serve.engine.errors import QueueFullError
from serve.engine.request import FinishReason

USER = {"role": "user", "content": "hi"}
TOOL = {"name": "look", "description": "Look.", "input_schema": {"type": "object"}}
CALL = '<tool_call>\n{"name": "look", "arguments": {"at": 1}}\n</tool_call>'
HERMES = (
    "{# <tool_call> #}{% for m in messages %}[{{ m.role }}{% if m.name %} {{ m.name }}{% endif %}]"
    "{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}\n{% endfor %}"
    "{% if tools %}TOOLS {{ tools | tojson }}\n{% endif %}"
    "{% if enable_thinking is defined %}THINK {{ enable_thinking }}\n{% endif %}[assistant]"
)
USE = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "seen"}


def text(value: str) -> dict:
    return {"type": "text", "text": value}


def ask(live, path="/v1/messages", **body):
    return live.http.post(path, json={"messages": [USER], "max_tokens": 9} | body)


def events(response) -> list[tuple[str, dict]]:
    found = []
    for block in response.text.strip().split("\n\n"):
        name, data = block.split("\n")
        body = json.loads(data.removeprefix("data: "))
        assert name == f"event: {body['type']}"
        found.append((body["type"], body))
    return found


def prompt(live) -> str:
    return live.engine.detokenize(live.engine.requests[-1].prompt_token_ids)


@pytest.fixture
def hermes(serving):
    return serving(metadata={"tokenizer.chat_template": HERMES})


def test_a_plain_answer_is_a_message_of_text_with_usage(live):
    answer = ask(live).json()
    assert answer.pop("id").startswith("msg_")
    usage = answer.pop("usage")
    assert answer == {
        "type": "message",
        "role": "assistant",
        "model": "tiny-q4_0",
        "content": [text("Hello")],
        "stop_reason": "end_turn",
        "stop_sequence": None,
    }
    length = len(live.engine.requests[0].prompt_token_ids)
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (length - 1, 1)
    assert usage["output_tokens"] == 2


def test_the_events_of_a_stream_come_in_order_and_name_themselves(live):
    response = ask(live, stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    found = events(response)
    assert [name for name, _ in found] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert found[0][1]["message"]["content"] == []
    length = len(live.engine.requests[0].prompt_token_ids)
    assert found[0][1]["message"]["usage"]["input_tokens"] == length
    assert "".join(body["delta"]["text"] for _, body in found[2:4]) == "Hello"
    assert found[5][1]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert found[5][1]["usage"]["output_tokens"] == 2


@pytest.mark.parametrize(
    ("reason", "stop_text", "expected"),
    [
        (FinishReason.STOP, None, ("end_turn", None)),
        (FinishReason.LENGTH, None, ("max_tokens", None)),
        (FinishReason.STOP, "END", ("stop_sequence", "END")),
    ],
)
def test_the_reason_of_the_end_is_told_in_this_dialects_words(live, reason, stop_text, expected):
    live.engine.script.reason, live.engine.script.stop_text = reason, stop_text
    answer = ask(live, stop_sequences=["END"]).json()
    assert (answer["stop_reason"], answer["stop_sequence"]) == expected


def test_a_call_is_a_tool_use_block_with_its_input_as_an_object(hermes):
    hermes.engine.script.pieces = ["Let me.\n", CALL]
    answer = ask(hermes, tools=[TOOL]).json()
    first, second = answer["content"]
    assert first == text("Let me.")
    assert second.pop("id")
    assert second == {"type": "tool_use", "name": "look", "input": {"at": 1}}
    assert answer["stop_reason"] == "tool_use"


def test_streamed_calls_have_blocks_of_their_own(hermes):
    hermes.engine.script.pieces = list(f"Let me.\n{CALL}\n{CALL}")
    found = events(ask(hermes, tools=[TOOL], stream=True))
    starts = [body for name, body in found if name == "content_block_start"]
    assert [each["index"] for each in starts] == [0, 1, 2]
    assert [each["content_block"]["type"] for each in starts] == ["text", "tool_use", "tool_use"]
    assert starts[1]["content_block"]["input"] == {}
    deltas = [body["delta"] for name, body in found if name == "content_block_delta"]
    content = "".join(each.get("text", "") for each in deltas)
    inputs = [
        "".join(
            body["delta"].get("partial_json", "")
            for name, body in found
            if name == "content_block_delta" and body["index"] == index
        )
        for index in (1, 2)
    ]
    assert content == "Let me."
    assert [json.loads(each) for each in inputs] == [{"at": 1}, {"at": 1}]
    stops = [body["index"] for name, body in found if name == "content_block_stop"]
    assert stops == [0, 1, 2]
    assert found[-2][1]["delta"]["stop_reason"] == "tool_use"


def test_parallel_use_can_be_switched_off(hermes):
    hermes.engine.script.pieces = [CALL, CALL]
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    answer = ask(hermes, tools=[TOOL], tool_choice=choice).json()
    assert len(answer["content"]) == 1


def test_the_history_reaches_the_template_with_calls_results_and_thoughts(hermes):
    thought = {"type": "thinking", "thinking": "hm", "signature": "x"}
    hidden = {"type": "redacted_thinking", "data": "x"}
    blocks = [text("seen"), {"type": "text", "text": "twice", "cache_control": {}}]
    result = RESULT | {"content": blocks}
    turns = [
        USER,
        {"role": "assistant", "content": [thought, hidden, text("so"), USE]},
        {"role": "user", "content": [result, text("and"), text("now?")]},
    ]
    assert ask(hermes, messages=turns, system="be good", tools=[TOOL]).status_code == 200
    assert prompt(hermes).startswith(
        '<s>[system]be good[user]hi[assistant](hm)so{"name": "look", "arguments": {"at": 1}}'
        "[tool look]seen\ntwice[user]and\nnow?TOOLS "
    )
    assert '"parameters": {"type": "object"}' in prompt(hermes)


def test_tools_read_as_those_of_the_chat_dialect(hermes):
    ask(hermes, tools=[TOOL])
    function = {"name": "look", "description": "Look.", "parameters": {"type": "object"}}
    body = {"messages": [USER], "tools": [{"type": "function", "function": function}]}
    hermes.http.post("/v1/chat/completions", json=body)
    first, second = hermes.engine.requests
    assert first.prompt_token_ids == second.prompt_token_ids


def test_tools_are_left_out_when_none_is_to_be_used_or_the_host_would_run_them(hermes):
    ask(hermes, tools=[TOOL], tool_choice={"type": "none"})
    assert "TOOLS" not in prompt(hermes)
    ask(hermes, tools=[{"type": "web_search_20250305", "name": "web_search"}])
    assert "TOOLS" not in prompt(hermes)


def test_the_nonce_of_the_first_system_block_does_not_reach_the_prompt(hermes):
    def read(nonce):
        billing = text(f"x-billing: version=2.1; cch={nonce}; entry=cli")
        ask(hermes, system=[billing, text("about cch=keep")])
        return prompt(hermes)

    assert read("1a2b3") == read("ffffff")
    assert "cch=keep" in prompt(hermes)
    assert "version=2.1" in prompt(hermes)


def test_nonces_stay_when_the_configuration_says_so(serving):
    live = serving(Settings(api=ApiSettings(normalise_nonces=False)))
    ask(live, system="x: cch=1a2b3;")
    assert "cch=1a2b3;" in prompt(live)


def test_thinking_can_be_switched_off(hermes):
    ask(hermes, thinking={"type": "disabled"})
    assert "THINK False" in prompt(hermes)
    ask(hermes, thinking={"type": "enabled", "budget_tokens": 1024})
    assert "THINK" not in prompt(hermes)


def test_sampling_fields_and_limits_reach_the_engine(live):
    sent = {"temperature": 0.7, "top_p": 0.5, "top_k": 3}
    ask(live, **sent, stop_sequences=["a"], max_tokens=7, metadata={"user_id": "u"})
    [request] = live.engine.requests
    assert {name: getattr(request.sampling, name) for name in sent} == sent
    assert (request.stop, request.max_tokens) == (("a",), 7)


def test_counting_gives_the_length_of_the_prompt_and_asks_nothing_of_the_engine(hermes):
    body = {"system": "be good", "tools": [TOOL]}
    counted = ask(hermes, "/v1/messages/count_tokens", **body).json()
    assert not hermes.engine.requests
    ask(hermes, **body)
    assert counted == {"input_tokens": len(hermes.engine.requests[0].prompt_token_ids)}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "clown", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use"}]}]}, ".0.name"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "tool_use_id"),
        ({"messages": [{"role": "user", "content": [RESULT]}]}, "toolu_1"),
        ({"system": [{"type": "image"}]}, "system.0"),
        ({"tools": [{"input_schema": {}}]}, "tools.0.name"),
        ({"tools": [TOOL | {"input_schema": 5}]}, "tools.0.input_schema"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "other"}}, "tool_choice"),
        ({"stop_sequences": ["x"] * 65}, "stop"),
    ],
)
def test_what_cannot_be_honoured_is_a_400_in_this_dialects_envelope(hermes, body, named):
    response = ask(hermes, **body)
    assert response.status_code == 400
    envelope = response.json()
    assert set(envelope) == {"type", "error"}
    assert envelope["type"] == "error"
    assert envelope["error"]["type"] == "invalid_request_error"
    assert named in envelope["error"]["message"]
    assert not hermes.engine.requests


def test_a_body_that_is_no_json_is_a_400_in_the_envelope(live):
    response = live.http.post("/v1/messages", content=b"{")
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_missing_limit_is_a_400_that_names_it(live):
    response = live.http.post("/v1/messages", json={"messages": [USER]})
    assert response.status_code == 400
    assert "max_tokens" in response.json()["error"]["message"]


def test_a_prompt_beyond_the_context_says_the_words_that_clients_look_for(live):
    response = ask(live, messages=[{"role": "user", "content": "x" * 3000}], stream=True)
    assert response.status_code == 400
    message = response.json()["error"]["message"]
    assert message.startswith("prompt is too long: 3019 tokens > 2000 maximum")


def test_a_full_queue_is_a_rate_limit_error(live):
    live.engine.script.refuse = QueueFullError(64, 64, 3)
    response = ask(live)
    assert response.status_code == 429
    assert response.headers["retry-after"] == "3"
    assert response.json()["error"]["type"] == "rate_limit_error"


def test_a_failure_in_a_stream_is_an_error_event(live):
    live.engine.script.reason, live.engine.script.error = FinishReason.ERROR, "decode broke"
    name, body = events(ask(live, stream=True))[-1]
    assert name == "error"
    assert body["error"] == {"type": "api_error", "message": "decode broke"}


def test_a_failure_of_a_plain_answer_is_a_500_in_the_envelope(live):
    live.engine.script.reason, live.engine.script.error = FinishReason.ERROR, "decode broke"
    response = ask(live)
    assert response.status_code == 500
    assert response.json()["error"] == {"type": "api_error", "message": "decode broke"}


@pytest.mark.parametrize("headers", [{"x-api-key": "k"}, {"Authorization": "Bearer k"}])
def test_a_key_is_taken_from_either_header(serving, headers):
    live = serving(api_keys=("k",))
    body = {"messages": [USER], "max_tokens": 1}
    assert live.http.post("/v1/messages", json=body, headers=headers).status_code == 200
    refused = live.http.post("/v1/messages", json=body)
    assert refused.status_code == 401
    assert refused.json()["error"]["type"] == "authentication_error"


def test_pings_come_while_the_prompt_is_read_and_a_hang_up_stops_it(serving):
    live = serving(Settings(server=ServerSettings(ping_seconds=0.05)))
    live.engine.script.pieces, live.engine.script.hang = [], True
    body = {"messages": [USER], "max_tokens": 9, "stream": True}
    with live.http.stream("POST", "/v1/messages", json=body) as response:
        names = (line for line in response.iter_lines() if line.startswith("event"))
        assert next(names) == "event: message_start"
        assert next(names) == "event: ping"
        live.engine.wait_for_running(1)
    live.engine.wait_for_running(0)


def test_a_client_that_hangs_up_on_a_plain_answer_stops_it(live):
    live.engine.script.hang = True
    body = json.dumps({"messages": [USER], "max_tokens": 9})
    sock = live.connect(body, "/v1/messages")
    live.engine.wait_for_running(1)
    sock.close()
    live.engine.wait_for_running(0)


def test_a_coding_agents_turn_is_answered_and_its_next_prompt_begins_like_the_last(hermes):
    def turn(nonce, messages):
        billing = text(f"x-billing-header: version=2.1.9.f00; entrypoint=cli; cch={nonce};")
        rules = text("You edit code.") | {"cache_control": {"type": "ephemeral"}}
        body = {
            "model": "claude-any",
            "system": [billing, rules],
            "messages": messages,
            "tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}],
            "tool_choice": {"type": "auto"},
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "metadata": {"user_id": "u"},
            "max_tokens": 64,
            "stream": True,
        }
        headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
        response = hermes.http.post("/v1/messages?beta=true", json=body, headers=headers)
        assert response.status_code == 200
        assert events(response)[-1][0] == "message_stop"
        return prompt(hermes)

    asked = [{"role": "user", "content": [text("fix it")]}]
    answered = [{"role": "assistant", "content": [USE]}, {"role": "user", "content": [RESULT]}]
    first, second = turn("aaa", asked), turn("bbb", asked + answered)
    assert first.partition("TOOLS")[0] == second[: first.index("TOOLS")]


KINDS = ["text", "tool_use", "tool_result", "thinking", "redacted_thinking", "image"]
VALUES = st.none() | st.integers(-1, 9) | st.sampled_from(["x", "look", ""]) | st.just({"a": [1]})
BLOCKS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(KINDS)},
        optional=dict.fromkeys(
            ["text", "id", "name", "input", "tool_use_id", "content", "thinking"], VALUES
        ),
    ),
    max_size=3,
)
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system"]), "content": BLOCKS | VALUES}
    ),
    max_size=3,
)


def test_no_body_makes_the_server_fail(hermes):
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(messages=TURNS, system=VALUES | BLOCKS, tools=st.lists(VALUES | st.just(TOOL)))
    def check(messages, system, tools):
        response = ask(hermes, messages=messages, system=system, tools=tools)
        assert response.status_code in {200, 400}, response.text
        assert response.json()["type"] in {"message", "error"}

    check()


@pytest.fixture
def sdk(hermes):
    library = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")
    with library.Anthropic(
        base_url=f"http://127.0.0.1:{hermes.port}", api_key="none", max_retries=0
    ) as client:
        yield client


ASKING = {"model": "any", "max_tokens": 9, "messages": [USER]}


def test_the_sdk_reads_a_message_and_a_count(sdk, hermes):
    hermes.engine.script.pieces = ["Let me.\n", CALL]
    message = sdk.messages.create(**ASKING, tools=[TOOL])
    assert [block.type for block in message.content] == ["text", "tool_use"]
    assert message.content[1].input == {"at": 1}
    counted = sdk.messages.count_tokens(model="any", messages=[USER], tools=[TOOL])
    usage = message.usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_the_sdk_gathers_a_stream_into_the_same_message(sdk, hermes):
    hermes.engine.script.pieces = list(f"Let me.\n{CALL}")
    with sdk.messages.stream(**ASKING, tools=[TOOL]) as stream:
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["text", "tool_use"]
    assert message.content[0].text == "Let me."
    assert message.content[1].input == {"at": 1}
    assert message.stop_reason == "tool_use"
    assert message.usage.output_tokens == len(f"Let me.\n{CALL}")


def test_the_sdk_raises_its_own_error_for_a_refusal(sdk):
    errors = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")
    choice = {"type": "tool", "name": "other"}
    with pytest.raises(errors.BadRequestError, match="tool_choice"):
        sdk.messages.create(**ASKING, tools=[TOOL], tool_choice=choice)


@pytest.mark.parametrize("place", ["output_config", "output_format"])
def test_an_answer_is_held_to_a_schema(live, place):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    form = {"type": "json_schema", "schema": schema}
    body = {place: {"format": form} if place == "output_config" else form}
    assert ask(live, **body).status_code == 200
    [asked] = live.engine.requests
    held = json.loads(asked.constraint.source)
    assert (asked.constraint.kind, held["properties"]) == ("json_schema", schema["properties"])
    assert ask(live, **{place: {"format": {"type": "x"}, "type": "x"}}).status_code == 400
