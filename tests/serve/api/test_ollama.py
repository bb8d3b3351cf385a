"""Ollama's dialect as editors speak it: lines of JSON, nanoseconds, errors as one string."""

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.config import LimitSettings, ServerSettings, Settings
from serve.engine.errors import QueueFullError
from serve.engine.request import FinishReason, Priority

CHAT = {"model": "any", "messages": [{"role": "user", "content": "hi"}]}
PROMPT = {"model": "any", "prompt": "hi"}
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'clown' %}"
    "{{ raise_exception('no clowns') }}{% endif %}[{{ m.role }}{% if m.name %}"
    ":{{ m.name }}{% endif %}]{{ m.content }}\n{% endfor %}"
    "{% if tools %}TOOLS {{ tools | tojson }}\n{% endif %}[assistant]"
)
NO_FIM = dict.fromkeys(("fim_pre_token_id", "fim_suf_token_id", "fim_mid_token_id"))


@pytest.fixture
def live(serving):
    known = {"general.name": "tiny", "llama.rope.freq_base": "10000.0", "llama.block_count": "4"}
    known["general.quantization_version"] = "2"
    metadata = {"tokenizer.chat_template": TEMPLATE, **known}
    return serving(n_params=1_540_000_000, size_bytes=900, metadata=metadata)


def post(live, path, body, **more):
    return live.http.post(path, json=body | more)


def lines(response):
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in response.text.splitlines()]


def refusal(response, status=400):
    assert response.status_code == status
    assert set(response.json()) == {"error"}
    assert isinstance(response.json()["error"], str)
    return response.json()["error"]


def prompt_of(live):
    return bytes(i for i in live.engine.requests[-1].prompt_token_ids if i < 256).decode()


def test_a_chat_streams_by_default_and_ends_with_the_figures(live):
    *pieces, last = lines(post(live, "/api/chat", CHAT))
    assert [piece["message"] for piece in pieces] == [
        {"role": "assistant", "content": "Hel"},
        {"role": "assistant", "content": "lo"},
    ]
    assert not any(piece["done"] for piece in pieces)
    assert last["done"] is True
    assert last["done_reason"] == "stop"
    assert last["message"]["content"] == ""
    assert last["prompt_eval_count"] == len(live.engine.requests[-1].prompt_token_ids)
    assert last["eval_count"] == 2
    assert last["prompt_eval_duration"] == 500_000_000
    assert last["eval_duration"] == 250_000_000
    assert last["total_duration"] == 750_000_000
    assert last["created_at"].endswith("Z")
    assert prompt_of(live) == "[user]hi\n[assistant]"


def test_one_object_when_no_stream_is_wanted(live):
    answer = post(live, "/api/chat", CHAT, stream=False).json()
    assert answer["message"] == {"role": "assistant", "content": "Hello"}
    assert answer["done"] is True
    answer = post(live, "/api/generate", PROMPT, stream=False).json()
    assert answer["response"] == "Hello"
    assert answer["model"] == "tiny-q4_0"


def test_a_generation_streams_its_text(live):
    *pieces, last = lines(post(live, "/api/generate", PROMPT))
    assert [piece["response"] for piece in pieces] == ["Hel", "lo"]
    assert (last["response"], last["done"]) == ("", True)


def test_an_answer_cut_at_its_limit_says_length(live):
    live.engine.script.reason = FinishReason.LENGTH
    assert post(live, "/api/chat", CHAT, stream=False).json()["done_reason"] == "length"


def test_a_prompt_is_a_user_turn_with_the_system_text_before_it(live):
    post(live, "/api/generate", PROMPT, system="be brief")
    assert prompt_of(live) == "[system]be brief\n[user]hi\n[assistant]"


def test_a_raw_prompt_is_read_as_it_stands_with_its_special_tokens(live):
    post(live, "/api/generate", PROMPT | {"prompt": "<pre>a<suf>b<mid>", "raw": True})
    request = live.engine.requests[-1]
    assert request.prompt_token_ids == [256, 257, ord("a"), 258, ord("b"), 259]
    assert request.priority is Priority.FIM


def test_a_model_without_a_template_continues_the_prompt(serving):
    live = serving(chat_template=None, metadata={})
    assert post(live, "/api/generate", PROMPT).status_code == 200
    assert prompt_of(live) == "hi"
    assert "template" in refusal(post(live, "/api/generate", PROMPT, system="x"))
    assert "template" in refusal(post(live, "/api/chat", CHAT))


