"""A client that hangs up stops its generation: over a real socket, before and after text."""

import json

import pytest

ROUTES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/completion": {"prompt": "hi"},
    "/infill": {"input_prefix": "hi", "input_suffix": "x"},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("pieces", [[], ["some", "text"]])
def test_closing_the_connection_stops_the_generation(live, path, stream, pieces):
    live.engine.script.hang = True
    live.engine.script.pieces = pieces
    sock = live.connect(json.dumps(ROUTES[path] | {"stream": stream}), path)
    live.engine.wait_for_running(1)
    if stream:
        assert sock.recv(12) == b"HTTP/1.1 200"
    sock.close()
    live.engine.wait_for_running(0)


def test_all_n_sequences_stop_together(live):
    live.engine.script.hang = True
    sock = live.connect(json.dumps(ROUTES["/v1/completions"] | {"n": 3}), "/v1/completions")
    live.engine.wait_for_running(3)
    sock.close()
    live.engine.wait_for_running(0)


def test_the_server_still_answers_while_a_generation_hangs(live):
    live.engine.script.hang = True
    sock = live.connect(json.dumps(ROUTES["/v1/completions"]), "/v1/completions")
    live.engine.wait_for_running(1)
    assert live.http.get("/health").status_code == 200
    sock.close()
    live.engine.wait_for_running(0)


def test_a_second_request_on_the_same_connection_is_served(live):
    assert live.http.post("/v1/completions", json={"prompt": "a"}).status_code == 200
    assert live.http.post("/v1/completions", json={"prompt": "a"}).status_code == 200
