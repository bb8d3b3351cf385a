"""Several models behind one server, with real weights: loaded when asked for, gone when idle."""

import asyncio
import socket
import threading
import time

import httpx
import msgspec
import pytest
import uvicorn

from serve.app import create_app_of
from serve.catalogue import Catalogue
from serve.config import EngineSettings, ModelsSettings, Settings
from serve.engine.compute import ComputeThread
from serve.engine.sizing import size
from serve.house import of_catalogue

pytestmark = pytest.mark.weights

ENGINE = EngineSettings(context_length=256, slots=1, fim_slots=0, cache_memory_bytes=0)


class Server:
    def __init__(self, folder, budget_bytes):
        models = ModelsSettings(folder=str(folder), budget_bytes=budget_bytes)
        settings = Settings(models=models, engine=ENGINE)
        self.compute = ComputeThread()
        self.house = of_catalogue(Catalogue(settings, None), settings, self.compute, None)
        app = create_app_of(self.house, settings)
        self.server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none"))
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.sock]})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.sock.getsockname()[1]}"
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def close(self):
        self.http.close()
        self.server.should_exit = True
        self.thread.join(20)
        self.house.residents.close()
        self.compute.close()
        self.sock.close()

    def complete(self, name, **fields):
        body = {"model": name, "prompt": "def add(a, b):", "max_tokens": 4, "temperature": 0}
        return self.http.post("/v1/completions", json=body | fields)

    def states(self):
        return {each["id"]: each["state"] for each in self.http.get("/v1/models").json()["data"]}

    def in_memory(self):
        return [each["name"] for each in self.http.get("/api/ps").json()["models"]]

    def until_in_memory(self, *names):
        ends = time.monotonic() + 20
        while set(self.in_memory()) != set(names):
            assert time.monotonic() < ends
        return True


@pytest.fixture(scope="module")
def folder(smollm2_gguf, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name in ("ada", "bob"):
        (folder / f"{name}.gguf").symlink_to(smollm2_gguf)
    return folder


@pytest.fixture(scope="module")
def num_bytes(smollm2_gguf):
    """Return what one of them takes."""
    return size(msgspec.structs.replace(ENGINE, model=str(smollm2_gguf)), 10**10).num_bytes


@pytest.fixture(scope="module")
def roomy(folder, num_bytes):
    server = Server(folder, 3 * num_bytes)
    yield server
    server.close()


@pytest.fixture(scope="module")
def narrow(folder, num_bytes):
    server = Server(folder, num_bytes + 1)
    yield server
    server.close()


def test_a_model_is_loaded_when_it_is_asked_for_and_lists_say_so(roomy):
    assert roomy.states() == {"ada": "unloaded", "bob": "unloaded"}
    entry = roomy.http.get("/v1/models/bob").json()
    assert (entry["max_model_len"], entry["meta"]["n_params"]) == (256, 134_515_008)
    tags = roomy.http.get("/api/tags").json()["models"]
    assert [tag["name"] for tag in tags] == ["ada", "bob"]
    assert roomy.complete("bob").json()["model"] == "bob"
    assert roomy.states() == {"ada": "unloaded", "bob": "loaded"}
    loaded = roomy.http.get("/v1/models/bob").json()
    for same in ("id", "max_model_len", "capabilities"):
        assert loaded[same] == entry[same]
    assert loaded["meta"]["n_params"] == entry["meta"]["n_params"]
    assert roomy.complete("eve").status_code == 404
    assert "'ada', 'bob'" in roomy.complete("eve").json()["error"]["message"]


async def test_two_models_answer_side_by_side_as_each_alone(roomy):
    alone = {name: roomy.complete(name, max_tokens=12).json() for name in ("ada", "bob")}
    async with httpx.AsyncClient(base_url=roomy.url, timeout=60) as http:

        async def ask(name):
            body = {"model": name, "prompt": "def add(a, b):", "max_tokens": 12, "temperature": 0}
            return name, (await http.post("/v1/completions", json=body)).json()

        together = await asyncio.gather(*(ask(name) for name in ("ada", "bob", "ada", "bob")))
    for name, answer in together:
        assert answer["choices"][0]["text"] == alone[name]["choices"][0]["text"]
    assert roomy.until_in_memory("ada", "bob")


def test_the_ollama_client_says_how_long_a_model_stays(roomy):
    ollama = pytest.importorskip("ollama", reason="the ollama client comes with the dev extra")
    with ollama.Client(host=roomy.url) as client:
        client.generate("ada", "a", raw=True, options={"num_predict": 1}, keep_alive="1h")
        client.generate("bob", "a", raw=True, options={"num_predict": 1}, keep_alive=-1)
        stays = {each.model: each.expires_at.year for each in client.ps().models}
        assert stays["bob"] == 9999
        assert stays["ada"] < 9999
        client.generate("ada", "a", raw=True, options={"num_predict": 1}, keep_alive=0)
        assert roomy.until_in_memory("bob")
        assert client.generate("bob", keep_alive=0).done_reason == "unload"
        assert roomy.until_in_memory()


def test_an_idle_model_makes_room_and_a_busy_one_does_not(narrow):
    assert narrow.complete("ada").status_code == 200
    assert narrow.complete("bob").status_code == 200
    assert narrow.in_memory() == ["bob"]
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
    assert narrow.complete("ada").status_code == 200


def test_a_model_beyond_the_budget_is_a_400_with_the_numbers(folder, num_bytes):
    server = Server(folder, num_bytes - 2**20)
    try:
        response = server.complete("ada")
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "model_too_large"
        assert "0.4 GB are available" in response.json()["error"]["message"]
        assert server.states() == {"ada": "unloaded", "bob": "unloaded"}
    finally:
        server.close()
