"""Each client's own requests, sent and read as that client does; the fields are written by hand.

Where a client reads a field, it is read here by the same path, so that one that is missing fails.
"""

import json

import pytest

from serve.engine.request import FinishReason

TEMPLATE = (
    "{# <tool_call> #}{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}|{% endfor %}"
    "{% if tools %}TOOLS {{ tools | tojson }}{% endif %}[assistant]"
)
CALL = '<tool_call>\n{"name": "read_file", "arguments": {"path": "a.py"}}\n</tool_call>'
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
FUNCTION = {"name": "read_file", "description": "Read a file.", "parameters": SCHEMA}
TOOL = {"type": "function", "function": FUNCTION}
SYSTEM = {"role": "system", "content": "You help."}
USER = {"role": "user", "content": "Read a.py."}


@pytest.fixture
def live(serving):
    return serving(metadata={"tokenizer.chat_template": TEMPLATE})


def post(live, path, **body):
    response = live.http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response


def events(response) -> list[dict]:
    data = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    return [json.loads(each) for each in data if each != "[DONE]"]


def prompt(live) -> str:
    return live.engine.detokenize(live.engine.requests[-1].prompt_token_ids)


TIMINGS = [
    f"timings/{name}"
    for name in (
        "prompt_n",
        "prompt_ms",
        "prompt_per_token_ms",
        "prompt_per_second",
        "predicted_n",
        "predicted_ms",
        "predicted_per_token_ms",
        "predicted_per_second",
    )
]
INFILL = {
    "model": "any",
    "id_slot": 0,
    "input_prefix": "def f():\n",
    "input_suffix": "\n\nf()\n",
    "input_extra": [{"filename": "b.py", "text": "x = 1\n", "time": 17}],
    "prompt": "    ret",
    "n_predict": 128,
    "stop": [],
    "n_indent": 4,
    "top_k": 40,
    "top_p": 0.9,
    "samplers": ["top_k", "top_p", "infill"],
    "stream": False,
    "cache_prompt": True,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 1000,
    "response_fields": ["content", *TIMINGS, "truncated", "tokens_cached"],
}


def test_llama_vim_completes_at_the_cursor(live):
    answer = post(live, "/infill", **INFILL).json()
    assert set(answer) == set(INFILL["response_fields"])
    assert answer["content"] == "Hello"
    assert answer["timings/predicted_n"] == 2
    assert isinstance(answer["timings/prompt_per_second"], float)


def test_llama_vim_warms_the_cache(live):
    warm = {"n_predict": 0, "samplers": [], "response_fields": [""], "t_max_prompt_ms": 1}
    assert post(live, "/infill", **INFILL | warm).json() == {}
    assert live.engine.requests[-1].max_tokens == 0


def test_llama_vim_instructs_with_slots_that_do_not_exist(live):
    body = {"messages": [SYSTEM, USER], "min_p": 0.1, "temperature": 0.1, "cache_prompt": True}
    body |= {"samplers": ["min_p", "temperature"], "id_slot": 4711}
    post(live, "/v1/chat/completions", **body, stream=False, n_predict=0)
    chunks = events(post(live, "/v1/chat/completions", **body, stream=True))
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "Hello"


def test_llama_vscode_completes_with_several_answers(live):
    more = {"n_cmpl": 2, "lora": [{"id": 0, "scale": 0}], "response_fields": None}
    answers = post(live, "/infill", **INFILL | more).json()
    assert [each["content"] for each in answers] == ["Hello", "Hello"]


