"""Tools for a model whose template knows none, in every dialect; the engine is scripted."""

import json

import pytest

from serve.config import Settings, ToolSettings

PLAIN = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}|{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
FUNCTION = {"name": "read_file", "description": "Read a file.", "parameters": SCHEMA}
TOOL = {"type": "function", "function": FUNCTION}
CALL = '<tool_call>\n{"name": "read_file", "arguments": {"path": "a.py"}}\n</tool_call>'
RESULT = "<tool_response>\nx = 1\n</tool_response>"
ARGUMENTS = '{"path": "a.py"}'
USER = {"role": "user", "content": "Read a.py."}
CALLED = {"id": "call00000", "type": "function", "function": FUNCTION | {"arguments": ARGUMENTS}}

OPENAI = {
    "tools": [TOOL],
    "messages": [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALLED]},
        {"role": "tool", "tool_call_id": "call00000", "content": "x = 1"},
    ],
}
RESPONSES = {
    "tools": [{"type": "function"} | FUNCTION],
    "input": [
        USER,
        {"type": "function_call", "call_id": "c", "name": "read_file", "arguments": ARGUMENTS},
        {"type": "function_call_output", "call_id": "c", "output": "x = 1"},
    ],
}
ANTHROPIC = {
    "max_tokens": 50,
    "model": "tiny",
    "tools": [{"name": "read_file", "description": "Read a file.", "input_schema": SCHEMA}],
    "messages": [
        USER,
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "c", "name": "read_file", "input": {"path": "a.py"}}
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "c", "content": "x = 1"}],
        },
    ],
}
OLLAMA = {
    "tools": [TOOL],
    "stream": False,
    "messages": [
        USER,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "read_file", "arguments": {"path": "a.py"}}}],
        },
        {"role": "tool", "tool_name": "read_file", "content": "x = 1"},
    ],
}


def call_of_chat(body):
    return body["choices"][0]["message"]["tool_calls"][0]["function"]


def call_of_responses(body):
    return next(item for item in body["output"] if item["type"] == "function_call")


def call_of_anthropic(body):
    block = next(block for block in body["content"] if block["type"] == "tool_use")
    return {"name": block["name"], "arguments": block["input"]}


def call_of_ollama(body):
    return body["message"]["tool_calls"][0]["function"]


DIALECTS = pytest.mark.parametrize(
    ("path", "body", "call_of"),
    [
        ("/v1/chat/completions", OPENAI, call_of_chat),
        ("/v1/responses", RESPONSES, call_of_responses),
        ("/v1/messages", ANTHROPIC, call_of_anthropic),
        ("/api/chat", OLLAMA, call_of_ollama),
    ],
)
METADATA = {"tokenizer.chat_template": PLAIN}


@pytest.fixture
def live(serving):
    return serving(metadata=METADATA)


def prompt(live) -> str:
    return live.engine.detokenize(live.engine.requests[-1].prompt_token_ids)


@DIALECTS
def test_tools_history_and_answer_go_through(live, path, body, call_of):
    live.engine.script.pieces = ["Let me.\n", CALL]
    response = live.http.post(path, json=body)
    assert response.status_code == 200, response.text
    call = call_of(response.json())
    assert call["name"] == "read_file"
    arguments = call["arguments"]
    parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
    assert parsed == {"path": "a.py"}
    system, user, assistant, result, opened = prompt(live).removeprefix("<s>").split("|")
    assert json.dumps(FUNCTION) in system
    assert (user, assistant) == ("[user]Read a.py.", f"[assistant]{CALL}")
    assert (result, opened) == (f"[user]{RESULT}", "[assistant]")


@DIALECTS
def test_the_configuration_can_refuse_instead(serving, path, body, call_of):
    live = serving(Settings(tools=ToolSettings(generic=False)), metadata=METADATA)
    response = live.http.post(path, json=body)
    assert response.status_code == 400
    assert "tools.generic" in response.text
    assert not live.engine.requests


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "read_file"}}]
)
def test_a_call_that_must_come_is_constrained_to_the_form_that_was_asked_for(live, choice):
    live.engine.script.pieces = [CALL]
    response = live.http.post("/v1/chat/completions", json=OPENAI | {"tool_choice": choice})
    assert call_of_chat(response.json())["name"] == "read_file"
    constraint = live.engine.requests[-1].constraint
    assert constraint.trigger is None
    assert "<tool_call>" in constraint.source
    assert "read_file" in constraint.source


def test_tools_that_are_not_to_be_called_are_not_described(live):
    body = {"messages": [USER], "tools": [TOOL], "tool_choice": "none"}
    assert live.http.post("/v1/chat/completions", json=body).status_code == 200
    assert "read_file" not in prompt(live)


def test_a_form_and_tools_may_be_asked_for_together(live):
    body = {"messages": [USER], "tools": [TOOL], "response_format": {"type": "json_object"}}
    assert live.http.post("/v1/chat/completions", json=body).status_code == 200


def test_what_the_server_says_of_itself_tells_tools_in_words_from_trained_ones(live, serving):
    caps = live.http.get("/props").json()["chat_template_caps"]
    assert caps["supports_tools"]
    assert caps["generic_tools"]
    assert (
        "tools" in live.http.post("/api/show", json={"model": "tiny-q4_0"}).json()["capabilities"]
    )
    [model] = live.http.get("/v1/models").json()["data"]
    assert {"tools", "generic_tools"} <= set(model["capabilities"])
    trained = serving()
    [model] = trained.http.get("/v1/models").json()["data"]
    assert "generic_tools" not in model["capabilities"]
    assert not trained.http.get("/props").json()["chat_template_caps"]["generic_tools"]
    plain = serving(Settings(tools=ToolSettings(generic=False)), metadata=METADATA)
    [model] = plain.http.get("/v1/models").json()["data"]
    assert "tools" not in model["capabilities"]


def test_a_template_is_applied_as_a_chat_would(live):
    shown = live.http.post("/apply-template", json={"messages": [USER], "tools": [TOOL]})
    assert "read_file" in shown.json()["prompt"]
