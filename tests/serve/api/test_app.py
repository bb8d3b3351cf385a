"""What holds for every route: envelope, keys, request ids, pings, schema."""

import json
import socket

import pytest

from serve.config import ServerSettings, Settings

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/nowhere", None, 404),
        ("GET", "/v1/completions", None, 405),
        ("POST", "/v1/completions", "{", 400),
        ("POST", "/v1/completions", "", 400),
        ("POST", "/v1/completions", "[]", 400),
        ("POST", "/v1/completions", "{}", 400),
        ("POST", "/v1/completions", b"\xff\xfe", 400),
        ("POST", "/v1/completions", '{"prompt":' + "[" * 20_000, 400),
    ],
)
def test_every_error_has_the_envelope_and_a_request_id(live, method, path, content, status):
    response = live.http.request(method, path, content=content)
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert response.headers["x-request-id"]


def test_an_unforeseen_error_is_a_500_that_gives_nothing_away(live, capfd):
    live.engine.script.refuse = ZeroDivisionError("secret")
    response = live.http.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "secret" in capfd.readouterr().err


def test_a_request_id_is_echoed_when_it_is_usable_and_made_when_not(live):
    def answered(name):
        headers = {"x-request-id": name} if name else {}
        return live.http.post("/v1/chat/completions", json=CHAT, headers=headers).headers

    assert answered("abc-1")["x-request-id"] == "abc-1"
    assert live.engine.requests[-1].request_id == "abc-1"
    assert answered("x" * 200)["x-request-id"].startswith("req-")
    assert answered(None)["x-request-id"] != answered(None)["x-request-id"]


def test_without_a_valid_key_only_health_answers(serving):
    live = serving(api_keys=("s3cret", "other"))
    assert live.http.get("/health").status_code == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"x-api-key": "wrong"}):
        response = live.http.get("/v1/models", headers=headers)
        assert response.status_code == 401
        assert response.json()["error"]["type"] == "authentication_error"
    for headers in ({"Authorization": "Bearer other"}, {"x-api-key": "s3cret"}):
        assert live.http.get("/v1/models", headers=headers).status_code == 200


def test_a_key_is_checked_before_the_body_arrives(serving):
    live = serving(api_keys=("s3cret",))
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", live.port), timeout=10) as sock:
        sock.sendall(head)
        assert sock.recv(12) == b"HTTP/1.1 401"


def test_comments_keep_a_silent_stream_alive_and_headers_come_early(serving):
    live = serving(Settings(server=ServerSettings(ping_seconds=0.02)))
    live.engine.script.hang = True
    live.engine.script.pieces = []
    with live.http.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as response:
        assert response.status_code == 200
        lines = (line for line in response.iter_lines() if line)
        assert next(lines).startswith("data: ")
        assert [next(lines) for _ in range(3)] == [": ping"] * 3
    live.engine.wait_for_running(0)


def test_a_stream_that_is_stopped_by_the_server_says_so(live):
    live.engine.script.hang = True
    with live.http.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as response:
        live.engine.wait_for_running(1)
        [generation] = live.engine.running
        lines = (line for line in response.iter_lines() if line)
        next(lines)
        generation.cancel_from_outside()
        *_, last = lines
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "generation_failed"


def test_the_published_schema_names_every_route_and_its_body(live):
    schema = live.http.get("/schema/openapi.json").json()
    for path in ("/v1/chat/completions", "/v1/completions", "/infill", "/completion", "/tokenize"):
        assert "requestBody" in schema["paths"][path]["post"], path
    for path in ("/v1/models", "/props", "/slots", "/metrics", "/health"):
        assert "get" in schema["paths"][path], path
    assert "temperature" in schema["components"]["schemas"]["ChatRequest"]["properties"]


def test_prefixes_of_one_key_are_kept_apart_from_those_of_another(serving):
    live = serving(api_keys=("first", "second"))
    for key in ("first", "second"):
        headers = {"Authorization": f"Bearer {key}"}
        live.http.post("/v1/completions", json={"prompt": "same"}, headers=headers)
    scopes = [request.cache_scope for request in live.engine.requests]
    assert scopes == ["first", "second"]
