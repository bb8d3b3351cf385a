"""llama.cpp's dialect over a real socket, with a scripted engine."""

import json
import math

import pytest

from serve.config import ApiSettings, Settings
from serve.engine.request import FinishReason, Priority


def infill(live, **body):
    return live.http.post("/infill", json={"input_prefix": "a\n", "input_suffix": "z"} | body)


def sent(live) -> str:
    return live.engine.detokenize(live.engine.requests[-1].prompt_token_ids)


def test_infill_lays_out_prefix_cursor_line_and_suffix(live):
    answer = infill(live, prompt="b", n_predict=8, id_slot=17, t_max_prompt_ms=500).json()
    assert sent(live) == "<s><pre>a\n<suf>z<mid>"
    assert live.engine.requests[0].begins_with == "b"
    assert live.engine.requests[0].priority is Priority.FIM
    assert answer["content"] == "Hello"
    assert (answer["stop"], answer["stop_type"], answer["truncated"]) == (True, "eos", False)


def test_infill_puts_other_files_before_the_cursor_with_the_models_separators(live):
    infill(live, input_extra=[{"filename": "x.py", "text": "1"}, {"filename": "y.py", "text": "2"}])
    expected = "<s><rep>repository\n<sep>x.py\n1\n<sep>y.py\n2\n<sep>current\n<pre>a\n<suf>z<mid>"
    assert sent(live) == expected


def test_a_long_file_is_cut_around_the_cursor_and_says_so(live):
    answer = infill(live, input_prefix="p" * 4000, input_suffix="s" * 4000, n_predict=100).json()
    assert answer["truncated"] is True
    assert len(live.engine.requests[0].prompt_token_ids) == 1900
    assert sent(live).count("p") == pytest.approx(3 * sent(live).count("s"), abs=20)


def test_response_fields_come_back_flat(live):
    fields = ["content", "timings/prompt_n", "timings/predicted_per_second", "nowhere/x"]
    answer = infill(live, response_fields=fields).json()
    assert set(answer) == set(fields[:3])
    assert answer["timings/predicted_per_second"] == 4.0


def test_a_warm_up_reads_in_the_background_and_answers_nothing(live):
    response = infill(live, n_predict=0, samplers=[], response_fields=[""])
    assert response.json() == {}
    assert live.engine.requests[0].max_tokens == 0
    assert live.engine.requests[0].priority is Priority.BACKGROUND


def test_filters_that_the_samplers_list_leaves_out_are_off(live):
    infill(live, samplers=["top_k", "infill"], top_k=20, top_p=0.9, min_p=0.2)
    sampling = live.engine.requests[0].sampling
    assert (sampling.top_k, sampling.top_p, sampling.min_p) == (20, 1.0, 0.0)


def test_an_answer_ends_where_its_block_ends(live):
    live.engine.script.pieces = ["    x = 1\n", "    y = 2\n", "de", "f g():\n"]
    live.engine.script.hang = True
    answer = infill(live, n_indent=4).json()
    assert answer["content"] == "    x = 1\n    y = 2\n"
    assert answer["stop_type"] == "limit"
    live.engine.wait_for_running(0)


def test_an_answer_of_several_lines_ends_when_its_time_is_over(live):
    live.engine.script.pieces = ["one line", "\n", "another"]
    live.engine.script.hang = True
    answer = infill(live, t_max_predict_ms=0.0001).json()
    assert answer["content"] == "one line\n"
    assert answer["stop_type"] == "limit"


def test_several_completions_come_as_a_list(live):
    answers = infill(live, n_cmpl=2).json()
    assert [each["index"] for each in answers] == [0, 1]


def test_a_model_without_fim_tokens_refuses_infill(serving):
    assert infill(serving(fim_mid_token_id=None)).status_code == 400


def test_an_adapter_that_is_not_loaded_is_refused_unless_its_scale_is_zero(live):
    assert infill(live, lora=[{"id": 0, "scale": 0.5}]).status_code == 400
    assert infill(live, lora=[{"id": 0, "scale": 0}]).status_code == 200


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("ab", "<s>ab"), ([97, 98], "ab"), (["a", 98, "<suf>"], "<s>ab<suf>")],
)
def test_completion_reads_text_ids_and_mixtures(live, prompt, expected):
    live.engine.script.stop_text = "END"
    answer = live.http.post("/completion", json={"prompt": prompt, "n_predict": 3}).json()
    assert sent(live) == expected
    assert (answer["stop_type"], answer["stopping_word"]) == ("word", "END")
    assert answer["tokens_evaluated"] == len(live.engine.requests[0].prompt_token_ids)


