"""Find the GGUF to serve among the runs, and read what was measured about it.

The contract is docs/artifacts.md; this is the server's own small reader of it. Knows neither the
engine nor HTTP.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from serve.errors import NoModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION = 1
PREFERRED_TYPES = ("q4_k_m", "q5_k_m", "q8_0", "q4_0", "f16")
"""Without a recommendation: the smallest common type that keeps most of the quality comes first."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A model file and why it was taken, for one line on stderr.

    `memory_bytes` and `context_length` are what a recommendation was asked for, if it was.
    """

    path: Path
    reason: str
    memory_bytes: int | None = None
    context_length: int | None = None


def choose(named: str | None, environment: Mapping[str, str]) -> Choice:
    """Return the file named, or the best one of the run named, or of the newest run.

    Raises:
        NoModelError: nothing there, or the run is not complete.
    """
    if named is None:
        root, why = runs_root(environment)
        return _from_newest(root / "quantize", why)
    path = Path(named).expanduser()
    if path.is_dir():
        return _from_run(path)
    if not path.is_file():
        raise NoModelError(f"there is no model file {path}; --model takes a GGUF or a quantize run")
    return Choice(path=path, reason="named by --model")


def runs_root(environment: Mapping[str, str]) -> tuple[Path, str]:
    """Return the runs root and the rule that chose it."""
    if home := environment.get("EDGESMITH_HOME"):
        return Path(home).expanduser() / "runs", "EDGESMITH_HOME"
    if Path("runs").is_dir():
        return Path.cwd() / "runs", "the current directory holds runs/"
    from platformdirs import user_data_dir

    return Path(user_data_dir("edgesmith")) / "runs", "the user data directory"


def measurements(model: Path) -> list[dict[str, Any]]:
    """Return what was measured about this file, on whatever machine; empty when nothing was.

    An entry belongs to the file when its hash is the one the run's manifest gives the file; beside
    a file without a manifest the name has to do.
    """
    document = _json(model.parent / "measurements.json")
    entries = document.get("measurements", []) if isinstance(document, dict) else []
    sha256 = _sha256_in_manifest(model)
    return [entry for entry in entries if _is_about(entry, model.name, sha256)]


def _from_newest(stage: Path, why: str) -> Choice:
    complete = [run for run in stage.glob("*") if (run / "manifest.json").is_file()]
    if not complete:
        raise NoModelError(
            f"no complete quantize run in {stage} ({why}); run `python -m quantize` first or "
            "name a GGUF with --model FILE"
        )
    return _from_run(max(complete, key=lambda run: run.name))


def _from_run(run: Path) -> Choice:
    manifest = _json(run / "manifest.json")
    if not isinstance(manifest, dict):
        raise NoModelError(f"{run} has no manifest.json: not a run, or one that did not finish")
    _check_version(manifest, run / "manifest.json")
    files = _gguf_files(run, manifest)
    if not files:
        raise NoModelError(f"{run} holds no GGUF; run `python -m quantize` or name a file")
    recommendation = _json(run / "recommendation.json")
    if isinstance(recommendation, dict):
        _check_version(recommendation, run / "recommendation.json")
        for path in files:
            if path.name == recommendation.get("file"):
                return _recommended(path, recommendation)
    return _preferred(run, files)


def _recommended(path: Path, recommendation: Mapping[str, Any]) -> Choice:
    return Choice(
        path=path,
        reason=f"recommended: {recommendation.get('reason', '')}",
        memory_bytes=recommendation.get("ram_bytes"),
        context_length=recommendation.get("context_tokens"),
    )


def _gguf_files(run: Path, manifest: Mapping[str, Any]) -> list[Path]:
    outputs = manifest.get("outputs", [])
    listed = [run / output["path"] for output in outputs if output.get("role") == "gguf"]
    return [path for path in listed if path.is_file()]


def _preferred(run: Path, files: list[Path]) -> Choice:
    for quant_type in PREFERRED_TYPES:
        for path in files:
            if path.stem.lower().endswith(f"-{quant_type}"):
                reason = f"{quant_type} comes first where nothing is recommended, in {run.name}"
                return Choice(path=path, reason=reason)
    smallest = min(files, key=lambda path: path.stat().st_size)
    return Choice(path=smallest, reason=f"the smallest file of {run.name}")


def _check_version(document: Mapping[str, Any], path: Path) -> None:
    version = document.get("schema_version", SCHEMA_VERSION)
    if version > SCHEMA_VERSION:
        raise NoModelError(
            f"{path} has schema_version {version}; this server reads {SCHEMA_VERSION}"
        )


def _sha256_in_manifest(model: Path) -> str | None:
    manifest = _json(model.parent / "manifest.json")
    outputs = manifest.get("outputs", []) if isinstance(manifest, dict) else []
    return next((o.get("sha256") for o in outputs if o.get("path") == model.name), None)


def _is_about(entry: Any, name: str, sha256: str | None) -> bool:
    if not isinstance(entry, dict):
        return False
    return entry.get("file_sha256") == sha256 if sha256 else entry.get("file") == name


def _json(path: Path) -> Any:
    """Return the document, or None where there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