def test_a_suffix_makes_a_fill_in_the_middle_prompt(live):
    post(live, "/api/generate", PROMPT | {"prompt": "a", "suffix": "b", "raw": True})
    request = live.engine.requests[-1]
    assert request.prompt_token_ids == [256, 257, ord("a"), 258, ord("b"), 259]
    assert request.priority is Priority.FIM


def test_a_suffix_is_refused_where_the_model_cannot_fill_in(serving):
    live = serving(**NO_FIM)
    assert "fill-in-the-middle" in refusal(post(live, "/api/generate", PROMPT, suffix="b"))


def test_the_options_reach_the_engine(live):
    options = {
        "temperature": 0.5, "top_p": 0.6, "top_k": 7, "min_p": 0.1, "typical_p": 0.9, "seed": 3,
        "repeat_penalty": 1.2, "repeat_last_n": 9, "presence_penalty": 0.3, "num_predict": 5,
        "frequency_penalty": 0.4, "stop": ["END"], "num_thread": 4, "num_gpu": 99, "num_keep": 2,
    }  # fmt: skip
    post(live, "/api/generate", PROMPT, options=options, keep_alive="5m")
    request = live.engine.requests[-1]
    for name in ("temperature", "top_p", "top_k", "min_p", "typical_p", "seed", "repeat_penalty",
                 "repeat_last_n", "presence_penalty", "frequency_penalty"):  # fmt: skip
        assert getattr(request.sampling, name) == options[name]
    assert request.stop == ("END",)
    assert request.max_tokens == 5


@pytest.mark.parametrize("limit", [None, -1, -2])
def test_no_limit_means_until_the_context_is_full(live, limit):
    post(live, "/api/chat", CHAT, options={"num_predict": limit})
    assert live.engine.requests[-1].max_tokens is None


@pytest.mark.parametrize("num_ctx", [16, 10**6])
def test_num_ctx_never_cuts_a_prompt(live, num_ctx):
    long = [{"role": "user", "content": "x" * 500}]
    answer = post(live, "/api/chat", {"messages": long}, options={"num_ctx": num_ctx}, stream=False)
    assert answer.json()["prompt_eval_count"] > 500


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers_before_the_headers(live):
    message = refusal(post(live, "/api/generate", {"prompt": "x" * 3000, "raw": True}))
    assert "3001" in message
    assert "2000" in message


@pytest.mark.parametrize(
    ("path", "more", "said"),
    [
        ("/api/chat", {"format": "yaml"}, "format"),
        ("/api/chat", {"think": True}, "think"),
        ("/api/generate", {"images": ["aGk="]}, "images"),
        ("/api/chat", {"messages": [{"role": "user", "images": ["aGk="]}]}, "images"),
        ("/api/generate", {"template": "{{ .Prompt }}"}, "template"),
        ("/api/generate", {"context": [1, 2]}, "context"),
        ("/api/generate", {"raw": True, "system": "x"}, "raw"),
        ("/api/chat", {"options": {"mirostat": 1}}, "mirostat"),
        ("/api/chat", {"options": {"temperature": "hot"}}, "options.temperature"),
        ("/api/chat", {"options": {"stop": ["x"] * 65}}, "stop"),
        ("/api/chat", {"messages": [{"role": "clown", "content": "x"}]}, "clowns"),
        ("/api/chat", {"messages": "hi"}, "messages"),
        ("/api/chat", {"top_logprobs": 21, "logprobs": True}, "alternatives"),
    ],
)
def test_what_cannot_be_kept_is_a_400_that_says_so(live, path, more, said):
    body = CHAT if path == "/api/chat" else PROMPT
    assert said in refusal(post(live, path, body | more))
    assert live.engine.requests == []


def test_empty_forms_of_what_is_refused_are_no_refusal(live):
    more = {"format": "", "think": False, "images": [], "keep_alive": -1, "options": None}
    assert post(live, "/api/generate", PROMPT | more, template="", context=[]).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "empty"),
    [
        ("/api/generate", {"model": "any"}, {"response": ""}),
        ("/api/generate", {"prompt": "", "keep_alive": 0}, {"response": ""}),
        ("/api/chat", {"messages": []}, {"message": {"role": "assistant", "content": ""}}),
    ],
)
def test_asking_for_the_model_alone_finds_it_loaded(live, path, body, empty):
    [line] = lines(post(live, path, body))
    assert line["done_reason"] == "load"
    assert empty.items() <= line.items()
    assert post(live, path, body, stream=False).json()["done"] is True
    assert live.engine.requests == []


