"""The server as a command: started on a free port of this machine, asked over HTTP, stopped.

Nothing of the server is imported. Where its packages are not installed it is said to be absent,
which is not the same as broken.
"""

import http.client
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from quantize.closing import Closing
from quantize.errors import ServerAbsentError, ServerError

_LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")
_ROOT = Path(__file__).resolve().parent.parent
_KEPT_LINES = 8
_START_SECONDS = 300
_ANSWER_SECONDS = 300
_STOP_SECONDS = 20


class Server(Protocol):
    """Answer JSON with JSON; the process below does, and so can a test."""

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the answer to a GET, or to a POST when there is a body."""


class ServerProcess(Closing):
    """Run `python -m serve` on one file; use it in a `with`.

    Raises:
        ServerAbsentError: the server or a package it needs is not installed.
        ServerError: it did not start, with its last words.
    """

    def __init__(self, model: Path, *, context: int, arguments: Sequence[str] = ()) -> None:
        command = [sys.executable, "-m", "serve", "--model", str(model), "--port", "0"]
        command += ["--host", "127.0.0.1", "--context-length", str(context), *arguments]
        self._lines: list[str] = []
        self._port: int | None = None
        self._known = threading.Event()
        self._process = subprocess.Popen(
            command,
            cwd=_ROOT,
            env=_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()
        self._known.wait(_START_SECONDS)
        if self._port is None:
            self.close()
            raise self._refusal()

    @property
    def base_url(self) -> str:
        """Return the address that OpenAI clients take."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def pid(self) -> int:
        """Return the number of its process."""
        return self._process.pid

    def close(self) -> None:
        """Stop the process and wait for its end."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the answer to a GET, or to a POST when there is a body.

        Raises:
            ServerError: for anything but status 200 with JSON.
        """
        assert self._port is not None  # the constructor raises otherwise
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ANSWER_SECONDS)
        try:
            method, raw = ("GET", None) if body is None else ("POST", json.dumps(body).encode())
            connection.request(method, path, raw, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"{method} {path} got no answer: {error!r}") from error
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise ServerError(f"{method} {path} got status {answer.status}: {text[:200]}")
        try:
            return json.loads(text)
        except ValueError as error:
            raise ServerError(f"{method} {path} got no JSON: {text[:80]!r}") from error

    def _listen(self) -> None:
        assert self._process.stderr is not None  # it was opened as a pipe
        for line in self._process.stderr:
            self._lines = [*self._lines, line.strip()][-_KEPT_LINES:]
            found = _LISTENING.search(line)
            if found:
                self._port = int(found[1])
                self._known.set()
        self._known.set()

    def _refusal(self) -> Exception:
        last = self._lines[-1] if self._lines else "it said nothing"
        if last.startswith(("ModuleNotFoundError", "ImportError")) or "No module named" in last:
            return ServerAbsentError(f"the server's packages are not installed ({last})")
        return ServerError(f"`python -m serve` did not start: {last}")


def _environment() -> dict[str, str]:
    """Return this process's environment without keys, so that the server asks for none."""
    return {key: value for key, value in os.environ.items() if key != "EDGESMITH_API_KEY"}
