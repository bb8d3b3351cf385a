"""LoRA adapters of one model: loaded once, set on the context for the rows that want them.

Knows neither names that clients send nor who computes when. An adapter lives as long as its model,
which frees it.
"""

from __future__ import annotations

import ctypes
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve.engine import native
from serve.engine.errors import (
    AdapterLoadError,
    DecodeError,
    InvalidSamplingError,
    UnknownAdapterError,
)
from serve.engine.identity import file_fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.engine.config import AdapterConfig
    from serve.engine.request import AdapterMix

_SCOPE_MARK = "\x00adapters "  # no API key holds a NUL, so no key's scope begins another's


class AdapterSet:
    """The adapters of one model, numbered as they were configured.

    Load them before the context is created: its graphs are sized for what is there.
    """

    def __init__(self, model: Any, configs: Sequence[AdapterConfig]) -> None:
        """Load every file. Raises: AdapterLoadError."""
        self._handles = [_load(model, config) for config in configs]
        self._fingerprints = [file_fingerprint(Path(config.file)) for config in configs]
        self._applied: AdapterMix = ()

    def apply(self, context: Any, mix: AdapterMix) -> None:
        """Set what the next decode computes with; free of cost when it is set already.

        A change makes the library plan its buffers anew: some 6-9 ms for a model of 135M.
        Raises: DecodeError. Source: llama.h `llama_set_adapters_lora`.
        """
        if mix == self._applied:
            return
        lib = native.library()
        handles = (lib.llama_adapter_lora_p_ctypes * len(mix))(*(self._handles[i] for i, _ in mix))
        scales = (ctypes.c_float * len(mix))(*(scale for _, scale in mix))
        code = lib.llama_set_adapters_lora(context, handles, len(mix), scales)
        if code:
            raise DecodeError(f"llama_set_adapters_lora returned {code} for {mix}")
        self._applied = mix

    def check(self, mix: AdapterMix) -> AdapterMix:
        """Return a mix in its one spelling: by number, without scales of 0.

        Raises: UnknownAdapterError, InvalidSamplingError.
        """
        for number, scale in mix:
            if not 0 <= number < len(self._handles):
                raise UnknownAdapterError(number, len(self._handles))
            if not math.isfinite(scale):
                raise InvalidSamplingError("lora", f"scale is {scale}; it must be finite")
        return tuple(sorted((number, scale) for number, scale in dict(mix).items() if scale))

    def scope(self, cache_scope: str, mix: AdapterMix) -> str:
        """Return who may see what is read with this mix: cells depend on every weight.

        The files' own marks are in it, since prefixes outlive the process.
        """
        if not mix:
            return cache_scope
        parts = [f"{self._fingerprints[number]}*{scale!r}" for number, scale in mix]
        return f"{cache_scope}{_SCOPE_MARK}{' '.join(parts)}"


def _load(model: Any, config: AdapterConfig) -> Any:
    """Load one file. Source: llama.h `llama_adapter_lora_init`."""
    lib = native.library()
    path = Path(config.file)
    if not path.is_file():
        raise AdapterLoadError(f"there is no adapter file {path} (adapter {config.name!r})")
    native.forget_complaints()
    handle = lib.llama_adapter_lora_init(model, str(path).encode())
    if not handle:
        raise AdapterLoadError(
            f"{path} cannot be loaded as an adapter of this model: "
            f"{native.complaints() or 'no reason given'}; it must be a GGUF made from a LoRA of it"
        )
    pointer = ctypes.cast(handle, lib.llama_adapter_lora_p_ctypes)
    if lib.llama_adapter_get_alora_n_invocation_tokens(pointer):
        raise AdapterLoadError(
            f"{path} is an activated LoRA, which begins in the middle of a prompt; that is not "
            "supported, a plain LoRA is"
        )
    return handle