def test_completion_streams_pieces_and_ends_without_done(live):
    live.engine.script.reason = FinishReason.LENGTH
    text = live.http.post("/completion", json={"prompt": "a", "stream": True}).text
    pieces = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]
    assert [each["content"] for each in pieces] == ["Hel", "lo", ""]
    assert [each["stop"] for each in pieces] == [False, False, True]
    assert pieces[-1]["stop_type"] == "limit"


def test_completion_reports_probabilities(live):
    body = {"prompt": "a", "n_probs": 2}
    first = live.http.post("/completion", json=body).json()["completion_probabilities"][0]
    assert (first["token"], first["logprob"]) == ("Hel", -0.5)
    assert len(first["top_logprobs"]) == 2


def test_templates_render_without_generating(live):
    body = {"messages": [{"role": "user", "content": "hi"}], "add_generation_prompt": False}
    assert live.http.post("/apply-template", json=body).json() == {"prompt": "<s>[user]hi\n"}
    assert not live.engine.requests


def test_text_becomes_tokens_and_tokens_text(live):
    def tokens(**body):
        return live.http.post("/tokenize", json=body).json()["tokens"]

    assert tokens(content="a<suf>") == [97, 258]
    assert tokens(content="a", add_special=True) == [256, 97]
    assert tokens(content="<s>", parse_special=False) == [60, 115, 62]
    assert tokens(content="é", with_pieces=True)[0] == {"id": 195, "piece": [195]}
    assert live.http.post("/detokenize", json={"tokens": [97, 98]}).json() == {"content": "ab"}
    assert live.http.post("/detokenize", json={"tokens": [-1]}).status_code == 400


def test_props_slots_metrics_and_health_describe_the_engine(live):
    props = live.http.get("/props").json()
    assert props["tuning"] is None
    assert props["default_generation_settings"]["n_ctx"] == 2000
    assert props["total_slots"] == 2
    assert props["chat_template_caps"]["supports_tools"] is True
    assert props["model_path"].endswith("tiny-q4_0.gguf")
    assert live.http.get("/slots").json()[0]["is_processing"] is True
    metrics = live.http.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert "edgesmith_prompt_tokens_total 7" in metrics.text
    assert "llamacpp:prompt_tokens_total 7" in metrics.text
    assert 'edgesmith_requests_finished_total{reason="stop"} 2' in metrics.text
    assert live.http.get("/health").json() == {"status": "ok"}


def test_models_show_the_context_where_each_editor_looks_for_it(live):
    [entry] = live.http.get("/v1/models").json()["data"]
    assert entry["id"] == "tiny-q4_0"
    assert entry["meta"]["n_ctx"] == entry["max_model_len"] == 2000
    assert entry["capabilities"] == ["completion", "chat", "fim", "tools"]
    assert live.http.get("/models/tiny-q4_0").json() == entry
    missing = live.http.get("/v1/models/gpt")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"


def complete(live, **body):
    return live.http.post("/completion", json={"n_predict": 4, **body})


def test_several_prompts_are_answered_in_their_order(live):
    answers = complete(live, prompt=["ab", [1, 2, "c"], {"prompt_string": "d"}], n_cmpl=2).json()
    assert [answer["index"] for answer in answers] == list(range(6))
    asked = [list(each.prompt_token_ids) for each in live.engine.requests]
    assert asked[0] == asked[1]
    assert asked[2] == asked[3] == [1, 2, ord("c")]
    assert asked[4] == asked[5]
    assert asked[0][-2:] == [ord("a"), ord("b")]


@pytest.mark.parametrize(
    "prompt",
    [[], [1, [2]], [1, {"prompt_string": "x"}], {"prompt_string": "x", "multimodal_data": ["AA"]}],
)
def test_prompts_that_mean_nothing_here_are_refused(live, prompt):
    response = complete(live, prompt=prompt)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "prompt"


