"""Ollama's own Python client drives a running server."""

import pytest

from serve.engine.request import FinishReason

ollama = pytest.importorskip("ollama", reason="the ollama client comes with the dev extra")

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def client(live):
    with ollama.Client(host=f"http://127.0.0.1:{live.port}") as client:
        yield client


def test_a_chat_streamed_and_whole(client):
    whole = client.chat("tiny-q4_0", MESSAGES, options={"temperature": 0}, keep_alive="5m")
    assert whole.message.content == "Hello"
    assert whole.done_reason == "stop"
    pieces = list(client.chat("tiny-q4_0", MESSAGES, stream=True))
    assert "".join(piece.message.content for piece in pieces) == "Hello"
    assert pieces[-1].eval_count == 2


def test_a_generation_with_a_suffix(client, live):
    assert client.generate("tiny-q4_0", "a", suffix="b").response == "Hello"
    assert live.engine.requests[-1].prompt_token_ids[-1] == 259
    pieces = client.generate("tiny-q4_0", "a", stream=True, logprobs=True)
    assert [piece.response for piece in pieces] == ["Hel", "lo", ""]


async def test_the_async_client(live):
    async with ollama.AsyncClient(host=f"http://127.0.0.1:{live.port}") as client:
        stream = await client.chat("tiny-q4_0", MESSAGES, stream=True)
        assert "".join([piece.message.content async for piece in stream]) == "Hello"


def test_the_models(serving):
    live = serving(n_params=135_000_000, size_bytes=900)
    with ollama.Client(host=f"http://127.0.0.1:{live.port}") as client:
        [model] = client.list().models
        assert model.model == "tiny-q4_0"
        assert model.details.parameter_size == "135.0M"
        [running] = client.ps().models
        assert running.context_length == 2000
        shown = client.show(model.model)
        assert shown.capabilities == ["completion", "insert", "tools"]
        assert shown.modelinfo["llama.context_length"] == 2000


def test_a_refusal_is_the_clients_own_error(client):
    with pytest.raises(ollama.ResponseError, match="mirostat is not supported") as caught:
        client.chat("tiny-q4_0", MESSAGES, options={"mirostat": 1})
    assert caught.value.status_code == 400


def test_a_failure_in_a_stream_is_the_clients_own_error(client, live):
    live.engine.script.reason, live.engine.script.error = FinishReason.ERROR, "decode broke"
    with pytest.raises(ollama.ResponseError, match="decode broke"):
        list(client.chat("tiny-q4_0", MESSAGES, stream=True))
