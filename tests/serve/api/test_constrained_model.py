"""SmolLM2 keeps to a form, whatever it would rather say; through the SDKs.

The model was not trained on tools and its template knows none: they are put into words for it.
"""

import json
import socket
import threading

import httpx
import msgspec
import openai
import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.app import create_app
from serve.config import Settings

pytestmark = pytest.mark.weights

MODEL = "any"
ASK = [{"role": "user", "content": "Describe the planet Mars."}]
PLANET = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "moons": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 2},
        "kind": {"enum": ["rocky planet", "gas giant"]},
        "radius_km": {"type": "integer", "minimum": 1, "maximum": 99999},
    },
    "required": ["name", "moons", "kind", "radius_km"],
    "additionalProperties": False,
}
FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "planet", "schema": PLANET, "strict": True},
}
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 16},
        "unit": {"enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}},
]
WEATHER_ASK = [{"role": "user", "content": "What is the weather in Paris?"}]


class RealServer:
    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.Client(base_url=self.url, timeout=60)
        self.sdk = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def ask(self, **more):
        body = {"model": MODEL, "messages": ASK, "temperature": 0, "max_tokens": 100} | more
        return self.sdk.chat.completions.create(**body)


@pytest.fixture(scope="module")
def real(smollm2_gguf):
    from serve.engine.engine import Engine, EngineConfig

    engine = Engine.load(EngineConfig(model=str(smollm2_gguf), context_length=2048, slots=4))
    app = create_app(engine, Settings())
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none"))
    sock = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    started = RealServer(sock.getsockname()[1])
    yield started
    started.http.close()
    started.sdk.close()
    server.should_exit = True
    thread.join(20)
    engine.close()
    sock.close()


def is_planet(text):
    planet = json.loads(text)
    return (
        list(planet) == list(PLANET["properties"])
        and len(planet["moons"]) <= 2
        and planet["kind"] in {"rocky planet", "gas giant"}
        and 1 <= planet["radius_km"] <= 99999
    )


def test_a_schema_is_kept_streamed_and_whole_and_the_answer_ends_by_itself(real):
    [choice] = real.ask(response_format=FORMAT).choices
    assert is_planet(choice.message.content)
    assert choice.finish_reason == "stop"
    chunks = list(real.ask(response_format=FORMAT, stream=True))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert is_planet(streamed)
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_n_answers_logprobs_penalties_and_heat_keep_to_it_too(real):
    answer = real.ask(
        response_format=FORMAT, n=2, temperature=1.5, seed=4, frequency_penalty=0.5, logprobs=True
    )
    texts = [choice.message.content for choice in answer.choices]
    assert all(map(is_planet, texts))
    assert texts[0] != texts[1]
    for choice in answer.choices:
        tokens = b"".join(bytes(each.bytes) for each in choice.logprobs.content)
        assert tokens.decode() == choice.message.content


def test_a_prediction_that_breaks_the_schema_is_followed_no_further_than_it_goes(real):
    guess = '{"name": "Mars", "moons": [], "kind": "a planet of its own kind"}'
    answer = real.ask(response_format=FORMAT, prediction={"type": "content", "content": guess})
    assert is_planet(answer.choices[0].message.content)


def test_the_token_limit_is_told_from_the_end(real):
    [choice] = real.ask(response_format=FORMAT, max_tokens=7).choices
    assert choice.finish_reason == "length"


LEAVES = st.sampled_from(
    [
        {"type": "boolean"},
        {"type": "integer", "minimum": 0, "maximum": 999},
        {"type": "string", "maxLength": 8},
        {"enum": ["red", "green", None]},
    ]
)
SCHEMAS = st.dictionaries(
    st.sampled_from(["color", "size", "is ok", "größe", 'quo"te']),
    st.one_of(
        LEAVES, st.builds(lambda items: {"type": "array", "items": items, "maxItems": 2}, LEAVES)
    ),
    min_size=1,
    max_size=4,
).map(lambda p: {"type": "object", "properties": p, "required": list(p)})


