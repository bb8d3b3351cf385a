"""One run directory: create, log, complete, find again.

    runs/finetune/<utc>-<hash8>/
      config.toml  log.jsonl  ...artifacts...
      manifest.json    written last, so its presence means complete

Knows the layout of docs/artifacts.md, not what a fine-tune puts into it.
"""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from finetune.errors import RunError
from finetune.fingerprint import files_below, sha256_file

STAGE = "finetune"
SCHEMA_VERSION = 1
MANIFEST = "manifest.json"


class Run:
    """A directory below `runs/finetune` that this process may write to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def is_complete(self) -> bool:
        """Whether the manifest is there."""
        return (self.path / MANIFEST).is_file()

    def log(self, event: str, **figures: Any) -> None:
        """Append one event to log.jsonl; names of figures carry their units."""
        line = json.dumps({"time": utc_now(), "event": event, **figures})
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the logged events of one kind, oldest first; a torn last line is skipped."""
        log = self.path / "log.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        return [entry for entry in _parsed(lines) if entry.get("event") == event]

    def outputs(self, roles: dict[str, str]) -> list[dict[str, Any]]:
        """List every file of the run whose top-level name has a role."""
        listed = []
        for path in files_below(self.path):
            relative = path.relative_to(self.path)
            role = roles.get(relative.parts[0])
            if role is not None:
                listed.append(
                    {
                        "role": role,
                        "path": relative.as_posix(),
                        "sha256": sha256_file(path),
                        "size_bytes": path.stat().st_size,
                    }
                )
        return listed

    def complete(self, manifest: dict[str, Any]) -> None:
        """Write the manifest so that it appears whole or not at all."""
        partial = self.path / f"{MANIFEST}.partial"
        with partial.open("w", encoding="utf-8") as stream:
            json.dump(manifest, stream, indent=2)
            stream.flush()
            os.fsync(stream.fileno())
        partial.rename(self.path / MANIFEST)


def _parsed(lines: list[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def utc_now() -> str:
    """Return the current time, RFC 3339, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def create_run(root: Path, config_hash: str) -> Run:
    """Make a new directory `<utc>-<hash8>`; a taken second moves on to the next one."""
    moment = datetime.now(UTC)
    while True:
        path = root / STAGE / f"{moment:%Y%m%dT%H%M%SZ}-{config_hash[:8]}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            moment += timedelta(seconds=1)
        except OSError as error:
            raise RunError(f"cannot create {path}: {error.strerror}; set EDGESMITH_HOME") from error
        else:
            return Run(path)


def same_runs(root: Path, config_hash: str) -> tuple[Run | None, list[Run]]:
    """Return the newest complete run of this configuration, and its unfinished ones."""
    folder = root / STAGE
    paths = sorted(folder.glob(f"*-{config_hash[:8]}")) if folder.is_dir() else []
    runs = [Run(path) for path in paths]
    complete = [run for run in runs if run.is_complete and _hash_of(run) == config_hash]
    unfinished = [run for run in runs if not run.is_complete]
    return (complete[-1] if complete else None), unfinished


def _hash_of(run: Run) -> str | None:
    found: str | None = read_manifest(run.path).get("config_hash")
    return found


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of a finished fine-tune.

    Raises:
        RunError: unfinished, no run of this stage, or of a newer version.
    """
    file = path / MANIFEST
    if not path.is_dir():
        raise RunError(f"{path} is no folder; name a run directory, as a fine-tune prints it")
    if not file.is_file():
        raise RunError(f"{path} holds no {MANIFEST}: it is no finished run (continue: --resume)")
    manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        raise RunError(
            f"{file} has schema_version {version}; this program reads "
            f"{SCHEMA_VERSION}: update edgesmith or choose another EDGESMITH_HOME"
        )
    if manifest.get("stage", STAGE) != STAGE:
        raise RunError(f"{path} is a run of {manifest['stage']}; name one of {STAGE}")
    return manifest
