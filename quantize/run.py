"""Where runs live, and the manifest that marks one complete; knows nothing of models."""

import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from quantize.errors import RunError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"


class InputRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Name something a run was made from."""

    role: str
    ref: str
    sha256: str | None = None
    size_bytes: int | None = None
    licence: str | None = None


class OutputRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Name one file of a run; `path` is relative to it."""

    role: str
    path: str
    sha256: str
    size_bytes: int


class BaseModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Name the weights under everything."""

    ref: str
    sha256: str | None = None
    kind: str | None = None
    path: str | None = None
    dtype: str | None = None
    licence: str | None = None
    quantized_from: str | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Hold `manifest.json`; see docs/artifacts.md for each field."""

    schema_version: int
    stage: str
    run_id: str
    created_at: str
    config_hash: str
    base_model: BaseModelRecord
    outputs: tuple[OutputRecord, ...] = ()
    inputs: tuple[InputRecord, ...] = ()
    git: dict[str, Any] = {}
    config: dict[str, Any] = {}
    seed: int | None = None
    versions: dict[str, Any] = {}
    hardware: dict[str, Any] = {}
    metrics: dict[str, Any] = {}

    def paths(self, role: str) -> list[str]:
        """Return the relative paths of the outputs with a role."""
        return [output.path for output in self.outputs if output.role == role]


def home() -> tuple[Path, str]:
    """Return the home folder and why it was chosen."""
    if override := os.environ.get("EDGESMITH_HOME"):
        return Path(override).expanduser(), "EDGESMITH_HOME"
    if Path("runs").is_dir():
        return Path.cwd(), "the current directory holds runs/"
    return Path(platformdirs.user_data_dir("edgesmith")), "the user data directory"


def runs_root(stage: str) -> Path:
    """Return the folder that holds a stage's runs; it may not exist yet."""
    return home()[0] / "runs" / stage


def is_complete(run: Path) -> bool:
    """Say whether a run was finished."""
    return (run / MANIFEST).is_file()


def newest_complete(stage: str) -> Path | None:
    """Return the complete run with the greatest name, or None."""
    root = runs_root(stage)
    runs = sorted(root.iterdir(), reverse=True) if root.is_dir() else []
    return next((run for run in runs if is_complete(run)), None)


def find_by_hash(stage: str, config_hash: str) -> list[Path]:
    """Return the runs whose name carries the hash, newest first."""
    root = runs_root(stage)
    return sorted(root.glob(f"*-{config_hash[:8]}"), reverse=True) if root.is_dir() else []


def create(stage: str, config_hash: str) -> Path:
    """Make a new run directory named after the time and the hash."""
    while True:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        run = runs_root(stage) / f"{stamp}-{config_hash[:8]}"
        try:
            run.mkdir(parents=True)
        except FileExistsError:
            time.sleep(0.2)  # the name has a resolution of one second
        except OSError as error:
            raise RunError(f"cannot create the run directory {run}: {error.strerror}") from error
        else:
            return run


def read_manifest(run: Path) -> Manifest:
    """Read a manifest.

    Raises:
        RunError: when it is missing, unreadable or newer than this reader.
    """
    path = run / MANIFEST
    if not path.is_file():
        raise RunError(f"{run} has no {MANIFEST}: the run is unfinished and cannot be used")
    try:
        version = msgspec.json.decode(path.read_bytes(), type=dict[str, Any]).get("schema_version")
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise RunError(
                f"{path} has schema_version {version}; this reader knows up to {SCHEMA_VERSION}"
            )
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except msgspec.MsgspecError as error:
        raise RunError(f"{path} is not a readable manifest: {error}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step, so that no reader ever sees half of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON in one step."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def git_state() -> dict[str, Any]:
    """Return commit and dirtiness of the checkout this code runs from."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=here, capture_output=True, text=True, check=False
            )
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    status = git("status", "--porcelain") if commit else None
    return {"commit": commit, "dirty": None if status is None else bool(status)}


def say(text: str) -> None:
    """Write one line of progress to stderr."""
    print(text, file=sys.stderr, flush=True)


def python_version() -> str:
    """Return the version of the interpreter."""
    return platform.python_version()
