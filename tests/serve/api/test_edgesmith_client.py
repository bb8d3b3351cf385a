"""This project's own client drives the application: every wire type against every route it reads.

Texts and counts are the scripted engine's: "Hel" and "lo", one byte a token.
"""

import dataclasses
import inspect

import msgspec
import pytest

from clients import AsyncClient, Client, errors, wire
from serve.engine.request import FinishReason

TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    },
}


class Person(msgspec.Struct):
    name: str
    age: int


@dataclasses.dataclass
class Pair:
    first: Person
    second: Person


@pytest.fixture
def client(live):
    with Client(f"http://127.0.0.1:{live.port}/v1") as client:
        yield client


def test_what_a_server_says_about_itself(client):
    (model,) = client.models()
    assert (model.id, model.context_length) == ("tiny-q4_0", 2000)
    assert client.health() == wire.Health(status="ok")
    props = client.props()
    assert props.default_generation_settings["n_ctx"] == 2000
    assert props.total_slots == 2
    assert props.chat_template.startswith("{{ bos_token }}")


def test_texts_and_tokens(client):
    assert client.tokenize("<pre>é", add_special=True) == [256, 257, 0xC3, 0xA9]
    assert client.detokenize([0xC3, 0xA9]) == "é"
    assert client.apply_template("hi") == "<s>[user]hi\n[assistant]"


def test_a_chat_streamed_and_whole(client):
    whole = client.chat("hi", max_tokens=9, logprobs=True, extra={"top_logprobs": 1})
    assert (whole.text, whole.finish_reason) == ("Hello", "stop")
    assert whole.usage.completion_tokens == 2
    assert whole.usage.cached_tokens == 1
    assert whole.timings.prompt_ms == pytest.approx(500)
    with client.stream_chat("hi") as stream:
        assert [chunk.text for chunk in stream if chunk.text] == ["Hel", "lo"]
    assert stream.usage == whole.usage
    assert stream.finish_reason == "stop"
    assert stream.request_id


def test_a_completion_streamed_and_whole(client):
    whole = client.complete("def", stop=["\n"], temperature=0.0)
    assert (whole.text, whole.usage.completion_tokens) == ("Hello", 2)
    with client.stream_complete("def") as stream:
        assert "".join(chunk.text for chunk in stream) == "Hello"
    assert stream.usage == whole.usage
    assert stream.timings.predicted_n == 2


def test_a_gap_streamed_and_whole_with_neighbours(client, live):
    context = [{"filename": "near.py", "text": "near = 1\n"}]
    whole = client.fim("a(", ")", context=context, max_tokens=5)
    assert (whole.text, whole.finish_reason) == ("Hello", "stop")
    assert whole.usage.completion_tokens == 2
    asked = bytes(each for each in live.engine.requests[-1].prompt_token_ids if each < 256)
    assert b"near.py\nnear = 1" in asked
    assert live.engine.requests[-1].max_tokens == 5
    with client.stream_fim("a(", ")", context=context) as stream:
        assert "".join(chunk.text for chunk in stream) == "Hello"
    assert stream.usage == whole.usage


def test_a_suffix_makes_a_completion_a_gap(client, live):
    assert client.complete("a(", suffix=")").text == "Hello"
    assert live.engine.requests[-1].prompt_token_ids[-1] == 259


@pytest.mark.parametrize(
    ("answer_type", "text", "value"),
    [
        (Person, '{"name": "Ada", "age": 36}', Person("Ada", 36)),
        (
            Pair,
            '{"first": {"name": "A", "age": 1}, "second": {"name": "B", "age": 2}}',
            Pair(Person("A", 1), Person("B", 2)),
        ),
    ],
)
def test_an_answer_that_is_a_struct_or_a_dataclass(client, live, answer_type, text, value):
    live.engine.script.pieces = [text]
    assert client.chat_as("Who?", answer_type) == value
    (constraint,) = live.engine.prepared
    assert '"age"' in constraint.source
    assert live.engine.requests[-1].constraint is not None


def test_a_tool_call_streamed_and_whole(client, live):
    live.engine.script.pieces = ['{"name": "look", ', '"arguments": {"at": "x"}}']
    choice = {"type": "function", "function": {"name": "look"}}
    whole = client.chat("hi", tools=[TOOL], tool_choice=choice)
    (call,) = whole.choices[0].message.tool_calls
    assert call.function.name == "look"
    assert msgspec.json.decode(call.function.arguments) == {"at": "x"}
    with client.stream_chat("hi", tools=[TOOL], tool_choice=choice) as stream:
        deltas = [choice.delta for chunk in stream for choice in chunk.choices if choice.delta]
    parts = [call.function for delta in deltas for call in delta.tool_calls or []]
    assert "".join(part.name or "" for part in parts) == "look"
    arguments = "".join(part.arguments or "" for part in parts)
    assert msgspec.json.decode(arguments) == {"at": "x"}


async def test_the_async_client_reads_the_same(live, client):
    async with AsyncClient(f"http://127.0.0.1:{live.port}/v1") as other:
        assert await other.models() == client.models()
        assert (await other.fim("a(", ")")).text == "Hello"
        async with await other.stream_chat("hi") as stream:
            text = "".join([chunk.text async for chunk in stream])
    assert text == "Hello"
    assert stream.usage.total_tokens == client.chat("hi").usage.total_tokens


def test_refusals_keep_their_kind_numbers_and_request(client):
    with pytest.raises(errors.ContextLengthError) as caught:
        client.complete("x" * 3000)
    assert (caught.value.num_prompt_tokens, caught.value.context_length) == (3001, 2000)
    assert caught.value.request_id
    with pytest.raises(errors.BadRequestError, match="temperature"):
        client.chat("hi", extra={"temperature": "hot"})
    with pytest.raises(errors.BadRequestError, match="embed"):
        client.embeddings(["x"])


def test_a_wrong_key_is_told_from_a_wrong_request(serving):
    port = serving(api_keys=("right",)).port
    wrong = Client(f"http://127.0.0.1:{port}", api_key="wrong")
    with wrong, pytest.raises(errors.AuthenticationError):
        wrong.models()
    with Client(f"http://127.0.0.1:{port}", api_key="right") as client:
        assert client.models()


def test_an_error_within_a_stream_is_raised_there(client, live):
    live.engine.script.error = "the engine broke"
    live.engine.script.reason = FinishReason.ERROR
    with client.stream_chat("hi") as stream, pytest.raises(errors.ServerError, match="broke"):
        list(stream)


def test_every_route_of_the_client_is_driven_here():
    driven = inspect.getsource(inspect.getmodule(test_every_route_of_the_client_is_driven_here))
    public = {name for name, _ in inspect.getmembers(Client, inspect.isfunction)}
    left = {name for name in public if name[0] != "_" and f".{name}(" not in driven}
    assert left == {"close", "run", "stream"}
