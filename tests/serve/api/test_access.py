"""Web pages of other sites cannot use the server through somebody's browser; programs can."""

import socket

import pytest

from serve.config import AccessSettings, ServerSettings, Settings

BODY = {"prompt": "hi"}
PAGE = "https://evil.example"


def reach(live, host):
    return live.http.get("/v1/models", headers={"Host": host}).status_code


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9", "127.0.0.1:8080", "[::1]:1", "a.b", "a.b.:3", "c:9"]
)
def test_a_loopback_server_answers_to_its_own_names_and_those_configured(serving, host):
    live = serving(Settings(access=AccessSettings(allowed_hosts=("A.b", "c:8080"))))
    assert reach(live, host) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "10.0.0.7", "[", "@"]
)
def test_a_rebound_name_is_a_403_that_names_the_setting(live, host):
    response = live.http.get("/v1/models", headers={"Host": host})
    assert response.status_code == 403
    error = response.json()["error"]
    assert error["type"] == "permission_error"
    assert "access.allowed_hosts" in error["message"]
    assert response.headers["x-request-id"]


def test_nothing_is_generated_for_a_foreign_page(live):
    for headers in ({"Host": "evil.example"}, {"Origin": PAGE}):
        assert live.http.post("/v1/completions", json=BODY, headers=headers).status_code == 403
    assert live.engine.requests == []


def test_without_a_host_no_browser_is_behind_it(live):
    with socket.create_connection(("127.0.0.1", live.port), timeout=10) as sock:
        sock.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert sock.recv(12) == b"HTTP/1.1 200"


def test_a_public_server_without_a_key_answers_to_addresses_but_not_to_made_up_names(serving):
    server = ServerSettings(host="0.0.0.0")
    live = serving(Settings(server=server, access=AccessSettings(allow_public_without_key=True)))
    assert reach(live, "10.0.0.7:8080") == 200
    assert reach(live, "localhost") == 200
    assert reach(live, "evil.example") == 403


def test_on_a_public_address_a_key_is_proof_enough(serving):
    live = serving(Settings(server=ServerSettings(host="0.0.0.0")), api_keys=("k",))
    assert reach(live, "models.lan") == 401
    headers = {"Host": "models.lan", "Authorization": "Bearer k"}
    assert live.http.get("/v1/models", headers=headers).status_code == 200


def test_a_star_takes_any_name(serving):
    live = serving(Settings(access=AccessSettings(allowed_hosts=("*",))))
    assert reach(live, "anything.example") == 200


@pytest.mark.parametrize("origin", [PAGE, "null", "http://localhost:1", "file://", "http://["])
def test_a_page_of_another_origin_is_refused_and_gets_no_cors_headers(live, origin):
    response = live.http.post("/v1/completions", json=BODY, headers={"Origin": origin})
    assert response.status_code == 403
    assert "access.cors_origins" in response.json()["error"]["message"]
    assert "access-control-allow-origin" not in response.headers


def test_the_servers_own_pages_may_ask(live):
    headers = {"Origin": f"http://127.0.0.1:{live.port}"}
    assert live.http.post("/v1/completions", json=BODY, headers=headers).status_code == 200


def preflight(live, origin):
    asked = {"Access-Control-Request-Method": "POST", "Origin": origin}
    asked["Access-Control-Request-Headers"] = "authorization,content-type"
    return live.http.options("/v1/completions", headers=asked)


def test_cors_is_off_by_default(live):
    response = preflight(live, PAGE)
    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers


def test_a_configured_page_is_answered_preflight_without_a_key_included(serving):
    access = AccessSettings(cors_origins=("http://localhost:3000", "vscode-webview://*"))
    live = serving(Settings(access=access), api_keys=("k",))
    for origin in ("http://localhost:3000", "vscode-webview://0abc"):
        response = preflight(live, origin)
        assert response.status_code == 204
        assert response.headers["access-control-allow-origin"] == origin
        assert "authorization" in response.headers["access-control-allow-headers"].lower()
        headers = {"Origin": origin, "Authorization": "Bearer k"}
        answer = live.http.post("/v1/completions", json=BODY, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["vary"] == "Origin"
    assert preflight(live, PAGE).status_code == 400
    headers = {"Origin": PAGE, "Authorization": "Bearer k"}
    assert live.http.post("/v1/completions", json=BODY, headers=headers).status_code == 403


def test_a_configured_page_can_read_why_it_was_refused(serving):
    live = serving(Settings(access=AccessSettings(cors_origins=("*",))), api_keys=("k",))
    response = live.http.get("/v1/models", headers={"Origin": PAGE})
    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == "*"
