"""Where measured figures are kept, so that a model is measured once on a machine.

One small JSON file for each model, build, backend, machine and setting that moves the figures.
Measures nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from serve.engine import machine
from serve.engine.identity import file_fingerprint
from serve.engine.tuning import Tuning

if TYPE_CHECKING:
    from serve.engine.config import EngineConfig
    from serve.engine.model_info import ModelInfo

_SETTINGS = (
    "threads",
    "n_gpu_layers",
    "flash_attention",
    "kv_type",
    "load_mode",
    "repack",
)


def tuning_file(config: EngineConfig, info: ModelInfo, *, n_batch: int) -> Path:
    """Name the file for this model as it is loaded here. `tuning_folder` must be set."""
    assert config.tuning_folder is not None  # the caller asks only then
    parts = (
        file_fingerprint(Path(config.model)),
        info.runtime,
        info.system_info,
        machine.processor(),
        f"{machine.num_cores()} cores, {machine.num_hardware_threads()} threads",
        *(f"{name}={getattr(config, name)}" for name in _SETTINGS),
        f"{n_batch} rows, {info.n_slots} seats",
    )
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
    return Path(config.tuning_folder).expanduser() / f"{digest}.json"


def recall(file: Path) -> Tuning | None:
    """Return what was measured before; None where there is nothing that can be read."""
    try:
        tuning = msgspec.json.decode(file.read_bytes(), type=Tuning)
    except (OSError, msgspec.DecodeError):
        return None
    is_whole = tuning.schema_version == 1 and tuning.row_seconds and tuning.chunk_seconds
    return tuning if is_whole else None


def keep(file: Path, tuning: Tuning) -> None:
    """Write the figures, whole or not at all. Raises: OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as part:
            part.write(msgspec.json.format(msgspec.json.encode(tuning), indent=2) + b"\n")
        Path(name).replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