def test_too_many_messages_are_refused(serving):
    live = serving(Settings(limits=LimitSettings(messages=1)))
    assert "2 entries" in refusal(
        post(live, "/api/chat", CHAT | {"messages": CHAT["messages"] * 2})
    )


TOOLS = [{"type": "function", "function": {"name": "add"}}]
CALL = {"function": {"name": "add", "arguments": {"a": 1}}}


def test_calls_and_results_without_ids_reach_the_template(live):
    messages = [
        {"role": "user", "content": "1+1? 1+2?"},
        {"role": "assistant", "tool_calls": [CALL, CALL]},
        {"role": "tool", "tool_name": "add", "content": "2"},
        {"role": "tool", "content": "3"},
    ]
    body = {"messages": messages, "tools": TOOLS}
    assert post(live, "/api/chat", body).status_code == 200
    assert "[tool:add]2\n[tool:add]3" in prompt_of(live)
    assert 'TOOLS [{"type": "function"' in prompt_of(live)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"role": "tool", "content": "2"}, "messages.0.tool_call_id"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "function.name"),
        ({"role": "assistant", "tool_calls": [{"id": 3, **CALL}]}, "messages.0.tool_calls.0.id"),
    ],
)
def test_a_history_that_makes_no_sense_is_a_400(live, message, said):
    assert said in refusal(post(live, "/api/chat", {"messages": [message], "tools": TOOLS}))


def test_a_tool_without_a_name_is_refused(live):
    assert "tools.0.function.name" in refusal(post(live, "/api/chat", CHAT, tools=[{}]))


def test_calls_come_as_objects_streamed_and_whole(live):
    live.engine.script.pieces = [
        "On it. ",
        "<tool_",
        'call>{"name": "add", "argu',
        'ments": {"a": 1}}',
    ]
    live.engine.script.pieces.append("</tool_call>")
    whole = post(live, "/api/chat", CHAT, tools=TOOLS, stream=False).json()
    assert whole["message"]["content"].strip() == "On it."
    [call] = whole["message"]["tool_calls"]
    assert call["function"] == {"index": 0, "name": "add", "arguments": {"a": 1}}
    pieces = lines(post(live, "/api/chat", CHAT, tools=TOOLS))
    assert "".join(piece["message"]["content"] for piece in pieces).strip() == "On it."
    [streamed] = [c for piece in pieces for c in piece["message"].get("tool_calls", [])]
    assert streamed["function"] == call["function"]
    assert pieces[-1]["done_reason"] == "stop"


def test_what_looks_like_a_call_is_content_when_no_tool_was_offered(live):
    live.engine.script.pieces = ['<tool_call>{"name": "add", "arguments": {}}</tool_call>']
    message = post(live, "/api/chat", CHAT, stream=False).json()["message"]
    assert message["content"].startswith("<tool_call>")
    assert "tool_calls" not in message


def test_logprobs_come_with_the_pieces(live):
    first, *_, last = lines(post(live, "/api/chat", CHAT, logprobs=True, top_logprobs=2))
    [entry] = first["logprobs"]
    assert entry["token"] == "Hel"
    assert len(entry["top_logprobs"]) == 2
    assert "logprobs" not in last


def test_an_engine_failure_in_a_stream_is_its_last_line(live):
    live.engine.script.reason, live.engine.script.error = FinishReason.ERROR, "decode broke"
    assert lines(post(live, "/api/chat", CHAT))[-1] == {"error": "decode broke"}
    assert refusal(post(live, "/api/chat", CHAT, stream=False), 500) == "decode broke"


def test_a_full_queue_says_when_to_come_back(live):
    live.engine.script.refuse = QueueFullError(64, 64, 3)
    response = post(live, "/api/chat", CHAT)
    assert "retry in 3 s" in refusal(response, 429)
    assert response.headers["retry-after"] == "3"


def test_access_is_refused_in_this_dialect_too(serving):
    live = serving(api_keys=("k",))
    assert "API key" in refusal(live.http.get("/api/tags"), 401)
    assert "evil" in refusal(live.http.get("/api/tags", headers={"Host": "evil.example"}), 403)


