"""A server of gaps on a real socket: it answers, holds or breaks, and sees who hangs up."""

import json
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

WAIT_SECONDS = 15.0


class Gaps:
    def __init__(self) -> None:
        self.content = "a + b"
        self.status = 200
        self.is_held = False
        self.bodies: list[dict] = []
        self.headers: list[dict] = []
        self.num_left = 0
        self._changed = threading.Condition()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.gaps = self
        self._http.daemon_threads = True
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def note(self, change) -> None:
        with self._changed:
            change()
            self._changed.notify_all()

    def wait(self, condition) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, WAIT_SECONDS)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass

    def do_POST(self) -> None:
        gaps = self.server.gaps
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        is_held = gaps.is_held
        gaps.headers.append(dict(self.headers))
        gaps.note(lambda: gaps.bodies.append(body))
        if is_held:
            select.select([self.connection], [], [], WAIT_SECONDS)
            if self.connection.recv(1, socket.MSG_PEEK) == b"":
                gaps.note(lambda: setattr(gaps, "num_left", gaps.num_left + 1))
            return
        answer = json.dumps({"content": gaps.content}).encode()
        self.send_response(gaps.status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer if gaps.status == 200 else b"<oops>".ljust(len(answer)))


@pytest.fixture
def gaps():
    server = Gaps()
    yield server
    server.close()


@pytest.fixture(scope="session")
def plugins() -> Path:
    return Path(__file__).resolve().parents[3] / "clients" / "editors"
