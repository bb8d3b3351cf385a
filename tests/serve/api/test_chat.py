"""The chat dialect over a real socket, with a scripted engine."""

import json

import pytest

from serve.config import LimitSettings, SamplingSettings, Settings
from serve.engine.errors import QueueFullError
from serve.engine.request import FinishReason, Priority

USER = {"role": "user", "content": "hi"}


def events(text: str) -> list[dict]:
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data")]
    assert data.pop() == "[DONE]"
    return [json.loads(each) for each in data]


def ask(live, **body):
    return live.http.post("/v1/chat/completions", json={"messages": [USER]} | body)


def test_a_plain_answer_has_text_reason_usage_and_timings(live):
    answer = ask(live).json()
    [choice] = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello"}
    assert choice["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 2
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}
    assert answer["timings"]["predicted_per_second"] == 4.0  # one token after the first
    assert answer["object"] == "chat.completion"


def test_a_stream_opens_with_the_role_and_ends_with_reason_and_done(live):
    response = ask(live, stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    first, *middle, last = events(response.text)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(each["choices"][0]["delta"]["content"] for each in middle) == "Hello"
    assert last["choices"][0]["finish_reason"] == "stop"


def test_usage_comes_last_and_with_no_choices_when_it_is_asked_for(live):
    response = ask(live, stream=True, stream_options={"include_usage": True})
    last = events(response.text)[-1]
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + 2


def prompt(live) -> str:
    return live.engine.detokenize(live.engine.requests[-1].prompt_token_ids)


def test_a_last_assistant_turn_is_closed_where_the_request_says_so(live):
    begun = [USER, {"role": "assistant", "content": "Dear"}]
    for more in ({}, {"continue_final_message": True, "add_generation_prompt": False}):
        ask(live, messages=begun, **more)
        assert prompt(live).endswith("[assistant]Dear")
    ask(live, messages=begun, continue_final_message=False)
    assert prompt(live).endswith("[assistant]Dear\n[assistant]")
    refused = ask(live, messages=begun, continue_final_message=True, add_generation_prompt=True)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "continue_final_message"


def test_the_tokens_of_a_prompt_are_counted_without_an_answer(live):
    counted = live.http.post("/v1/chat/completions/input_tokens", json={"messages": [USER]})
    assert not live.engine.requests
    assert counted.json()["input_tokens"] == ask(live).json()["usage"]["prompt_tokens"]


def test_a_configured_seed_holds_for_requests_that_send_none(serving):
    live = serving(Settings(sampling=SamplingSettings(seed=7)))
    for body in ({}, {"seed": 3}, {"seed": -1}):
        ask(live, **body)
    assert [request.sampling.seed for request in live.engine.requests] == [7, 3, None]
    settings = live.http.get("/props").json()["default_generation_settings"]
    assert settings["params"]["seed"] == 7


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions"])
def test_the_route_exists_with_and_without_v1(live, path):
    assert live.http.post(path, json={"messages": [USER]}).status_code == 200


def test_the_prompt_is_rendered_with_one_bos(live):
    ask(live)
    [request] = live.engine.requests
    assert live.engine.detokenize(request.prompt_token_ids) == "<s>[user]hi\n[assistant]"


def test_sampling_fields_reach_the_engine(live):
    sent = {"temperature": 0.7, "top_p": 0.5, "top_k": 3, "min_p": 0.1, "seed": 9}
    penalties = {"frequency_penalty": 0.3, "presence_penalty": 0.2}
    ask(live, **sent, **penalties, logit_bias={"5": -100}, stop=["a", ""], max_tokens=7)
    [request] = live.engine.requests
    assert {name: getattr(request.sampling, name) for name in sent} == sent
    assert {name: getattr(request.sampling, name) for name in penalties} == penalties
    assert request.sampling.logit_bias == {5: -100}
    assert request.stop == ("a",)
    assert request.max_tokens == 7


def test_a_client_that_sends_no_sampling_gets_the_defaults_for_code(live):
    ask(live)
    assert live.engine.requests[0].sampling.temperature == 0.2


def test_the_file_sets_defaults_and_the_configuration_overrules_them(serving):
    settings = Settings(sampling=SamplingSettings(top_k=7))
    live = serving(
        settings,
        metadata={
            "general.sampling.temp": "0.6",
            "general.sampling.top_k": "5",
            "tokenizer.chat_template": "x",
        },
    )
    ask(live)
    sampling = live.engine.requests[0].sampling
    assert (sampling.temperature, sampling.top_k) == (0.6, 7)


def test_max_completion_tokens_wins_over_the_older_name(live):
    ask(live, max_tokens=5, max_completion_tokens=9)
    assert live.engine.requests[0].max_tokens == 9


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, Priority.INTERACTIVE),
        ({"service_tier": "flex"}, Priority.BACKGROUND),
        ({"n_predict": 0}, Priority.BACKGROUND),
    ],
)
def test_flex_and_warm_ups_wait_for_everyone_else(live, body, expected):
    assert ask(live, **body).status_code == 200
    assert live.engine.requests[0].priority is expected


