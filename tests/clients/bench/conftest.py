"""A server that tests can start as a process: `python fake_peer.py PORT NAME LOG`."""

import sys
from pathlib import Path

import pytest

SOURCE = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, name, log = int(sys.argv[1]), sys.argv[2], sys.argv[3]
NUM_TOKENS = 12


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        if self.path == "/v1/models":
            self.answer({"data": [{"id": "tiny"}]})
        else:
            self.send_error(404)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/infill":
            self.send_error(404)
            return
        self.note("begin")
        self.reply(body)

    def note(self, what):
        with open(log, "a") as lines:
            lines.write(f"{name} {what}\\n")

    def reply(self, body):
        num_prompt = len(json.dumps(body.get("messages") or body["prompt"]).split())
        num_tokens = min(NUM_TOKENS, body["max_tokens"])
        usage = {
            "prompt_tokens": num_prompt,
            "completion_tokens": num_tokens,
            "prompt_tokens_details": {"cached_tokens": num_prompt // 2},
        }
        if not body.get("stream"):
            self.note("end")  # before the last bytes, after which the client may go on
            self.answer({"choices": [{"index": 0, "text": "x"}], "usage": usage})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for _ in range(num_tokens):
            self.event({"choices": [{"index": 0, "text": "x", "delta": {"content": "x"}}]})
        self.event({"choices": [], "usage": usage})
        self.note("end")
        self.wfile.write(b"data: [DONE]\\n\\n")

    def event(self, document):
        self.wfile.write(f"data: {json.dumps(document)}\\n\\n".encode())
        self.wfile.flush()

    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


print("listening", flush=True)
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


class FakePeers:
    """Commands that start the fake, and what all of them were asked, in order."""

    def __init__(self, folder: Path) -> None:
        self.script = folder / "fake_peer.py"
        self.script.write_text(SOURCE)
        self.log = folder / "requests.log"

    def command(self, name: str) -> str:
        return f"'{sys.executable}' '{self.script}' {{port}} {name} '{self.log}'"

    def asked(self) -> list[tuple[str, str]]:
        return [tuple(line.split()) for line in self.log.read_text().splitlines()]


@pytest.fixture
def fake_peers(tmp_path) -> FakePeers:
    return FakePeers(tmp_path)
