"""Thoughts in every chat dialect, with a scripted engine."""

import json

import pytest

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}[assistant]"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
)
ANSWER = "<think>\nFirst.\n</think>\n\nThen."
USER = {"role": "user", "content": "hi"}
CALL = '<tool_call>{"name": "look", "arguments": {}}</tool_call>'
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


@pytest.fixture
def thinker(serving):
    return serving(metadata={"tokenizer.chat_template": TEMPLATE})


def say(live, text, size=3):
    live.engine.script.pieces = [text[i : i + size] for i in range(0, len(text), size)]


def ask(live, path, **body):
    return live.http.post(path, json={"messages": [USER], "max_tokens": 99} | body)


def prompt(live) -> str:
    return live.engine.detokenize(live.engine.requests[-1].prompt_token_ids)


def data_of(text: str) -> list[dict]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_chat_gives_thoughts_beside_the_content_and_counts_them(thinker):
    say(thinker, ANSWER)
    answer = ask(thinker, "/v1/chat/completions").json()
    message = answer["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "Then.", "reasoning_content": "First."}
    counted = answer["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert counted == len("First.")  # the scripted engine's tokens are bytes


def test_a_chat_stream_gives_thoughts_first(thinker):
    say(thinker, ANSWER)
    more = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = data_of(ask(thinker, "/v1/chat/completions", **more).text)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    kinds = [next(iter(delta)) for delta in deltas[1:-1]]
    assert kinds == sorted(kinds, reverse=True)  # reasoning_content before content
    assert "".join(d.get("reasoning_content", "") for d in deltas) == "First."
    assert "".join(d.get("content", "") for d in deltas) == "Then."
    assert last["usage"]["completion_tokens_details"]["reasoning_tokens"] == len("First.")


def test_a_client_that_wants_the_text_as_it_stands_gets_it(thinker):
    say(thinker, ANSWER)
    answer = ask(thinker, "/v1/chat/completions", reasoning_format="none").json()
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": ANSWER}


def test_a_model_without_thoughts_has_none(live):
    say(live, ANSWER)
    answer = ask(live, "/v1/chat/completions").json()
    assert answer["choices"][0]["message"]["content"] == ANSWER


def test_thoughts_that_the_template_opens_need_no_mark(serving):
    live = serving(metadata={"tokenizer.chat_template": TEMPLATE + "<think>\n{# </think> #}"})
    say(live, "First.\n</think>\n\nThen.")
    message = ask(live, "/v1/chat/completions").json()["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("First.", "Then.")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"reasoning_effort": "none"}),
        ("/v1/messages", {"thinking": {"type": "disabled"}}),
        ("/api/chat", {"think": False, "stream": False}),
    ],
)
def test_thinking_can_be_switched_off(thinker, path, body):
    assert ask(thinker, path, **body).status_code == 200
    assert prompt(thinker).endswith("[assistant]<think></think>")


def test_calls_in_thoughts_are_thoughts(serving):
    tools = "{% if tools %}{{ tools | tojson }}{% endif %}"
    live = serving(metadata={"tokenizer.chat_template": TEMPLATE + tools})
    say(live, f"<think>{CALL}</think>{CALL}")
    [choice] = ask(live, "/v1/chat/completions", tools=[TOOL]).json()["choices"]
    assert choice["message"]["reasoning_content"] == CALL
    assert len(choice["message"]["tool_calls"]) == 1
    assert choice["finish_reason"] == "tool_calls"


def test_anthropic_gives_a_thinking_block(thinker):
    say(thinker, ANSWER)
    content = ask(thinker, "/v1/messages").json()["content"]
    assert content == [
        {"type": "thinking", "thinking": "First.", "signature": ""},
        {"type": "text", "text": "Then."},
    ]


def test_an_anthropic_stream_closes_the_thoughts_before_the_text(thinker):
    say(thinker, ANSWER)
    events = data_of(ask(thinker, "/v1/messages", stream=True).text)
    opened = [e["content_block"]["type"] for e in events if e["type"] == "content_block_start"]
    assert opened == ["thinking", "text"]
    places = [e["index"] for e in events if "index" in e]
    assert places == sorted(places)
    deltas = [e["delta"] for e in events if e["type"] == "content_block_delta"]
    assert "".join(d.get("thinking", "") for d in deltas) == "First."
    assert "".join(d.get("text", "") for d in deltas) == "Then."


@pytest.mark.parametrize("stream", [False, True])
def test_ollama_gives_thinking_beside_the_content(thinker, stream):
    say(thinker, ANSWER)
    text = ask(thinker, "/api/chat", stream=stream, think=True).text
    turns = [json.loads(line)["message"] for line in text.splitlines()]
    assert "".join(turn.get("thinking", "") for turn in turns) == "First."
    assert "".join(turn["content"] for turn in turns) == "Then."


def test_ollama_generates_with_thinking_and_raw_without(thinker):
    say(thinker, ANSWER)
    body = {"prompt": "hi", "stream": False}
    answer = thinker.http.post("/api/generate", json=body).json()
    assert (answer["thinking"], answer["response"]) == ("First.", "Then.")
    answer = thinker.http.post("/api/generate", json=body | {"raw": True}).json()
    assert answer["response"] == ANSWER


def test_ollama_names_the_capability_and_refuses_where_it_is_missing(thinker, live):
    shown = thinker.http.post("/api/show", json={"model": "tiny-q4_0"}).json()
    assert "thinking" in shown["capabilities"]
    refused = ask(live, "/api/chat", think=True)
    assert refused.status_code == 400
    assert "does not support thinking" in refused.json()["error"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat"])
def test_a_last_assistant_turn_is_continued(thinker, path):
    begun = [USER, {"role": "assistant", "content": "Dear"}]
    assert ask(thinker, path, messages=begun).status_code == 200
    assert prompt(thinker).endswith("[assistant]Dear")
