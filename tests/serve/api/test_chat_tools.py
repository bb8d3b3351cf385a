"""Tools over a real socket, with a scripted engine."""

import json

import openai
import pytest

from serve.api.answer_reader import Quiet
from serve.engine.request import FinishReason

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL = '<tool_call>\n{"name": "look", "arguments": {"at": 1}}\n</tool_call>'
HERMES = (
    "{# <tool_call> #}{% for m in messages %}[{{ m.role }}{% if m.name %} {{ m.name }}{% endif %}]"
    "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}\n"
    "{% endfor %}{% if tools %}TOOLS {{ tools | tojson }}\n{% endif %}[assistant]"
)
PASTING = HERMES.replace("c.function | tojson", "c.function.name + c.function.arguments")
PRINTING = HERMES.replace("c.function | tojson", "c.function.arguments")
HISTORY = [
    USER,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "look", "arguments": '{"at": "é"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "seen"},
]


def ask(live, **body):
    sent = {"messages": [USER], "tools": [TOOL]} | body
    return live.http.post("/v1/chat/completions", json=sent)


def deltas(text: str) -> list[dict]:
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data")]
    assert data.pop() == "[DONE]"
    return [json.loads(each)["choices"][0] for each in data]


@pytest.fixture
def hermes(serving):
    return serving(metadata={"tokenizer.chat_template": HERMES})


def prompt(live) -> str:
    return live.engine.detokenize(live.engine.requests[-1].prompt_token_ids)


def test_a_plain_answer_holds_content_and_calls_apart(hermes):
    hermes.engine.script.pieces = ["Let me.\n", CALL]
    [choice] = ask(hermes).json()["choices"]
    [call] = choice["message"].pop("tool_calls")
    assert choice["message"] == {"role": "assistant", "content": "Let me."}
    assert choice["finish_reason"] == "tool_calls"
    assert call["id"].startswith("call_")
    assert call["type"] == "function"
    assert call["function"]["name"] == "look"
    assert json.loads(call["function"]["arguments"]) == {"at": 1}


def test_an_answer_of_calls_only_has_null_content(hermes):
    hermes.engine.script.pieces = [CALL, "\n", CALL]
    [choice] = ask(hermes).json()["choices"]
    assert choice["message"]["content"] is None
    first, second = choice["message"]["tool_calls"]
    assert first["id"] != second["id"]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_stream_brings_content_then_name_then_arguments_and_no_markup(hermes, size):
    text = f"Let me.\n{CALL}\n{CALL}"
    hermes.engine.script.pieces = [text[i : i + size] for i in range(0, len(text), size)]
    choices = deltas(ask(hermes, stream=True).text)
    content = "".join(each["delta"].get("content", "") for each in choices)
    calls = [c for each in choices for c in each["delta"].get("tool_calls", [])]
    assert content == "Let me."
    for index in (0, 1):
        opening, *rest = [call for call in calls if call["index"] == index]
        assert opening["function"] == {"name": "look", "arguments": ""}
        assert "".join(each["function"]["arguments"] for each in rest) == '{"at": 1}'
        assert all(each.keys() == {"index", "function"} for each in rest)
    assert [call["index"] for call in calls] == sorted(call["index"] for call in calls)
    assert choices[-1]["finish_reason"] == "tool_calls"


def test_without_parallel_calls_only_the_first_is_given(hermes):
    hermes.engine.script.pieces = [CALL, CALL]
    [choice] = ask(hermes, parallel_tool_calls=False).json()["choices"]
    assert len(choice["message"]["tool_calls"]) == 1


@pytest.mark.parametrize("body", [{"tools": None}, {"tool_choice": "none"}, {"tools": []}])
@pytest.mark.parametrize("stream", [False, True])
def test_without_tools_markup_is_text_like_any_other(hermes, body, stream):
    hermes.engine.script.pieces = [CALL]
    response = ask(hermes, stream=stream, **body)
    if stream:
        choices = deltas(response.text)
        content = "".join(each["delta"].get("content", "") for each in choices)
        assert choices[-1]["finish_reason"] == "stop"
    else:
        content = response.json()["choices"][0]["message"]["content"]
    assert content == CALL


@pytest.mark.parametrize("stream", [False, True])
def test_a_broken_call_is_content_and_never_a_500(hermes, stream):
    broken = '<tool_call>{"name": "look", "arguments": {oops}</tool_call>'
    hermes.engine.script.pieces = [broken]
    response = ask(hermes, stream=stream)
    assert response.status_code == 200
    if stream:
        content = "".join(c["delta"].get("content", "") for c in deltas(response.text))
    else:
        [choice] = response.json()["choices"]
        assert "tool_calls" not in choice["message"]
        content = choice["message"]["content"]
    assert content == broken


