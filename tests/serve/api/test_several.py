"""Several models behind one server, with real weights: loaded when asked for, gone when idle."""

import asyncio
import time

import httpx
import msgspec
import pytest

from serve.engine.sizing import size

pytestmark = pytest.mark.weights


def complete(server, name, **fields):
    body = {"model": name, "prompt": "def add(a, b):", "max_tokens": 4, "temperature": 0}
    return server.http.post("/v1/completions", json=body | fields)


def states(server):
    return {each["id"]: each["state"] for each in server.http.get("/v1/models").json()["data"]}


def in_memory(server):
    return [each["name"] for each in server.http.get("/api/ps").json()["models"]]


def until_in_memory(server, *names):
    ends = time.monotonic() + 20
    while set(in_memory(server)) != set(names):
        assert time.monotonic() < ends
    return True


@pytest.fixture(scope="module")
def folder(smollm2_gguf, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name in ("ada", "bob"):
        (folder / f"{name}.gguf").symlink_to(smollm2_gguf)
    return folder


@pytest.fixture(scope="module")
def num_bytes(smollm2_gguf, folder_engine):
    """Return what one of them takes."""
    return size(msgspec.structs.replace(folder_engine, model=str(smollm2_gguf)), 10**10).num_bytes


@pytest.fixture(scope="module")
def roomy(folder, num_bytes, serve_folder):
    return serve_folder(folder, 3 * num_bytes)


@pytest.fixture(scope="module")
def narrow(folder, num_bytes, serve_folder):
    return serve_folder(folder, num_bytes + 1)


def test_a_model_is_loaded_when_it_is_asked_for_and_lists_say_so(roomy):
    assert states(roomy) == {"ada": "unloaded", "bob": "unloaded"}
    entry = roomy.http.get("/v1/models/bob").json()
    assert (entry["max_model_len"], entry["meta"]["n_params"]) == (256, 134_515_008)
    tags = roomy.http.get("/api/tags").json()["models"]
    assert [tag["name"] for tag in tags] == ["ada", "bob"]
    assert complete(roomy, "bob").json()["model"] == "bob"
    assert states(roomy) == {"ada": "unloaded", "bob": "loaded"}
    loaded = roomy.http.get("/v1/models/bob").json()
    for same in ("id", "max_model_len", "capabilities"):
        assert loaded[same] == entry[same]
    assert loaded["meta"]["n_params"] == entry["meta"]["n_params"]
    assert complete(roomy, "eve").status_code == 404
    assert "'ada', 'bob'" in complete(roomy, "eve").json()["error"]["message"]


async def test_two_models_answer_side_by_side_as_each_alone(roomy):
    alone = {name: complete(roomy, name, max_tokens=12).json() for name in ("ada", "bob")}
    async with httpx.AsyncClient(base_url=roomy.url, timeout=60) as http:

        async def ask(name):
            body = {"model": name, "prompt": "def add(a, b):", "max_tokens": 12, "temperature": 0}
            return name, (await http.post("/v1/completions", json=body)).json()

        together = await asyncio.gather(*(ask(name) for name in ("ada", "bob", "ada", "bob")))
    for name, answer in together:
        assert answer["choices"][0]["text"] == alone[name]["choices"][0]["text"]
    assert until_in_memory(roomy, "ada", "bob")


def test_the_ollama_client_says_how_long_a_model_stays(roomy):
    ollama = pytest.importorskip("ollama", reason="the ollama client comes with the dev extra")
    with ollama.Client(host=roomy.url) as client:
        client.generate("ada", "a", raw=True, options={"num_predict": 1}, keep_alive="1h")
        client.generate("bob", "a", raw=True, options={"num_predict": 1}, keep_alive=-1)
        stays = {each.model: each.expires_at.year for each in client.ps().models}
        assert stays["bob"] == 9999
        assert stays["ada"] < 9999
        client.generate("ada", "a", raw=True, options={"num_predict": 1}, keep_alive=0)
        assert until_in_memory(roomy, "bob")
        assert client.generate("bob", keep_alive=0).done_reason == "unload"
        assert until_in_memory(roomy)


def test_an_idle_model_makes_room_and_a_busy_one_does_not(narrow):
    assert complete(narrow, "ada").status_code == 200
    assert complete(narrow, "bob").status_code == 200
    assert in_memory(narrow) == ["bob"]
    body = {"model": "bob", "prompt": "a", "max_tokens": 200, "stream": True, "ignore_eos": True}
    with narrow.http.stream("POST", "/v1/completions", json=body) as stream:
        lines = stream.iter_lines()
        next(lines)
        with httpx.Client(base_url=narrow.url, timeout=60) as other:
            refused = other.post("/v1/completions", json={"model": "ada", "prompt": "a"})
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "5"
        assert "models in use take" in refused.json()["error"]["message"]
        assert any("[DONE]" in line for line in lines)
    assert complete(narrow, "ada").status_code == 200


def test_a_model_beyond_the_budget_is_a_400_with_the_numbers(folder, num_bytes, serve_folder):
    server = serve_folder(folder, num_bytes - 2**20)
    response = complete(server, "ada")
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "model_too_large"
    assert "0.4 GB are available" in response.json()["error"]["message"]
    assert states(server) == {"ada": "unloaded", "bob": "unloaded"}
