"""Adapters by name, by number and for everyone; what the engine gets and what lists show."""

import pytest

from serve.config import EngineSettings, Settings
from serve.engine.config import AdapterConfig

CHAT = {"messages": [{"role": "user", "content": "hi"}]}
ADAPTERS = (
    AdapterConfig(name="odd", file="/models/odd.gguf"),
    AdapterConfig(name="half", file="/models/half.gguf", scale=0.5),
)
ROUTES = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"prompt": "a"},
    "/v1/fim/completions": {"prompt": "a", "suffix": "b"},
    "/completion": {"prompt": "a"},
    "/infill": {"input_prefix": "a", "input_suffix": "b"},
}


@pytest.fixture
def live(serving):
    return serving(Settings(engine=EngineSettings(adapters=ADAPTERS)))


def mix_of(live, path, **fields):
    response = live.http.post(path, json=ROUTES[path] | fields)
    assert response.status_code == 200, response.text
    return live.engine.requests[-1].adapters


@pytest.mark.parametrize("path", ROUTES)
def test_a_request_chooses_by_name_or_by_number(live, path):
    assert mix_of(live, path, model="half") == ((1, 0.5),)
    assert mix_of(live, path, model="tiny-q4_0") == ()
    chosen = [{"id": 1, "scale": 0.25}, {"id": 0, "scale": 0}]
    assert mix_of(live, path, model="half", lora=chosen) == ((1, 0.25),)
    assert mix_of(live, path, model="half", lora=[]) == ()


def test_other_dialects_choose_by_name_and_answer_with_it(live):
    answer = live.http.post("/api/chat", json=CHAT | {"model": "odd:latest", "stream": False})
    assert answer.json()["model"] == "odd"
    assert live.engine.requests[-1].adapters == ((0, 1.0),)
    answer = live.http.post("/v1/messages", json=CHAT | {"model": "half", "max_tokens": 5})
    assert answer.json()["model"] == "half"
    assert live.engine.requests[-1].adapters == ((1, 0.5),)
    answer = live.http.post("/v1/responses", json={"model": "odd", "input": "hi"})
    assert answer.json()["model"] == "odd"
    assert live.engine.requests[-1].adapters == ((0, 1.0),)


def test_scales_for_everyone_hold_for_requests_that_choose_nothing(live):
    def scales():
        return [each["scale"] for each in live.http.get("/lora-adapters").json()]

    assert scales() == [0.0, 0.0]
    wanted = [{"id": 0, "scale": 0.75}]
    assert live.http.post("/lora-adapters", json=wanted).json() == {"success": True}
    assert scales() == [0.75, 0.0]
    assert mix_of(live, "/completion") == ((0, 0.75),)
    assert mix_of(live, "/completion", model="half") == ((1, 0.5),)
    live.http.post("/lora-adapters", json=[])
    assert scales() == [0.0, 0.0]


@pytest.mark.parametrize("path", ["/lora-adapters", "/completion"])
def test_an_adapter_that_is_not_there_is_a_400(live, path):
    body = [{"id": 2, "scale": 1.0}]
    body = body if path == "/lora-adapters" else {"prompt": "a", "lora": body}
    response = live.http.post(path, json=body)
    assert response.status_code == 400
    assert "there is no adapter 2; 0 to 1 are loaded" in response.json()["error"]["message"]


def test_lists_show_adapters_and_unknown_names_are_404s_that_name_them(live):
    entries = live.http.get("/v1/models").json()["data"]
    assert [(each["id"], each["parent"]) for each in entries] == [
        ("tiny-q4_0", None),
        ("odd", "tiny-q4_0"),
        ("half", "tiny-q4_0"),
    ]
    response = live.http.post("/v1/chat/completions", json=CHAT | {"model": "gpt"})
    assert response.status_code == 404
    assert "'tiny-q4_0', 'odd', 'half' is" in response.json()["error"]["message"]
    assert live.http.post("/v1/chat/completions", json=CHAT).status_code == 200
