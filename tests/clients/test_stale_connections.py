"""A server that closes a connection it kept, just when the next request goes out on it."""

import socket
import threading
from collections.abc import Iterator

import pytest

from clients import AsyncClient, Client, errors

ANSWER = b'{"choices": [{"text": "ok", "finish_reason": "stop"}]}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


class Closing:
    """Answers so many requests on each connection, reads one more, and closes without a word."""

    def __init__(self, answers: list[int]) -> None:
        self.num_read = 0
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for num_answers in self._answers:
            connection, _ = self._listener.accept()
            with connection, connection.makefile("rb") as lines:
                for _ in range(num_answers):
                    if not self._read(lines):
                        break
                    connection.sendall(HEAD % len(ANSWER) + ANSWER)
                else:
                    self._read(lines)

    def _read(self, lines) -> bool:
        length = 0
        while (line := lines.readline()).strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if length == 0:
            return False
        lines.read(length)
        self.num_read += 1
        return True

    def close(self) -> None:
        self._listener.close()
        self._thread.join()


@pytest.fixture
def closing() -> Iterator:
    started = []

    def start(*answers: int) -> Closing:
        started.append(Closing(list(answers)))
        return started[-1]

    yield start
    for server in started:
        server.close()


def test_a_generation_that_met_a_closed_connection_goes_out_on_another(closing):
    server = closing(1, 1)
    with Client(server.url) as client:
        assert [client.complete("x").text for _ in range(2)] == ["ok", "ok"]
    assert server.num_read == 3


async def test_the_async_client_does_so_too(closing):
    server = closing(1, 1)
    async with AsyncClient(server.url) as client:
        assert [(await client.complete("x")).text for _ in range(2)] == ["ok", "ok"]
    assert server.num_read == 3


def test_a_generation_that_broke_on_a_fresh_connection_is_not_repeated(closing):
    server = closing(0)
    with Client(server.url) as client, pytest.raises(errors.ConnectionLostError):
        client.complete("x")
    assert server.num_read == 1
