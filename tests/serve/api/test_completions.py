"""The completions dialect over a real socket, with a scripted engine."""

import json

import pytest

from serve.config import LimitSettings, Settings
from serve.engine.request import Priority


def ask(live, **body):
    return live.http.post("/v1/completions", json={"prompt": "ab"} | body)


def chunks(text: str) -> list[dict]:
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data")]
    assert data.pop() == "[DONE]"
    return [json.loads(each) for each in data]


def sent(live, index=0) -> str:
    return live.engine.detokenize(live.engine.requests[index].prompt_token_ids)


def test_text_continues_and_stops_after_the_dialects_default_length(live):
    answer = ask(live).json()
    assert answer["choices"][0]["text"] == "Hello"
    assert answer["object"] == "text_completion"
    assert sent(live) == "<s>ab"
    assert live.engine.requests[0].max_tokens == 16


def test_no_limit_is_minus_one(live):
    ask(live, max_tokens=-1)
    assert live.engine.requests[0].max_tokens is None


def test_a_stream_brings_text_reason_and_usage(live):
    pieces = chunks(ask(live, stream=True, stream_options={"include_usage": True}).text)
    assert "".join(c["choices"][0]["text"] for c in pieces if c["choices"]) == "Hello"
    assert pieces[-2]["choices"][0]["finish_reason"] == "stop"
    assert pieces[-1]["usage"]["prompt_tokens"] == 3


def test_several_prompts_and_n_answers_come_in_order(live):
    answer = ask(live, prompt=["a", "bc"], n=2).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert [sent(live, index) for index in range(4)] == ["<s>a", "<s>a", "<s>bc", "<s>bc"]
    assert answer["usage"]["prompt_tokens"] == 2 + 3


@pytest.mark.parametrize(("prompt", "expected"), [([97, 98], ["ab"]), ([[97], [98]], ["a", "b"])])
def test_token_ids_are_read_as_they_are(live, prompt, expected):
    ask(live, prompt=prompt)
    assert [sent(live, index) for index in range(len(expected))] == expected


def test_best_of_gives_the_most_probable_answers_and_counts_all(live):
    live.engine.script.is_numbered = True
    answer = ask(live, n=2, best_of=4).json()
    assert [choice["text"] for choice in answer["choices"]] == ["Hello3", "Hello2"]
    assert [choice["logprobs"] for choice in answer["choices"]] == [None, None]
    assert answer["usage"]["completion_tokens"] == 4 * 3
    assert answer["usage"]["prompt_tokens"] == len(live.engine.requests[0].prompt_token_ids)


def test_echo_repeats_the_prompt_before_the_answer(live):
    assert ask(live, echo=True).json()["choices"][0]["text"] == "abHello"
    pieces = chunks(ask(live, echo=True, stream=True).text)
    assert "".join(each["choices"][0]["text"] for each in pieces) == "abHello"


def test_a_suffix_becomes_a_fim_prompt_that_goes_first(live):
    ask(live, prompt="def f(", suffix="):")
    assert sent(live) == "<s><pre>def f(<suf>):<mid>"
    assert live.engine.requests[0].priority is Priority.FIM


def test_a_spelled_out_fim_prompt_is_parsed_and_goes_first(live):
    ask(live, prompt="<pre>a<suf>b<mid>", max_tokens=4)
    assert live.engine.requests[0].prompt_token_ids == [256, 257, 97, 258, 98, 259]
    assert live.engine.requests[0].priority is Priority.FIM


def test_special_tokens_in_the_text_around_a_cursor_stay_text(live):
    ask(live, prompt="<mid>", suffix="x")
    assert live.engine.requests[0].prompt_token_ids[2:7] == list(b"<mid>")


def test_a_suffix_for_a_model_without_fim_is_a_400_that_says_so(serving):
    response = ask(serving(fim_suf_token_id=None), suffix="x")
    assert response.status_code == 400
    assert "fill-in-the-middle" in response.json()["error"]["message"]


def test_logprobs_have_the_shape_of_the_completions_dialect(live):
    marks = ask(live, logprobs=1).json()["choices"][0]["logprobs"]
    assert marks["tokens"] == ["Hel", "lo"]
    assert marks["token_logprobs"] == [-0.5, -0.5]
    assert marks["text_offset"] == [0, 3]
    assert marks["top_logprobs"] == [{"x": -1.0}, {"x": -1.0}]
    assert ask(live, logprobs=False).json()["choices"][0]["logprobs"] is None


