"""Start servers for a comparison, wait until they answer, and end each by its own process.

Knows processes and ports; asks a server only whether it is up.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from clients.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from clients.bench.peers import Peer

POLL_SECONDS = 0.2
STOP_SECONDS = 15.0
NUM_LOG_LINES = 3


@dataclass(kw_only=True)
class Running:
    """A server that answers. `process` is None where somebody else started it.

    `start` starts it, as the first time: same command, same port.
    """

    peer: Peer
    url: str
    process: subprocess.Popen[bytes] | None = None
    start: Callable[[], subprocess.Popen[bytes]] | None = None

    def restart(self) -> None:
        """End the server and start it again. Raises: UsageError."""
        assert self.start is not None  # asked only of those started here
        self.stop()
        self.process = self.start()

    def stop(self) -> None:
        """End it, in order when it goes."""
        if self.process is not None:
            _stop(self.process)

    def cpu_seconds(self) -> float | None:
        """Return the processor time it used so far; None where the system does not say."""
        if self.process is None:
            return None
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(
    peers: Sequence[Peer],
    model: Path | None,
    logs: Path,
    *,
    start_seconds: float,
    note: Callable[[str], None],
) -> Iterator[list[Running]]:
    """Start what has a command, each once the one before answers; end them all at the end.

    Raises:
        UsageError: one does not start that is not optional; quotes the end of its log.
    """
    with ExitStack() as stack:
        found = []
        for peer in peers:
            try:
                found.append(_ready(peer, model, logs / f"{peer.name}.log", start_seconds, stack))
            except UsageError as error:
                if not peer.is_optional:
                    raise
                note(f"without {peer.name}: {error}")
        yield found


def _ready(
    peer: Peer, model: Path | None, log: Path, start_seconds: float, stack: ExitStack
) -> Running:
    if peer.url is not None:
        return Running(peer=peer, url=peer.url)
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    running = Running(peer=peer, url=url)
    stack.callback(running.stop)

    def start() -> subprocess.Popen[bytes]:
        process = running.process = _start(peer, model, port, log)
        _wait(peer.name, process, url, log, start_seconds)
        return process

    running.start = start
    start()
    return running


def words(command: str, *, model: Path | None, port: int) -> list[str]:
    """Split a command and fill it in; `python` is the interpreter that runs this.

    Raises:
        UsageError: it cannot be split, or wants a model and there is none.
    """
    try:
        found = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"cannot split the command {command!r}: {error}") from None
    if "{model}" in command and model is None:
        raise UsageError(f"the command {command!r} wants a model; name one with --model FILE")
    if found[:1] == ["python"]:
        found[0] = sys.executable
    return [word.replace("{model}", str(model)).replace("{port}", str(port)) for word in found]


def _start(peer: Peer, model: Path | None, port: int, log: Path) -> subprocess.Popen[bytes]:
    """Start in a session of its own, so that ^C reaches only us and we end it in order."""
    command = words(peer.command or "", model=model, port=port)
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("wb") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise UsageError(f"cannot start {peer.name}: {command[0]}: {error.strerror}") from None


def _wait(
    name: str, process: subprocess.Popen[bytes], url: str, log: Path, start_seconds: float
) -> None:
    deadline = time.monotonic() + start_seconds
    while not _is_up(url):
        if process.poll() is not None:
            raise UsageError(
                f"{name} ended with status {process.returncode} before it answered: {_tail(log)}"
            )
        if time.monotonic() > deadline:
            raise UsageError(
                f"{name} did not answer within {start_seconds:g} s (--start-seconds): {_tail(log)}"
            )
        time.sleep(POLL_SECONDS)


def _is_up(url: str) -> bool:
    """Ask /health, and /v1/models where there is no such route."""
    try:
        status = httpx.get(f"{url}/health", timeout=5.0).status_code
        if status == httpx.codes.NOT_FOUND:
            status = httpx.get(f"{url}/v1/models", timeout=5.0).status_code
    except httpx.HTTPError:
        return False
    return status == httpx.codes.OK


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"{' / '.join(lines[-NUM_LOG_LINES:]) or 'it wrote nothing'} (log: {log})"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
