"""A GGUF as the library's weights: what is checked before and after they are read.

Creates no context and computes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serve.engine import native
from serve.engine.errors import ModelLoadError

if TYPE_CHECKING:
    from pathlib import Path

    from serve.engine.config import EngineConfig

_LOAD_MODES = {"mmap": 1, "read": 0, "mlock": 3}  # llama.h `llama_load_mode`
_MAGIC = b"GGUF"


def check_file(path: Path) -> None:
    """Refuse early, in words, what the library would refuse in its log. Raises: ModelLoadError."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelLoadError(f"cannot read the model {path}: {reason}") from error
    if magic != _MAGIC:
        raise ModelLoadError(
            f"{path} is not a GGUF file: it begins with {magic!r}; "
            "convert the model first (python -m quantize)"
        )


def check_kind(path: Path, handle: Any) -> None:
    """Refuse models that do not write one token after the other. Raises: ModelLoadError."""
    lib = native.library()
    if lib.llama_model_has_encoder(handle) or not lib.llama_model_has_decoder(handle):
        raise ModelLoadError(f"{path} has an encoder; only decoder models are served")
    if lib.llama_model_is_diffusion(handle):
        raise ModelLoadError(f"{path} is a diffusion model; only decoder models are served")


def load_weights(config: EngineConfig, path: Path) -> Any:
    """Return a loaded model. Raises: ModelLoadError."""
    lib = native.library()
    params = lib.llama_model_default_params()
    params.load_mode = _LOAD_MODES[config.load_mode]
    params.use_extra_bufts = config.repack
    if config.n_gpu_layers is not None:
        params.n_gpu_layers = config.n_gpu_layers
    elif not native.supports_gpu_offload():
        params.n_gpu_layers = 0
    native.forget_complaints()
    handle = lib.llama_model_load_from_file(str(path).encode(), params)
    if not handle:
        raise ModelLoadError(
            f"{path} cannot be loaded ({path.stat().st_size} bytes): "
            f"{native.complaints() or 'no reason given'}; if it was cut short, fetch it again"
        )
    return handle


def can_be_cut(handle: Any) -> bool:
    """Say whether cells can be cut anywhere: not for state that is folded into one."""
    lib = native.library()
    return not (lib.llama_model_is_recurrent(handle) or lib.llama_model_is_hybrid(handle))