@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(SCHEMAS)
def test_any_schema_is_kept(real, schema):
    response = real.http.post(
        "/v1/chat/completions",
        json={
            "messages": ASK,
            "max_tokens": 150,
            "temperature": 1,
            "seed": 1,
            "response_format": {"type": "json_schema", "json_schema": {"schema": schema}},
        },
    )
    [choice] = response.json()["choices"]
    assert choice["finish_reason"] == "stop"
    value = json.loads(choice["message"]["content"])
    assert list(value) == list(schema["properties"])


def test_grammars_and_regular_expressions_are_kept(real):
    grammar = 'root ::= "The " ("red" | "blue") " planet" [!?]'
    body = {"prompt": "Mars:", "grammar": grammar, "n_predict": 20}
    answer = real.http.post("/completion", json=body).json()
    assert answer["content"][:-1] in {"The red planet", "The blue planet"}
    assert answer["stop_type"] == "eos"
    body = {"prompt": "1 + 1 =", "structured_outputs": {"regex": " [0-9]{1,3}"}, "max_tokens": 8}
    text = real.http.post("/v1/completions", json=body).json()["choices"][0]["text"]
    assert text.strip().isdigit()


def test_an_impossible_schema_is_the_sdks_own_error_with_the_reason(real):
    schema = {"type": "string", "minLength": 9, "maxLength": 3}
    wrong = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(openai.BadRequestError, match=r"minLength \(9\)"):
        real.ask(response_format=wrong, stream=True)


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}]
)
def test_a_call_that_must_come_comes(real, choice):
    more = {"tools": TOOLS, "tool_choice": choice, "parallel_tool_calls": False}
    [answer] = real.ask(messages=WEATHER_ASK, **more).choices
    assert answer.finish_reason == "tool_calls"
    assert answer.message.content is None
    [call] = answer.message.tool_calls
    if call.function.name == "get_weather":
        arguments = json.loads(call.function.arguments)
        assert set(arguments) == {"city", "unit"}
        assert arguments["unit"] in {"celsius", "fahrenheit"}
    else:
        assert choice == "required"
    chunks = list(real.ask(messages=WEATHER_ASK, stream=True, **more))
    pieces = [c for chunk in chunks for c in chunk.choices[0].delta.tool_calls or []]
    assert "".join(piece.function.arguments for piece in pieces) == call.function.arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_the_anthropic_dialect_forces_a_call(real):
    tool = {"name": "get_weather", "input_schema": WEATHER}
    choice = {"type": "tool", "name": "get_weather"}
    body = {"messages": WEATHER_ASK, "tools": [tool], "tool_choice": choice, "max_tokens": 60}
    answer = real.http.post("/v1/messages", json=body).json()
    assert answer["stop_reason"] == "tool_use"
    [block] = answer["content"]
    assert set(block["input"]) == {"city", "unit"}


def test_the_ollama_dialect_keeps_a_format(real):
    body = {"model": MODEL, "messages": ASK, "format": PLANET, "stream": False}
    answer = real.http.post("/api/chat", json=body).json()
    assert is_planet(answer["message"]["content"])


def test_the_responses_dialect_keeps_a_format(real):
    text = {"format": {"type": "json_schema", "name": "planet", "schema": PLANET, "strict": True}}
    answer = real.sdk.responses.create(model=MODEL, input="Describe Mars.", text=text)
    assert is_planet(answer.output_text)
    assert answer.status == "completed"


def test_eight_answers_of_different_forms_do_not_mix(real):
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    texts = {}

    def ask(word):
        body = {"prompt": "Count:", "structured_outputs": {"regex": f"({word} ){{6}}"}}
        answer = real.http.post("/v1/completions", json=body | {"max_tokens": 40}).content
        texts[word] = msgspec.json.decode(answer)["choices"][0]["text"]

    threads = [threading.Thread(target=ask, args=(word,)) for word in words]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert texts == {word: f"{word} " * 6 for word in words}