@pytest.mark.parametrize("stream", [False, True])
def test_echo_with_logprobs_scores_the_prompt_and_then_the_answer(live, stream):
    response = ask(live, prompt="aé", echo=True, logprobs=1, max_tokens=2, stream=stream)
    if stream:
        choices = [choice for each in chunks(response.text) for choice in each["choices"]]
    else:
        choices = response.json()["choices"]
    marks = [choice["logprobs"] for choice in choices if choice.get("logprobs")]
    lists = {name: [each for part in marks for each in part[name]] for name in marks[0]}
    assert "".join(choice["text"] for choice in choices) == "aéHello"
    assert lists["tokens"] == ["<s>", "a", "\ufffd", "\ufffd", "Hel", "lo"]
    assert lists["token_logprobs"] == [None, -1.0, -2.0, -3.0, -0.5, -0.5]
    assert lists["top_logprobs"] == [None, *[{"x": -1.0}] * 5]
    assert lists["text_offset"] == [0, 0, 1, 1, 2, 5]
    [request] = live.engine.requests
    assert request.prompt_logprobs == 1
    assert request.priority is Priority.BACKGROUND


def test_a_prompt_of_one_token_has_one_entry_and_nothing_foreseen(live):
    body = {"prompt": [97], "echo": True, "logprobs": 0, "max_tokens": 0}
    live.engine.script.pieces = []
    [choice] = ask(live, **body).json()["choices"]
    assert choice["logprobs"]["tokens"] == ["a"]
    assert choice["logprobs"]["token_logprobs"] == [None]
    pieces = [each["choices"][0] for each in chunks(ask(live, stream=True, **body).text)]
    assert pieces[0]["logprobs"] == choice["logprobs"]


def test_without_echo_the_prompt_is_not_scored(live):
    ask(live, logprobs=1)
    ask(live, echo=True)
    assert [request.prompt_logprobs for request in live.engine.requests] == [None, None]


def test_too_many_scores_are_refused_with_the_limit_and_the_remedy(serving):
    live = serving(Settings(limits=LimitSettings(prompt_logprobs=5)))
    assert ask(live, prompt="abcd", echo=True, logprobs=0).status_code == 200
    message = ask(live, prompt="abcd", echo=True, logprobs=1).json()["error"]["message"]
    assert "makes 10 values, the limit is 5 (limits.prompt_logprobs)" in message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [99999]}, "prompt"),
        ({"prompt": ["a"] * 33}, "prompt"),
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"best_of": 3, "stream": True}, "best_of"),
        ({"best_of": 99}, "n"),
        ({"echo": True, "logprobs": 1, "suffix": "x"}, "echo"),
        ({"echo": True, "logprobs": 20, "prompt": ["x" * 1900] * 8}, "logprobs"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"prompt": None}, "prompt"),
    ],
)
def test_what_cannot_be_honoured_is_a_400_naming_the_field(live, body, param):
    response = ask(live, **body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_an_empty_prompt_needs_a_bos_to_start_from(serving):
    assert ask(serving(), prompt="").status_code == 200
    assert ask(serving(add_bos=False), prompt="").status_code == 400


def test_if_one_prompt_is_refused_the_others_are_stopped(live):
    live.engine.script.hang = True
    response = ask(live, prompt=["short", "x" * 3000])
    assert response.json()["error"]["code"] == "context_length_exceeded"
    live.engine.wait_for_running(0)


@pytest.mark.parametrize("stream", [False, True])
def test_the_hosted_fim_dialect_answers_in_the_shape_of_chat(live, stream):
    body = {"prompt": "def f(", "suffix": "):", "stream": stream, "max_tokens": 5}
    response = live.http.post("/v1/fim/completions", json=body)
    assert sent(live) == "<s><pre>def f(<suf>):<mid>"
    assert live.engine.requests[0].priority is Priority.FIM
    if stream:
        text = "".join(
            choice["delta"].get("content", "")
            for chunk in chunks(response.text)
            for choice in chunk["choices"]
        )
    else:
        text = response.json()["choices"][0]["message"]["content"]
    assert text == "Hello"
