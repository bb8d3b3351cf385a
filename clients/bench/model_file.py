"""Which model file the servers of a comparison load.

A small reader of the quantize runs (docs/artifacts.md) of its own. Knows no server.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from clients.errors import UsageError

PACKAGED = "SmolLM2-135M-Instruct.Q4_1.gguf"


def choose(named: str | None) -> Path:
    """Return the file, or the one of the run named, else of the newest run, else the packaged one.

    Raises:
        UsageError: there is none.
    """
    if named is None:
        return _newest() or _packaged()
    path = Path(named).expanduser().resolve()
    found = _of_run(path) if path.is_dir() else path if path.is_file() else None
    if found is None:
        raise UsageError(f"--model {named}: no GGUF and no complete quantize run")
    return found


def _newest() -> Path | None:
    runs = [run for run in (runs_root() / "quantize").glob("*") if _of_run(run)]
    return _of_run(max(runs, key=lambda run: run.name)) if runs else None


def _of_run(run: Path) -> Path | None:
    """Return the recommended file of a complete run, else its smallest."""
    manifest = _json(run / "manifest.json")
    outputs = [output for output in manifest.get("outputs", []) if output.get("role") == "gguf"]
    files = [run / output["path"] for output in outputs if (run / output["path"]).is_file()]
    recommended = _json(run / "recommendation.json").get("file")
    chosen = [file for file in files if file.name == recommended]
    return next(iter(chosen), min(files, key=lambda file: file.stat().st_size, default=None))


def _packaged() -> Path:
    from platformdirs import user_cache_dir

    file = Path(user_cache_dir("edgesmith")) / "models" / PACKAGED
    if not file.is_file():
        raise UsageError(
            f"no quantize run in {runs_root()} and no {file}; make one (python -m quantize), "
            "fetch the packaged model (python -m finetune base), or name a file with --model"
        )
    return file


def runs_root() -> Path:
    """Return where runs are kept on this machine."""
    if home := os.environ.get("EDGESMITH_HOME"):
        return Path(home).expanduser().resolve() / "runs"
    if Path("runs").is_dir():
        return Path.cwd() / "runs"
    from platformdirs import user_data_dir

    return Path(user_data_dir("edgesmith")) / "runs"


def _json(file: Path) -> dict[str, Any]:
    """Return an object; empty where there is none that can be read."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return {}
