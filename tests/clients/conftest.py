"""A small OpenAI-like server on a real socket, in a thread, whose answers tests can shape."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class FakeServer:
    """What the server answers, and what it saw."""

    def __init__(self) -> None:
        self.words = ["def ", "add", "(a, b):", "\n    return a + b\n"]
        self.models = ["tiny"]
        self.calls_tools = True
        self.serves_infill = True
        self.serves_suffix = True
        self.sends_usage = True
        self.is_endless = False
        self.cuts_stream = False
        self.api_key: str | None = None
        self.requests: list[tuple[str, dict]] = []
        self.client_left = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.fake = self
        self._http.daemon_threads = True
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self._thread.start()

    @property
    def root_url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def base_url(self) -> str:
        return self.root_url + "/v1"

    def bodies(self, path: str) -> list[dict]:
        return [body for seen, body in self.requests if seen == path]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def fake(self) -> FakeServer:
        return self.server.fake

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.fake.requests.append((self.path, {}))
        if self.path == "/health":
            self.answer({"status": "ok"})
        elif self.path == "/props":
            self.answer({"default_generation_settings": {"n_ctx": 2048}, "total_slots": 1})
        elif self.path == "/v1/models" and self.is_allowed():
            data = [{"id": name, "meta": {"n_ctx": 2048}} for name in self.fake.models]
            self.answer({"object": "list", "data": data})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.fake.requests.append((self.path, body))
        if not self.is_allowed():
            return
        if body.get("model") not in {None, *self.fake.models}:
            self.refuse(404, f"no model {body['model']!r}", "model_not_found")
            return
        route = {
            "/v1/chat/completions": self.chat,
            "/v1/completions": self.complete,
            "/infill": self.infill,
        }.get(self.path)
        if route is None:
            self.refuse(404, "no such route")
        else:
            route(body)

    def is_allowed(self) -> bool:
        if self.fake.api_key is None:
            return True
        if self.headers.get("authorization") == f"Bearer {self.fake.api_key}":
            return True
        self.refuse(401, "wrong key", "invalid_api_key")
        return False

    def chat(self, body: dict) -> None:
        if not body.get("stream"):
            message = {"role": "assistant", "content": "".join(self.fake.words)}
            if "tools" in body and self.fake.calls_tools:
                function = {**body["tool_choice"]["function"], "arguments": "{}"}
                message["tool_calls"] = [{"id": "t1", "type": "function", "function": function}]
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self.answer({"id": "c1", "choices": [choice], "usage": self.usage()})
            return
        self.stream(
            lambda text: {"choices": [{"index": 0, "delta": {"content": text}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        )

    def complete(self, body: dict) -> None:
        if "suffix" in body and not self.fake.serves_suffix:
            self.refuse(400, "suffix is not supported")
        elif body.get("stream"):
            self.stream(
                lambda text: {"choices": [{"index": 0, "text": text}]},
                {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]},
            )
        else:
            choice = {"index": 0, "text": "".join(self.fake.words), "finish_reason": "stop"}
            self.answer({"choices": [choice], "usage": self.usage()})

    def infill(self, body: dict) -> None:
        if not self.fake.serves_infill:
            self.refuse(404, "no such route")
        else:
            self.answer({"content": "a + b", "stop": True, "tokens_predicted": 3})

    def usage(self) -> dict:
        num = len(self.fake.words)
        return {"prompt_tokens": 5, "completion_tokens": num, "total_tokens": 5 + num}

    def stream(self, chunk_of, last: dict) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.send_header("x-request-id", "req-7")
        self.end_headers()
        try:
            self.write_events(chunk_of, last)
        except (BrokenPipeError, ConnectionResetError):
            self.fake.client_left.set()
        self.close_connection = True

    def write_events(self, chunk_of, last: dict) -> None:
        for word in self.fake.words:
            self.event(json.dumps(chunk_of(word)))
        while self.fake.is_endless:
            self.event(json.dumps(chunk_of("more ")))
        if self.fake.cuts_stream:
            return
        self.event(json.dumps(last))
        if self.fake.sends_usage:
            self.event(json.dumps({"choices": [], "usage": self.usage()}))
        self.event("[DONE]")

    def event(self, data: str) -> None:
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def answer(self, document: dict, status: int = 200) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-request-id", "req-7")
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: int, message: str, code: str | None = None) -> None:
        error = {"message": message, "type": "invalid_request_error", "code": code}
        self.answer({"error": error}, status)


@pytest.fixture
def fake_server() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.close()
