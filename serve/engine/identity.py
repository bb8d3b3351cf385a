"""A short name for everything a stored state depends on: same name, same bytes in the cells.

Reads the model file; knows no llama context.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serve.engine.config import EngineConfig

_NUM_WINDOWS = 64
_WINDOW_BYTES = 64 * 1024
_LAYOUT = "unified swa_full 1"  # changes with `context._context_params`


def cache_identity(config: EngineConfig, runtime: str) -> str:
    """Name model file, llama.cpp build and the layout of the cells.

    `runtime` is that of `ModelInfo`. The length of the context plays no part: cells are saved one
    by one, with their positions.
    """
    parts = (
        file_fingerprint(Path(config.model)),
        runtime,
        config.kv_type,
        str(config.flash_attention),
        str(config.n_gpu_layers),
        _LAYOUT,
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def file_fingerprint(path: Path) -> str:
    """Tell model files apart without reading gigabytes. Raises: OSError.

    Size, time of change and 64 windows of 64 KiB spread from the first byte to the last. Two files
    pass for one only when all of these agree; a copy with a new time is merely read anew.
    """
    stat = path.stat()
    digest = hashlib.sha256(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    last = max(stat.st_size - _WINDOW_BYTES, 0)
    with path.open("rb") as file:
        for index in range(_NUM_WINDOWS):
            file.seek(last * index // (_NUM_WINDOWS - 1))
            digest.update(file.read(_WINDOW_BYTES))
    return digest.hexdigest()
