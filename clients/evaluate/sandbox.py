"""Run programs that nobody has read, and say how each ended.

Every program gets a process of its own (`jail.py`); this side only starts it, watches the clock
and reads what it reports. Knows nothing of problems or scores.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import msgspec

from clients.errors import UsageError

JAIL = Path(__file__).with_name("jail.py")
Mechanism = Literal["namespaces", "rlimits"]
Outcome = Literal["passed", "failed", "error", "timeout", "killed"]
MAX_REPORT_BYTES = 4096
MAX_DETAIL_CHARS = 200


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one program may use."""

    wall_seconds: float = 10.0
    cpu_seconds: int = 8
    memory_bytes: int = 1 << 30
    file_bytes: int = 16 << 20
    scratch_bytes: int = 64 << 20
    num_processes: int = 16
    num_open_files: int = 64

    def as_rlimits(self) -> dict[str, int]:
        """Name them as the resource module does."""
        return {
            "RLIMIT_CPU": self.cpu_seconds,
            "RLIMIT_AS": self.memory_bytes,
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_NPROC": self.num_processes,
            "RLIMIT_NOFILE": self.num_open_files,
            "RLIMIT_CORE": 0,
        }


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How one program ended.

    passed: it ran to its end. failed: an assertion did not hold. error: any other exception, or an
    early exit. timeout: wall clock or CPU. killed: by a signal. `detail` is its last error line.
    """

    outcome: Outcome
    detail: str
    seconds: float


class SandboxError(UsageError):
    """The sandbox asked for cannot be had on this machine."""


class Sandbox:
    """A way of running programs. Safe to use from several threads."""

    def __init__(self, mechanism: Mechanism, limits: Limits = Limits()) -> None:  # noqa: B008  # frozen
        self.mechanism = mechanism
        self.limits = limits

    def run(self, program: str) -> Verdict:
        """Run a program until it ends or a limit ends it.

        Raises:
            SandboxError: the cage could not be built; nothing was run.
        """
        # What only a program that came to its end writes: leaving early is not passing.
        token = secrets.token_hex(16)
        with tempfile.TemporaryDirectory(prefix="edgesmith-") as folder:
            return self._run(program, token, Path(folder))

    def _run(self, program: str, token: str, folder: Path) -> Verdict:
        reading, writing = os.pipe()
        ending = f"\n__import__('os').write({writing}, b'{token}')\n"
        source, errors = folder / "program.py", folder / "errors.txt"
        source.write_text(program + ending, encoding="utf-8", errors="surrogateescape")
        root = folder / "root"
        root.mkdir()
        started = time.monotonic()
        with source.open("rb") as stdin, errors.open("wb") as stderr:
            process = subprocess.Popen(
                [_interpreter(), "-I", "-S", "-B", str(JAIL), self._settings(writing, root)],
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=[writing],
                cwd=root,
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp"},  # noqa: S108
                start_new_session=True,
            )
        os.close(writing)
        is_late = _wait(process, self.limits.wall_seconds)
        seconds = time.monotonic() - started
        report = _drain(reading)
        last_line = _last_line(errors)
        if not report.startswith(b"ready\n") and not is_late and not _is_syntax(last_line):
            raise SandboxError(f"the {self.mechanism} sandbox could not be set up: {last_line}")
        has_ended = report.endswith(token.encode())
        outcome = _outcome(process.returncode, last_line, is_late=is_late, has_ended=has_ended)
        return Verdict(outcome=outcome, detail=last_line, seconds=seconds)

    def _settings(self, report: int, root: Path) -> str:
        return json.dumps(
            {
                "mechanism": self.mechanism,
                "report": report,
                "root": str(root),
                "scratch_bytes": self.limits.scratch_bytes,
                "read_only": [sys.base_prefix],
                "limits": self.limits.as_rlimits(),
            }
        )


def weaker(limits: Limits) -> Sandbox:
    """Return the sandbox that only limits resources: files and network stay within reach.

    Raises:
        SandboxError: for root even that would not hold.
    """
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        raise SandboxError(
            "--sandbox rlimits needs an ordinary user of a Unix system: limits on processes do "
            "not bind root"
        )
    return Sandbox("rlimits", limits)


def strongest(limits: Limits) -> Sandbox:
    """Return the namespaces sandbox, tried out.

    Raises:
        SandboxError: this machine does not allow it; says what to do.
    """
    sandbox = Sandbox("namespaces", limits)
    if sys.platform != "linux":
        raise SandboxError(
            "namespaces are a Linux feature; run the evaluation in a container, or accept the "
            "weaker protection with --sandbox rlimits"
        )
    try:
        sandbox.run("pass")
    except SandboxError as error:
        raise SandboxError(
            f"{error}; allow user namespaces, run in a container, or accept the weaker "
            "protection with --sandbox rlimits"
        ) from error
    return sandbox


def _interpreter() -> str:
    """The interpreter below any virtual environment: only its prefix is shown to programs."""
    return str(getattr(sys, "_base_executable", sys.executable))


def _wait(process: subprocess.Popen[bytes], wall_seconds: float) -> bool:
    """Wait for the end, and bring it about when it is late; return whether it was."""
    try:
        process.wait(wall_seconds)
    except subprocess.TimeoutExpired:
        is_late = True
    else:
        is_late = False
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # also what a program left running behind it
    process.wait()
    return is_late


def _drain(reading: int) -> bytes:
    """Read what was reported; a descendant that still holds the pipe must not hold us."""
    os.set_blocking(reading, False)
    try:
        return os.read(reading, MAX_REPORT_BYTES)
    except BlockingIOError:
        return b""
    finally:
        os.close(reading)


def _last_line(errors: Path) -> str:
    with errors.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        text = file.read().decode("utf-8", "replace").strip()
    return text.rpartition("\n")[2][:MAX_DETAIL_CHARS]


def _is_syntax(last_line: str) -> bool:
    """Programs that do not compile never get as far as the cage."""
    return last_line.startswith(
        ("SyntaxError", "IndentationError", "TabError", "ValueError: source")
    )


def _outcome(status: int, last_line: str, *, is_late: bool, has_ended: bool) -> Outcome:
    if is_late or status in {-signal.SIGXCPU, 128 + signal.SIGXCPU}:
        return "timeout"
    if status == 0 and has_ended:
        return "passed"
    if status < 0 or status > 128:
        return "killed"
    return "failed" if last_line.startswith("AssertionError") else "error"