def test_llama_vscode_chats_with_tools(live):
    live.engine.script.pieces = ["Let me look.\n", CALL]
    body = {"messages": [SYSTEM, USER], "stream": True, "temperature": 0.8, "tools": [TOOL]}
    options = {"tool_choice": "auto", "stream_options": {"include_usage": True}}
    chunks = events(post(live, "/v1/chat/completions", **body, **options))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "Let me look."
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert calls[0]["function"]["name"] == "read_file"
    joined = "".join(call["function"]["arguments"] for call in calls)
    assert json.loads(joined) == {"path": "a.py"}
    usage = chunks[-1]["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 1
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 0


def test_llama_vscode_shows_thoughts_and_counts_them(serving):
    live = serving(metadata={"tokenizer.chat_template": f"{{# </think> #}}{TEMPLATE}"})
    live.engine.script.pieces = ["<think>Why?", "</think>", "So."]
    body = {"messages": [USER], "stream": True, "tools": [TOOL], "tool_choice": "auto"}
    options = {"stream_options": {"include_usage": True}}
    chunks = events(post(live, "/v1/chat/completions", **body, **options))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "Why?"
    assert "".join(delta.get("content") or "" for delta in deltas) == "So."
    assert chunks[-1]["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


def test_llama_vscode_looks_around(live):
    assert post(live, "/apply-template", messages=[USER], tools=[TOOL], tool_choice="auto").json()[
        "prompt"
    ]
    tokens = post(live, "/tokenize", content="ab", add_special=False, parse_special=True).json()
    assert post(live, "/detokenize", **tokens).json()["content"] == "ab"
    [model] = live.http.get("/v1/models").json()["data"]
    assert model["owned_by"] == "llamacpp"
    props = live.http.get("/props").json()
    assert props["default_generation_settings"]["n_ctx"] == 2000
    assert live.http.get("/health").json()["status"] == "ok"
    long = live.http.post(
        "/v1/chat/completions", json={"messages": [USER | {"content": "x" * 3000}]}
    )
    error = long.json()["error"]
    assert error["n_prompt_tokens"] > error["n_ctx"] == 2000


def test_continue_completes_with_tokens_spelled_out_and_many_stops(live):
    stops = ["<pre>", "<suf>", "<mid>", "<sep>", "<rep>", "\n\n", "\r\n\r\n", "/src/", "#- coding"]
    spelled = "<pre>def f(<suf>):\n    pass<mid>"
    body = {"model": "any", "prompt": spelled, "max_tokens": 64, "temperature": 0.01, "stop": stops}
    chunks = events(post(live, "/v1/completions", **body, stream=True))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "Hello"
    ids = live.engine.requests[-1].prompt_token_ids
    assert (ids[1], ids[-1]) == (257, 259)  # read as special tokens
    assert live.engine.requests[-1].stop == tuple(stops)


def test_continue_chats_and_fills_in_as_a_hosted_service(live):
    headers = {"x-api-key": "EMPTY", "Authorization": "Bearer EMPTY"}
    body = {
        "model": "any",
        "messages": [SYSTEM, USER],
        "max_tokens": 64,
        "temperature": 0.5,
        "top_p": 0.9,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.1,
        "stream": True,
        "stop": ["END"],
        "tools": [TOOL],
        "tool_choice": "auto",
        "prediction": {"type": "content", "content": "def f():\n    pass\n"},
    }
    response = live.http.post("/v1/chat/completions", json=body, headers=headers)
    assert events(response)[-1]["choices"][0]["finish_reason"] == "stop"
    fim = {"model": "any", "prompt": "def f(", "suffix": "):", "max_tokens": 8, "stream": True}
    chunks = events(post(live, "/v1/fim/completions", **fim))
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "Hello"


def test_continue_speaks_llama_cpp_and_ollama_too(live):
    answer = post(live, "/completion", prompt="def f(", n_predict=8, stream=False).json()
    assert answer["content"] == "Hello"
    assert live.http.get("/v1/models").json()["data"][0]["max_model_len"] == 2000
    body = {"model": "tiny-q4_0", "prompt": "def f(", "suffix": "):", "raw": False}
    body |= {"options": {"num_ctx": 2048, "num_predict": 8}, "keep_alive": 1800, "stream": True}
    lines = [json.loads(line) for line in post(live, "/api/generate", **body).text.splitlines()]
    assert "".join(line["response"] for line in lines) == "Hello"
    assert live.engine.requests[-1].prompt_token_ids[-1] == 259


def test_zed_predicts_edits_and_asks_what_the_model_can(live):
    body = {"model": "any", "prompt": "<pre>a<suf>b<mid>", "max_tokens": 64, "stop": ["<sep>"]}
    answer = post(live, "/v1/completions", **body, temperature=None).json()
    assert answer["id"]
    assert answer["choices"][0]["text"] == "Hello"
    [model] = live.http.get("/v1/models").json()["data"]
    assert model["meta"]["n_ctx"] == 2000
    assert live.http.get("/props").json()["chat_template_caps"]["supports_tools"] is True


def test_zed_chats(live):
    live.engine.script.pieces = [CALL]
    body = {
        "model": "any",
        "messages": [SYSTEM, {"role": "user", "content": [{"type": "text", "text": "Read."}]}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 64,
        "stop": [],
        "temperature": 1.0,
        "tools": [TOOL],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "prompt_cache_key": "thread-1",
        "reasoning_effort": "medium",
    }
    *chunks, last = events(post(live, "/v1/chat/completions", **body))
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert last["usage"]["total_tokens"] > 0


def test_aider_sends_long_prompts_and_reads_plain_text(live):
    live.engine.script.pieces = ["a.py\n<<<<<<< SEARCH\n", "x\n=======\ny\n>>>>>>> REPLACE\n"]
    body = {"model": "any", "messages": [SYSTEM, USER], "stream": True, "temperature": 0}
    chunks = events(post(live, "/v1/chat/completions", **body))
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)
    assert text == "".join(live.engine.script.pieces)


def test_aider_forces_one_function_and_reads_its_arguments(live):
    live.engine.script.pieces = list(CALL)
    choice = {"type": "function", "function": {"name": "read_file"}}
    body = {"model": "any", "messages": [SYSTEM, USER], "stream": True, "temperature": 0}
    chunks = events(post(live, "/v1/chat/completions", **body, tools=[TOOL], tool_choice=choice))
    parts = [c for chunk in chunks for c in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert parts[0]["function"]["name"] == "read_file"
    joined = "".join(part["function"]["arguments"] for part in parts)
    assert json.loads(joined) == {"path": "a.py"}
    assert live.engine.requests[-1].constraint.trigger is None  # from the first token on


def test_cline_sees_headers_and_the_role_before_there_is_an_answer(live):
    live.engine.script.pieces, live.engine.script.hang = [], True
    body = {"model": "any", "messages": [USER], "stream": True}
    with live.http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200
        lines = response.iter_lines()  # kept, since its end would close the response
        first = next(line for line in lines if line)
        assert json.loads(first.removeprefix("data: "))["choices"][0]["delta"]["role"]
        live.engine.wait_for_running(1)


def test_cline_counts_tokens_over_both_of_its_dialects(live):
    body = {"model": "any", "messages": [SYSTEM, USER], "stream": True, "temperature": 0}
    chunks = events(
        post(live, "/v1/chat/completions", **body, stream_options={"include_usage": True})
    )
    assert chunks[-1]["usage"]["completion_tokens"] == 2
    assert live.http.get("/api/tags").json()["models"][0]["name"] == "tiny-q4_0"
    options = {"num_ctx": 32768}
    lines = post(live, "/api/chat", model="tiny-q4_0", messages=[USER], options=options).text
    last = json.loads(lines.splitlines()[-1])
    assert (last["done"], last["eval_count"]) == (True, 2)


def test_copilot_looks_for_an_ollama_it_can_use(live):
    version = live.http.get("/api/version").json()["version"]
    assert tuple(int(part) for part in version.partition("+")[0].split(".")) >= (0, 6, 4)
    name = live.http.get("/api/tags").json()["models"][0]["model"]
    shown = post(live, "/api/show", model=name).json()
    assert "tools" in shown["capabilities"]
    architecture = shown["model_info"]["general.architecture"]
    assert shown["model_info"][f"{architecture}.context_length"] == 2000
    assert shown["model_info"]["general.basename"]
    body = {"model": name, "messages": [SYSTEM, USER], "stream": True, "tools": [TOOL]}
    chunks = events(
        post(live, "/v1/chat/completions", **body, stream_options={"include_usage": True})
    )
    assert chunks[-1]["usage"]["prompt_tokens"] > 0


def test_codex_works_in_turns_over_responses(live):
    live.engine.script.pieces = ["Looking.\n", CALL]
    flat = {"type": "function", **FUNCTION, "strict": False}
    hosted = [{"type": "web_search"}, {"type": "custom", "name": "apply_patch"}]
    hosted += [{"type": "namespace", "name": "n"}, {"type": "image_generation"}]
    ask = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Read."}]}
    rules = ask | {"role": "developer", "content": [{"type": "input_text", "text": "Sandboxed."}]}
    body = {
        "model": "any",
        "instructions": "You are an agent.",
        "tools": [flat, *hosted],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0198",
        "text": {"verbosity": "medium"},
    }
    found = events(post(live, "/v1/responses", **body, input=[rules, ask]))
    assert found[0]["type"] == "response.created"
    done = [event["item"] for event in found if event["type"] == "response.output_item.done"]
    assert [item["type"] for item in done] == ["message", "function_call"]
    assert json.loads(done[1]["arguments"]) == {"path": "a.py"}
    end = found[-1]
    assert end["type"] == "response.completed"
    assert end["response"]["id"].startswith("resp_")
    usage = end["response"]["usage"]
    assert usage["input_tokens_details"]["cached_tokens"] == 1
    assert usage["output_tokens_details"]["reasoning_tokens"] == 0
    said, call = ({k: v for k, v in item.items() if k != "id"} for item in done)
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "x = 1"}
    live.engine.script.pieces = ["Done."]
    found = events(post(live, "/v1/responses", **body, input=[rules, ask, said, call, result]))
    deltas = [e["delta"] for e in found if e["type"] == "response.output_text.delta"]
    assert "".join(deltas) == "Done."
    assert "[tool]x = 1" in prompt(live)
    assert "apply_patch" not in prompt(live)


def test_codex_learns_from_the_stream_that_its_conversation_is_too_long(live):
    ask = {"type": "message", "role": "user"}
    ask |= {"content": [{"type": "input_text", "text": "x" * 3000}]}
    *_, end = events(post(live, "/v1/responses", model="any", input=[ask], stream=True))
    assert end["type"] == "response.failed"
    assert end["response"]["error"]["code"] == "context_length_exceeded"


def test_claude_code_works_in_turns_over_messages(live):
    header = "x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli; cch=1f2e3;"
    cached = {"cache_control": {"type": "ephemeral"}}
    body = {
        "model": "claude-x",
        "system": [
            {"type": "text", "text": header},
            {"type": "text", "text": "You are an agent.", **cached},
        ],
        "tools": [{"name": "read_file", "description": "Read.", "input_schema": SCHEMA}],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "stop_sequences": ["</stop>"],
        "metadata": {"user_id": "u"},
        "max_tokens": 64,
        "temperature": 1,
        "stream": True,
    }
    headers = {"x-api-key": "none", "anthropic-version": "2023-06-01", "anthropic-beta": "a,b"}
    user = {"role": "user", "content": [{"type": "text", "text": "Read.", **cached}]}
    live.engine.script.pieces = ["Looking.\n", CALL]
    path = "/v1/messages?beta=true"
    found = events(live.http.post(path, json=body | {"messages": [user]}, headers=headers))
    assert found[0]["message"]["usage"]["input_tokens"] > 0
    opened = [e["content_block"] for e in found if e["type"] == "content_block_start"]
    assert [block["type"] for block in opened] == ["text", "tool_use"]
    partial = [e["delta"]["partial_json"] for e in found if "partial_json" in e.get("delta", {})]
    assert json.loads("".join(partial)) == {"path": "a.py"}
    [ending] = [event for event in found if event["type"] == "message_delta"]
    assert ending["delta"]["stop_reason"] == "tool_use"
    assert ending["usage"]["output_tokens"] == 2
    turns = [
        user,
        {"role": "assistant", "content": [{"type": "text", "text": "Looking."}, opened[1]]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": opened[1]["id"], "content": "x = 1"}
            ],
        },
    ]
    changed = [{"type": "text", "text": header.replace("1f2e3", "9a8b7")}, body["system"][1]]
    again = body | {"messages": turns, "system": changed}
    first = prompt(live).partition("[user]")[0]
    assert live.http.post(path, json=again, headers=headers).status_code == 200
    assert prompt(live).partition("[user]")[0] == first  # the nonce does not reach the prompt
    counting = {key: again[key] for key in ("model", "system", "tools", "messages")}
    counted = live.http.post("/v1/messages/count_tokens?beta=true", json=counting, headers=headers)
    assert counted.json()["input_tokens"] == len(live.engine.requests[-1].prompt_token_ids)


def test_llm_asks_for_chats_and_completions(live):
    chat = {"model": "any", "messages": [USER], "stream": True, "max_tokens": 8}
    chunks = events(
        post(live, "/v1/chat/completions", **chat, stream_options={"include_usage": True})
    )
    assert chunks[-1]["usage"]["completion_tokens"] == 2
    text = {"model": "any", "prompt": "Once", "stream": True, "max_tokens": 8, "logprobs": 3}
    chunks = events(post(live, "/v1/completions", **text))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "Hello"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/chat/completions", 400), ("/v1/completions", 400), ("/v1/embeddings", 400),
     ("/v1/responses", 400), ("/v1/nowhere", 404)],
)  # fmt: skip
def test_every_sdk_reads_the_same_four_fields_of_an_error(live, path, status):
    response = live.http.post(path, json={})
    assert response.status_code == status
    assert {"message", "type", "param", "code"} <= set(response.json()["error"])


def test_an_error_on_the_way_reaches_a_reader_of_the_stream(live):
    live.engine.script.reason, live.engine.script.error = FinishReason.ERROR, "decode broke"
    body = {"messages": [USER], "stream": True}
    assert events(post(live, "/v1/chat/completions", **body))[-1]["error"]["message"]