def test_an_answer_says_how_it_was_made_and_gives_the_prompt_back_when_asked(live):
    answer = complete(live, prompt="ab", temperature=0.5, stop=["x"]).json()
    settings = answer["generation_settings"]
    assert (settings["n_predict"], settings["temperature"], settings["stop"]) == (4, 0.5, ["x"])
    assert "prompt" not in answer
    fields = ["prompt", "generation_settings/n_predict"]
    answer = complete(live, prompt="ab", response_fields=fields).json()
    assert answer["prompt"].endswith("ab")
    assert answer["generation_settings/n_predict"] == 4


@pytest.mark.parametrize(
    ("bias", "expected"),
    [
        ({"97": 2}, {97: 2.0}),
        ([[97, -1.5], [98, False]], {97: -1.5, 98: -math.inf}),
        ([["ab", False]], {97: -math.inf, 98: -math.inf}),
        ({"ab": -100}, {97: -100.0, 98: -100.0}),
    ],
)
def test_biases_come_as_ids_or_text_in_a_map_or_a_list(live, bias, expected):
    assert complete(live, prompt="x", logit_bias=bias).status_code == 200
    assert live.engine.requests[-1].sampling.logit_bias == expected


def test_probabilities_after_sampling_are_plain_ones(live):
    body = {"prompt": "a", "n_probs": 2, "post_sampling_probs": True}
    answer = live.http.post("/completion", json=body).json()
    first = answer["completion_probabilities"][0]
    assert first["prob"] == pytest.approx(math.exp(-0.5))
    assert [each["prob"] for each in first["top_probs"]] == pytest.approx(
        [math.exp(-1), math.exp(-2)]
    )
    assert "logprob" not in first
    assert live.engine.requests[-1].sampling.post_sampling


def test_the_settings_of_an_answer_show_every_bias(live):
    body = {"prompt": "x", "logit_bias": {"97": 2, "98": False}, "ignore_eos": True}
    settings = complete(live, **body).json()["generation_settings"]
    assert settings["logit_bias"] == [
        {"token": 97, "bias": 2.0},
        {"token": 98, "bias": None},
        {"token": 2, "bias": None},
    ]
    assert complete(live, prompt="x").json()["generation_settings"]["logit_bias"] == []


@pytest.mark.parametrize(("path", "setting"), [("/slots", "slots"), ("/metrics", "metrics")])
def test_what_shows_how_the_server_is_used_can_be_switched_off(serving, path, setting):
    closed = serving(Settings(api=ApiSettings(**{setting: False})))
    response = closed.http.get(path)
    assert response.status_code == 501
    assert f"api.{setting}=true" in response.json()["error"]["message"]


def test_the_page_can_be_switched_off(serving):
    assert serving(Settings(api=ApiSettings(page=False))).http.get("/").status_code == 404


def test_a_chat_shows_the_prompt_it_read_when_asked(live):
    body = {"messages": [{"role": "user", "content": "hi"}], "verbose": True}
    read = live.http.post("/v1/chat/completions", json=body).json()["__verbose"]
    assert read["prompt"] == "<s>[user]hi\n[assistant]"
    assert read["prompt_tokens"] == list(live.engine.requests[-1].prompt_token_ids)


@pytest.mark.parametrize("extra", [{}, {"filename": "a"}, {"filename": 1, "text": "a"}])
def test_a_piece_of_another_file_without_text_is_refused(live, extra):
    assert infill(live, input_extra=[extra]).status_code == 400


@pytest.mark.parametrize("name", ["mirostat", "dry_multiplier", "xtc_probability", "top_n_sigma"])
def test_a_sampler_that_is_not_here_is_refused_unless_it_is_off(live, name):
    refused = complete(live, prompt="x", **{name: 1})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, name)
    assert complete(live, prompt="x", **{name: 0}).status_code == 200
    assert infill(live, **{name: 1}).status_code == 400


def test_an_answer_that_fills_the_context_says_so(serving):
    live = serving(context_length=5)
    live.engine.script.reason = FinishReason.LENGTH
    assert complete(live, prompt="ab").json()["truncated"] is True
    assert complete(live, prompt="a").json()["truncated"] is False
