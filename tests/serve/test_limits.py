"""The limits on real sockets and real weights: a full queue, a long prompt, clients that go."""

import contextlib
import json
import random
import socket
import threading

import httpx
import pytest
import uvicorn

from serve.app import create_app
from serve.config import Settings

pytestmark = pytest.mark.weights

NUM_DROPS = 1000
PROMPTS = tuple(f"def f{i}(x):\n    return x + {i}\n\n" * (1 + 7 * (i % 4)) for i in range(12))


class Soaked:
    """A server on a real socket, and its engine to look into."""

    def __init__(self, engine, port):
        self.engine = engine
        self.port = port
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)

    def send(self, **body):
        """Return a socket on which a request was sent and nothing was read."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(120)
        sock.connect(("127.0.0.1", self.port))
        text = json.dumps(body)
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(text)}"
        sock.sendall(f"{head}\r\n\r\n{text}".encode())
        return sock

    def until(self, holds):
        """Poll by /health, which is to answer whatever the engine does."""
        for _ in range(5000):
            assert self.http.get("/health").status_code == 200
            if holds(stats := self.engine.stats()):
                return stats
        raise AssertionError(f"never reached: {self.engine.stats()}")

    def check_nothing_is_left(self):
        assert self.answers_at_last().status_code == 200
        stats = self.until(lambda stats: not stats.num_running and not stats.num_waiting)
        assert {slot.state for slot in stats.slots} == {"idle"}
        assert sum(slot.num_held_tokens for slot in stats.slots) <= stats.num_cells
        assert self.engine.failure is None

    def answers_at_last(self):
        """Ask again while requests whose clients have gone still come out of the sockets."""
        for _ in range(200):
            answer = self.http.post("/v1/completions", json={"prompt": "x", "max_tokens": 2})
            if answer.status_code != 429:
                break
        return answer


@pytest.fixture(scope="module")
def soaked(smollm2_gguf):
    from serve.engine.engine import Engine, EngineConfig

    config = EngineConfig(
        model=str(smollm2_gguf),
        context_length=1024,
        slots=3,
        queue_limit=3,
        cache_memory_bytes=32 * 2**20,
        event_queue_limit=16,
    )
    engine = Engine.load(config)
    app = create_app(engine, Settings())
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=1
        )
    )
    sock = socket.create_server(("127.0.0.1", 0), backlog=256)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # else the system takes megabytes
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    started = Soaked(engine, sock.getsockname()[1])
    yield started
    started.http.close()
    server.should_exit = True
    thread.join(30)
    engine.close()
    sock.close()


def test_a_full_queue_refuses_with_a_time_to_come_back_and_fails_nobody_else(soaked):
    num_places = 3 + 1 + 3  # seats, FIM's too, and the queue
    socks = [
        soaked.send(prompt=f"x{number}", max_tokens=24, ignore_eos=True)
        for number in range(num_places + 2)
    ]
    answers = [_read_all(sock) for sock in socks]
    refused = [answer for answer in answers if answer.startswith(b"HTTP/1.1 429")]
    answered = [answer for answer in answers if answer.startswith(b"HTTP/1.1 200")]
    assert (len(answered), len(refused)) == (num_places, 2)
    assert all(b"\r\nretry-after: " in answer.lower() for answer in refused)
    soaked.check_nothing_is_left()


def test_a_reader_that_stalls_is_cut_off_and_holds_nobody_up(soaked):
    """Its socket takes a few kB of events; then those of the engine pile up to their limit."""
    with contextlib.closing(
        soaked.send(prompt="x", max_tokens=900, ignore_eos=True, stream=True, logprobs=5)
    ):
        soaked.until(lambda stats: "decode" in _states(stats))
        other = soaked.http.post("/v1/completions", json={"prompt": "y", "max_tokens": 8})
        assert other.json()["usage"]["completion_tokens"] == 8
        stats = soaked.until(lambda stats: not stats.num_running)
        assert stats.requests_finished.get("cancelled", 0) >= 1
        assert stats.completion_tokens < 900
    soaked.check_nothing_is_left()


def test_health_answers_while_a_prompt_is_read(soaked):
    with contextlib.closing(soaked.send(prompt="word " * 900, max_tokens=1)):
        states = []
        soaked.until(lambda stats: states.append(_states(stats)) or "prefill" in states[-1])
        assert "prefill" in _states(soaked.engine.stats())  # /health came while it went on
    soaked.check_nothing_is_left()


def test_a_thousand_connections_that_are_dropped_leave_every_seat_free(soaked):
    draw = random.Random(7)  # load, not secrets
    for number in range(NUM_DROPS):
        body = {"prompt": draw.choice(PROMPTS), "max_tokens": 50, "stream": number % 2 == 0}
        with contextlib.closing(soaked.send(**body)) as sock:
            if number % 10 == 0:
                sock.recv(draw.choice((1, 300)))
    soaked.check_nothing_is_left()


def _read_all(sock):
    """Read one answer, by its length or to its last chunk, and close."""
    received = b""
    with sock:
        while not _is_whole(received):
            piece = sock.recv(65536)
            if not piece:
                break
            received += piece
    return received


def _is_whole(received):
    head, separator, rest = received.partition(b"\r\n\r\n")
    if not separator:
        return False
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    if lengths:
        return len(rest) >= int(lengths[0].partition(b":")[2])
    return rest.endswith(b"0\r\n\r\n")


def _states(stats):
    return {slot.state for slot in stats.slots}
