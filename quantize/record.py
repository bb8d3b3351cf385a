"""Compose what a run says about itself: its manifest and the keys inside its files."""

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from quantize.config import to_dict
from quantize.imatrix import artifact as imatrix_artifact
from quantize.llama.cpp_source import pin
from quantize.llama.metadata import Provenance
from quantize.machine import hardware
from quantize.plan import STAGE, Plan
from quantize.run import (
    SCHEMA_VERSION,
    InputRecord,
    Manifest,
    OutputRecord,
    git_state,
    python_version,
)
from quantize.source import Source

_PACKAGES = ("llama-cpp-python", "transformers", "torch", "safetensors", "gguf")


def provenance(source: Source) -> Provenance:
    """Return where the weights came from, for the files' metadata."""
    base = source.base_model
    return Provenance(
        base_ref=base.ref,
        base_sha256=base.sha256,
        base_licence=base.licence,
        llama_cpp_commit=pin().llama_cpp_commit,
        training_config_hash=source.manifest.config_hash if source.manifest else None,
        data_licences=source.data_licences,
    )


def manifest(
    run: Path, work: Plan, outputs: tuple[OutputRecord, ...], metrics: dict[str, Any]
) -> Manifest:
    """Return the manifest of a finished run."""
    source = work.source
    role = "finetune_run" if source.kind == "finetune_run" else "model"
    consumed = InputRecord(
        role=role,
        ref=str(source.path.resolve()),
        sha256=source.sha256,
        size_bytes=source.size_bytes,
        licence=source.base_model.licence,
    )
    base = source.base_model
    if source.kind == "finetune_run":
        base = msgspec.structs.replace(base, path=str(source.weights.resolve()))
    return Manifest(
        schema_version=SCHEMA_VERSION,
        stage=STAGE,
        run_id=run.name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        config_hash=work.config_hash,
        git=git_state(),
        config=to_dict(work.config),
        inputs=(consumed, *imatrix_artifact.consumed(work.config.imatrix)),
        outputs=outputs,
        base_model=base,
        versions=_versions(),
        hardware=hardware(),
        metrics=metrics,
    )


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in _PACKAGES}
    return {"python": python_version(), **packages, "llama.cpp": pin().llama_cpp_commit}