def test_a_call_cut_by_the_token_limit_is_content_with_reason_length(hermes):
    hermes.engine.script.pieces = [CALL[:30]]
    hermes.engine.script.reason = FinishReason.LENGTH
    [choice] = ask(hermes).json()["choices"]
    assert choice["message"]["content"] == CALL[:30]
    assert choice["finish_reason"] == "length"


def test_logprobs_of_held_back_text_are_not_lost(hermes):
    hermes.engine.script.pieces = ["<tool", CALL.removeprefix("<tool")]
    choices = deltas(ask(hermes, stream=True, logprobs=True).text)
    assert sum(len(c["logprobs"]["content"]) for c in choices if c.get("logprobs")) == 2


def test_a_ping_is_due_when_a_long_call_has_kept_a_stream_silent():
    now = [0.0]
    quiet = Quiet(10.0, clock=lambda: now[0])

    def at(seconds, *, said):
        now[0] = seconds
        return quiet.needs_ping(said=said)

    assert not at(9, said=False)
    assert at(10, said=False)
    assert not at(19, said=False)
    assert not at(21, said=True)
    assert not at(30, said=False)
    assert at(31, said=False)


def test_history_reaches_the_template_as_objects_and_results_are_named(hermes):
    assert ask(hermes, messages=HISTORY).status_code == 200
    assert '{"name": "look", "arguments": {"at": "é"}}' in prompt(hermes)
    assert "[tool look]seen" in prompt(hermes)


@pytest.mark.parametrize("template", [PASTING, PRINTING])
def test_a_template_that_pastes_arguments_gets_them_as_json_text(serving, template):
    live = serving(metadata={"tokenizer.chat_template": template})
    assert ask(live, messages=HISTORY).status_code == 200
    assert '{"at": "é"}' in prompt(live)


def test_a_nine_letter_id_is_made_where_the_family_needs_it(serving):
    mistral = HERMES.replace("<tool_call>", "[TOOL_CALLS]")
    live = serving(metadata={"tokenizer.chat_template": mistral})
    live.engine.script.pieces = ['[TOOL_CALLS][{"name": "look", "arguments": {}}]']
    [choice] = ask(live).json()["choices"]
    assert len(choice["message"]["tool_calls"][0]["id"]) == 9


def changed(index: int, **fields) -> list[dict]:
    return [message | (fields if at == index else {}) for at, message in enumerate(HISTORY)]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": changed(2, tool_call_id="call_9")}, "messages.2.tool_call_id"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "messages.1.tool_call_id"),
        (
            {"messages": changed(1, tool_calls=[{"function": {"name": "look"}}])},
            "messages.1.tool_calls.0.id",
        ),
        (
            {"messages": changed(1, tool_calls=[{"function": {"name": "f", "arguments": "{"}}])},
            "messages.1.tool_calls.0.function.arguments",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"type": "function"}]}, "tools.0.function.name"),
        ({"tools": [TOOL, {"function": {"name": 5}}]}, "tools.1.function.name"),
        ({"tools": None, "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
    ],
)
def test_malformed_tools_and_history_are_a_400_naming_the_field(hermes, body, param):
    response = ask(hermes, **body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert not hermes.engine.requests


@pytest.fixture
def sdk(hermes):
    with openai.OpenAI(
        base_url=f"http://127.0.0.1:{hermes.port}/v1", api_key="none", max_retries=0
    ) as client:
        yield client


def test_the_sdk_carries_a_call_to_its_result_and_back(sdk, hermes):
    hermes.engine.script.pieces = ["Let me.\n", CALL]
    asked = {"model": "any", "messages": [USER], "tools": [TOOL]}
    message = sdk.chat.completions.create(**asked).choices[0].message
    [call] = message.tool_calls
    assert json.loads(call.function.arguments) == {"at": 1}
    result = {"role": "tool", "tool_call_id": call.id, "content": "seen"}
    hermes.engine.script.pieces = ["Done."]
    answer = sdk.chat.completions.create(**asked | {"messages": [USER, message, result]})
    assert answer.choices[0].message.content == "Done."
    assert "[tool look]seen" in prompt(hermes)


def test_the_sdk_gathers_a_streamed_call(sdk, hermes):
    hermes.engine.script.pieces = list(f"Let me.\n{CALL}")
    asked = {"model": "any", "messages": [USER], "tools": [TOOL]}
    with sdk.chat.completions.stream(**asked) as stream:
        [choice] = stream.get_final_completion().choices
    assert choice.message.content == "Let me."
    assert choice.message.tool_calls[0].function.name == "look"
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"at": 1}
    assert choice.finish_reason == "tool_calls"
