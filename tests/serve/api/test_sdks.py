"""Clients' own libraries against the whole server with real weights.

Texts of two requests are not compared: the second finds its prompt in the cache, and where two
tokens are almost equally likely the last digits of the logits decide.
"""

import json
import os
import socket
import subprocess
import sys
import threading

import openai
import pytest
import uvicorn

from serve.app import create_app
from serve.config import Settings

pytestmark = pytest.mark.weights

ASK = "Write a Python function that adds two numbers."
CHAT = [{"role": "user", "content": ASK}]
LITELLM = """
import json, sys
import litellm
url, prompt = sys.argv[1:]
asked = {"model": "openai/smol", "api_base": url, "api_key": "none", "temperature": 0,
         "messages": [{"role": "user", "content": prompt}], "max_tokens": 8, "num_retries": 0}
whole = litellm.completion(**asked)
chunks = list(litellm.completion(**asked, stream=True, stream_options={"include_usage": True}))
print(json.dumps({
    "whole": whole.choices[0].message.content,
    "reason": whole.choices[0].finish_reason,
    "tokens": whole.usage.completion_tokens,
    "streamed": "".join(c.choices[0].delta.content or "" for c in chunks if c.choices),
    "counted": [c.usage.completion_tokens for c in chunks if getattr(c, "usage", None)],
}))
"""


@pytest.fixture(scope="module")
def url(smollm2_gguf):
    from serve.engine.engine import Engine, EngineConfig

    engine = Engine.load(EngineConfig(model=str(smollm2_gguf), context_length=2048, slots=2))
    config = uvicorn.Config(
        create_app(engine, Settings()), log_config=None, access_log=False, ws="none"
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)
    engine.close()


@pytest.fixture(scope="module")
def sdk(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def respond(sdk, **more):
    return sdk.responses.create(
        **{"model": "smol", "input": ASK, "temperature": 0, "max_output_tokens": 8} | more
    )


def test_openai_responses_streamed_whole_and_gone_on_from(sdk):
    whole = respond(sdk)
    assert whole.status == "incomplete"
    assert whole.incomplete_details.reason == "max_output_tokens"
    assert whole.usage.output_tokens == 8
    events = list(respond(sdk, stream=True))
    last = events[-1].response
    streamed = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert streamed == last.output_text
    assert whole.output_text.strip()
    assert last.usage.input_tokens_details.cached_tokens > 0
    more = respond(sdk, input="Shorter.", previous_response_id=whole.id)
    assert more.usage.input_tokens > whole.usage.total_tokens
    assert more.usage.input_tokens_details.cached_tokens >= whole.usage.input_tokens - 8


def test_openai_responses_tell_of_an_overflow_as_agents_expect_it(sdk):
    events = list(respond(sdk, input="word " * 3000, stream=True))
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.code == "context_length_exceeded"


@pytest.mark.filterwarnings("ignore:llama_token_get_attr is deprecated:DeprecationWarning")
def test_openai_responses_follow_a_schema(sdk):
    schema = {
        "type": "object",
        "properties": {"sum": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["sum"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}
    answer = respond(sdk, input="2 + 2?", text={"format": wanted}, max_output_tokens=60)
    assert isinstance(json.loads(answer.output_text)["sum"], int)


def test_a_begun_answer_is_continued(sdk):
    begun = [*CHAT, {"role": "assistant", "content": "```python\ndef add(a, b"}]
    asked = {"model": "smol", "temperature": 0, "max_tokens": 6}
    answer = sdk.chat.completions.create(messages=begun, **asked).choices[0].message.content
    assert answer.startswith(")")


def test_anthropic_streamed_and_whole(url):
    anthropic = pytest.importorskip("anthropic", reason="anthropic comes with the dev extra")
    asked = {"model": "smol", "max_tokens": 8, "messages": CHAT, "extra_body": {"temperature": 0}}
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        whole = client.messages.create(**asked, thinking={"type": "disabled"})
        with client.messages.stream(**asked, stop_sequences=["\0"]) as stream:
            streamed = "".join(stream.text_stream)
            last = stream.get_final_message()
        counted = client.messages.count_tokens(model="smol", messages=CHAT)
    assert whole.stop_reason == "max_tokens"
    assert whole.content[0].text.strip()
    assert last.content[0].text == streamed
    assert last.usage.output_tokens == 8
    told = whole.usage.input_tokens + whole.usage.cache_read_input_tokens
    assert counted.input_tokens == told


def test_a_nonce_that_changes_with_each_call_leaves_the_prefix_in_the_cache(url):
    """The first system block of Claude Code is a header whose `cch=` differs every time."""
    anthropic = pytest.importorskip("anthropic", reason="anthropic comes with the dev extra")
    rules = "Follow the style of the project and explain every change that you make. " * 8

    def ask(nonce):
        header = f"x-anthropic-billing-header: cc_version=2.0; cc_entrypoint=cli; cch={nonce};"
        system = [{"type": "text", "text": header}, {"type": "text", "text": rules}]
        with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
            return client.messages.create(
                model="smol", max_tokens=1, messages=CHAT, system=system
            ).usage

    first, second = ask("1a2b3"), ask("9z8y7")
    total = first.input_tokens + first.cache_read_input_tokens
    assert total > 100
    assert second.input_tokens + second.cache_read_input_tokens == total
    assert second.input_tokens <= 4  # the last token is always read, the rest is cached


def test_ollama_streamed_and_whole(url):
    ollama = pytest.importorskip("ollama", reason="ollama comes with the dev extra")
    options = {"temperature": 0, "num_predict": 8}
    with ollama.Client(host=url) as client:
        name = client.list().models[0].model
        whole = client.chat(name, CHAT, options=options)
        pieces = list(client.chat(name, CHAT, options=options, stream=True))
        written = client.generate(name, "def add(a, b):", raw=True, options=options)
    assert "".join(piece.message.content for piece in pieces).strip()
    assert whole.message.content.strip()
    assert whole.eval_count == pieces[-1].eval_count == 8
    assert written.response.strip()


def test_litellm_as_aider_calls_it(url):
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = [sys.executable, "-c", LITELLM, f"{url}/v1", ASK]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    if "No module named 'litellm'" in done.stderr:
        pytest.skip("litellm comes with the dev extra")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["whole"].strip()
    assert told["streamed"].strip()
    assert (told["reason"], told["tokens"]) == ("length", 8)
    assert told["counted"][-1] == 8


@pytest.mark.parametrize("more", [[], ["--no-stream"]], ids=["streamed", "whole"])
def test_llm_asks_a_model_registered_in_its_yaml(url, tmp_path, more):
    pytest.importorskip("llm", reason="llm comes with the dev extra")
    registered = f"- model_id: smol\n  model_name: smol\n  api_base: {url}/v1\n"
    (tmp_path / "extra-openai-models.yaml").write_text(registered)
    environment = os.environ | {"LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none"}
    options = ["-o", "temperature", "0", "-o", "max_tokens", "8"]
    done = subprocess.run(
        [sys.executable, "-m", "llm", "-m", "smol", *options, *more, ASK],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
