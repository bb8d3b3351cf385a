"""Who is compared: servers that run already, commands that start one, and those found here.

Knows what a peer is called and how it is started. Starts nothing but a `--version`.
"""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import msgspec

from clients.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OURS = "python -m serve --model {model} --port {port}"
LLAMA_SERVER = "-m {model} --port {port}"
LLAMA_SERVER_FIM = (
    # What its presets for Qwen2.5-Coder set, but for the model they would download.
    "-m {model} --port {port} -c 0 -b 1024 -ub 1024 --cache-reuse 256"
)
PACKAGED = (
    # Its defaults are 2,048 tokens, and that a new request cuts off the running one.
    "python -m llama_cpp.server --model {model} --port {port} --n_ctx 8192 "
    "--interrupt_requests false"
)
PACKAGED_NEEDS = (
    "llama_cpp",
    "fastapi",
    "uvicorn",
    "sse_starlette",
    "starlette_context",
    "pydantic_settings",
)


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """One server. `url` where it runs already, else `command` with `{model}` and `{port}`.

    `program` is that of a peer found here.

    `is_optional`: nobody asked for it by name, so that the others go on without it.
    """

    name: str
    url: str | None = None
    command: str | None = None
    version: str | None = None
    is_optional: bool = False
    program: str | None = None


def parse(text: str, *, is_command: bool) -> Peer:
    """Read NAME=URL or NAME=COMMAND.

    Raises:
        UsageError: there is no name, or a command that could not be told where to listen.
    """
    name, separator, value = (part.strip() for part in text.partition("="))
    form = "NAME=COMMAND" if is_command else "NAME=URL"
    if not (name and separator and value):
        raise UsageError(f"{text!r} is not {form}")
    if not is_command:
        return Peer(name=name, url=value)
    if "{port}" not in value:
        raise UsageError(f"the command of {name} lacks {{port}}: where is it to listen?")
    return Peer(name=name, command=value)


def distinct(peers: Sequence[Peer]) -> list[Peer]:
    """Return the peers.

    Raises:
        UsageError: two have one name.
    """
    names = [peer.name for peer in peers]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two servers are called {name}; give each a name of its own")
    return list(peers)


def present(environment: Mapping[str, str], note: Callable[[str], None]) -> list[Peer]:
    """Return our server and the peers that this machine has; note those that it lacks.

    Raises:
        UsageError: LLAMA_SERVER names no program.
    """
    return [
        Peer(name="edgesmith", command=OURS),
        *_llama_servers(environment, note),
        *_packaged(environment, note),
    ]


def _llama_servers(environment: Mapping[str, str], note: Callable[[str], None]) -> list[Peer]:
    wanted = environment.get("LLAMA_SERVER")
    program = shutil.which(wanted or "llama-server")
    if program is None and wanted:
        raise UsageError(f"LLAMA_SERVER is {wanted}, which is no program that can be run")
    if program is None:
        note("no llama-server on PATH; LLAMA_SERVER=/path/to/llama-server adds it")
        return []
    version = _version(program)
    return [
        Peer(
            name=name,
            command=f"{shlex.quote(program)} {flags}",
            version=version,
            is_optional=True,
            program=program,
        )
        for name, flags in (
            ("llama-server", LLAMA_SERVER),
            ("llama-server-fim", LLAMA_SERVER_FIM),
        )
    ]


def _packaged(environment: Mapping[str, str], note: Callable[[str], None]) -> list[Peer]:
    python = environment.get("LLAMA_CPP_PYTHON")
    if python and shutil.which(python) is None:
        raise UsageError(f"LLAMA_CPP_PYTHON is {python}, which is no program that can be run")
    if python:
        command = PACKAGED.replace("python", shlex.quote(python), 1)
        return [Peer(name="llama-cpp-python", command=command, is_optional=True)]
    missing = [name for name in PACKAGED_NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        note(
            f"no packaged llama-cpp-python server: it needs {', '.join(missing)}; "
            'pip install "llama-cpp-python[server]" adds it, here or in another environment '
            "whose interpreter LLAMA_CPP_PYTHON names"
        )
        return []
    return [Peer(name="llama-cpp-python", command=PACKAGED, is_optional=True)]


def _version(program: str) -> str | None:
    """Return the line that begins with "version", which llama.cpp writes to stderr."""
    try:
        done = subprocess.run(
            [program, "--version"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = (line.strip() for line in done.stdout.splitlines())
    return next((line for line in lines if line.startswith("version")), None)