def test_a_silent_stream_sends_empty_pieces(serving):
    live = serving(Settings(server=ServerSettings(ping_seconds=0.02)))
    live.engine.script.hang = True
    live.engine.script.pieces = []
    with live.http.stream("POST", "/api/generate", json=PROMPT) as response:
        pieces = response.iter_lines()
        first, second = (json.loads(next(pieces)) for _ in range(2))
        assert first["response"] == second["response"] == ""
        assert first["done"] is False
    live.engine.wait_for_running(0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body"), [("/api/chat", CHAT), ("/api/generate", PROMPT)])
@pytest.mark.parametrize("pieces", [[], ["some", "text"]])
def test_closing_the_connection_stops_the_generation(live, path, body, stream, pieces):
    live.engine.script.hang = True
    live.engine.script.pieces = pieces
    with contextlib.closing(live.connect(json.dumps(body | {"stream": stream}), path)):
        live.engine.wait_for_running(1)
    live.engine.wait_for_running(0)


def test_the_version_is_one_that_clients_accept_and_says_who_answers(live):
    version = live.http.get("/api/version").json()["version"]
    release, _, build = version.partition("+")
    assert tuple(map(int, release.split("."))) >= (0, 6, 4)
    assert build == "edgesmith"


def test_tags_and_ps_list_the_model(live):
    details = {
        "parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
        "parameter_size": "1.5B", "quantization_level": "Q4_0",
    }  # fmt: skip
    [tag] = live.http.get("/api/tags").json()["models"]
    assert tag["model"] == tag["name"] == "tiny-q4_0"
    assert tag["details"] == details
    assert tag["size"] == 900
    [running] = live.http.get("/api/ps").json()["models"]
    assert running["context_length"] == 2000
    assert running["details"] == details


@pytest.mark.parametrize("body", [{"model": "tiny-q4_0"}, {"name": "tiny-q4_0:latest"}])
def test_show_says_what_an_editor_plans_with(live, body):
    shown = post(live, "/api/show", body).json()
    assert shown["capabilities"] == ["completion", "insert", "tools"]
    assert shown["model_info"]["general.architecture"] == "llama"
    assert shown["model_info"]["general.basename"] == "tiny"
    assert shown["model_info"]["general.parameter_count"] == 1_540_000_000
    assert shown["model_info"]["llama.context_length"] == 2000
    assert shown["model_info"]["llama.rope.freq_base"] == 10000.0
    assert shown["model_info"]["llama.block_count"] == 4
    assert shown["model_info"]["general.quantization_version"] == 2
    assert "tokenizer.chat_template" not in shown["model_info"]
    assert shown["template"]
    assert "temperature 0.2" in shown["parameters"]


def test_show_leaves_out_what_the_model_cannot_do(serving):
    live = serving(metadata={}, chat_template=None, n_params=10, **NO_FIM)
    shown = post(live, "/api/show", {"model": "tiny-q4_0"}).json()
    assert shown["capabilities"] == ["completion"]
    assert shown["template"] == ""


def test_another_model_is_not_found(live):
    assert "'llama3'" in refusal(post(live, "/api/show", {"model": "llama3"}), 404)
    assert "missing" in refusal(post(live, "/api/show", {}))


def test_embeddings_are_refused_for_a_model_that_generates(live):
    for path, field in (("/api/embed", "input"), ("/api/embeddings", "prompt")):
        assert "embeddings" in refusal(post(live, path, {"model": "any", field: "x"}))


SCALARS = st.none() | st.booleans() | st.integers(-3, 300) | st.floats(-2, 2) | st.text(max_size=8)
SHAPES = ["role", "content", "images", "tool_calls", "function", "name", "arguments", "type", "id"]
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(SHAPES), inner, max_size=4)
    ),
    max_leaves=8,
)
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"])},
        optional={"content": JSON, "tool_calls": JSON, "tool_name": JSON, "thinking": JSON},
    ),
    max_size=3,
)
SOUND = {
    "/api/chat": st.fixed_dictionaries({"messages": TURNS}),
    "/api/generate": st.fixed_dictionaries({"prompt": st.text(max_size=5)}),
    "/api/show": st.just({"model": "tiny-q4_0"}),
}
FIELDS = ["messages", "tools", "options", "stream", "prompt", "suffix", "system", "raw", "format",
          "think", "context", "images", "keep_alive", "template", "model", "logprobs"]  # fmt: skip


@pytest.mark.parametrize("path", SOUND)
def test_no_body_makes_the_server_fail(live, path):
    odd = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=2)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(body=st.tuples(SOUND[path], odd).map(lambda both: both[0] | both[1]))
    def check(body):
        response = live.http.post(path, json=body)
        assert response.status_code in {200, 400, 404}, (response.status_code, body)
        if response.status_code != 200:
            assert isinstance(response.json()["error"], str)

    check()