def test_n_answers_are_separate_sequences_with_seeds_of_their_own(live):
    answer = ask(live, n=3, seed=5).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert [request.sampling.seed for request in live.engine.requests] == [5, 6, 7]
    prompt = answer["usage"]["prompt_tokens"]
    assert prompt == len(live.engine.requests[0].prompt_token_ids)


def test_a_stream_of_n_answers_keeps_them_apart(live):
    chunks = events(ask(live, n=2, stream=True).text)
    for index in (0, 1):
        mine = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
        assert "".join(each["delta"].get("content", "") for each in mine) == "Hello"


def test_logprobs_have_the_shape_of_the_chat_dialect(live):
    answer = ask(live, logprobs=True, top_logprobs=2).json()
    entry = answer["choices"][0]["logprobs"]["content"][0]
    assert (entry["token"], entry["logprob"], entry["bytes"]) == ("Hel", -0.5, [72, 101, 108])
    assert [top["logprob"] for top in entry["top_logprobs"]] == [-1.0, -2.0]


def test_text_parts_are_joined_and_unknown_fields_are_ignored(live):
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    response = ask(live, messages=[{"role": "user", "content": parts}], store=True, metadata={})
    assert response.status_code == 200
    assert "[user]a\nb\n" in live.engine.detokenize(live.engine.requests[0].prompt_token_ids)


def test_tools_are_rendered_unless_the_choice_is_none(live):
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    ask(live, tools=[tool], tool_choice="auto")
    ask(live, tools=[tool], tool_choice="none")
    with_tools, without = live.engine.requests
    assert '"name": "look"' in live.engine.detokenize(with_tools.prompt_token_ids)
    assert "TOOLS" not in live.engine.detokenize(without.prompt_token_ids)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0.content.0",
        ),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"n": 0}, "n"),
        ({"n": 99}, "n"),
        ({"stop": ["x"] * 65}, "stop"),
        ({"max_tokens": -5}, "max_tokens"),
        ({"logit_bias": 3}, "logit_bias"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"temperature": "hot"}, "temperature"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
    ],
)
def test_what_cannot_be_honoured_is_a_400_naming_the_field(live, body, param):
    response = ask(live, **body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert not live.engine.requests


def test_the_templates_own_words_come_back_when_it_refuses(live):
    response = ask(live, messages=[{"role": "clown", "content": "x"}])
    assert response.status_code == 400
    assert "no clowns" in response.json()["error"]["message"]


def test_a_model_without_a_template_refuses_chat_and_says_what_to_do(serving):
    response = ask(serving(metadata={}))
    assert response.status_code == 400
    assert "template_file" in response.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_beyond_the_context_is_refused_before_the_headers_with_both_numbers(live, stream):
    response = ask(live, messages=[{"role": "user", "content": "x" * 3000}], stream=stream)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (3019, 2000)
    assert (error["code"], error["type"]) == (
        "context_length_exceeded",
        "exceed_context_size_error",
    )


def test_a_full_queue_is_a_429_that_says_when_to_come_back(live):
    live.engine.script.refuse = QueueFullError(64, 64, 3)
    response = ask(live, stream=True)
    assert response.status_code == 429
    assert response.headers["retry-after"] == "3"
    assert response.json()["error"]["code"] == "queue_full"


def test_an_engine_failure_is_a_500_with_its_reason(live):
    live.engine.script.reason, live.engine.script.error = FinishReason.ERROR, "decode broke"
    response = ask(live)
    assert response.status_code == 500
    assert response.json()["error"]["message"] == "decode broke"


def test_an_engine_failure_in_a_stream_is_an_error_event_and_no_done(live):
    live.engine.script.reason, live.engine.script.error = FinishReason.ERROR, "decode broke"
    response = ask(live, stream=True)
    assert response.status_code == 200
    last = response.text.strip().splitlines()[-1]
    assert json.loads(last.removeprefix("data: "))["error"]["message"] == "decode broke"


def test_a_body_beyond_the_limit_is_a_413(serving):
    live = serving(Settings(limits=LimitSettings(body_bytes=100)))
    response = ask(live, messages=[{"role": "user", "content": "x" * 200}])
    assert response.status_code == 413
    assert response.json()["error"]["type"] == "invalid_request_error"
