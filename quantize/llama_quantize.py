"""One GGUF into another type, in process; knows no run and no measurement."""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

from quantize.errors import LibraryError
from quantize.native import captured, library
from quantize.quant_types import QuantType

_PROGRESS = re.compile(r"\[\s*(\d+)/\s*(\d+)\]")


def quantize_file(
    source: Path,
    target: Path,
    quant_type: QuantType,
    *,
    allow_requantize: bool = False,
    on_tensor: Callable[[int, int], None] | None = None,
) -> None:
    """Write `source` in another type to `target`.

    The bytes depend on the source and the type only, not on the number of threads.
    `on_tensor` is told (tensors done, tensors in all).

    Source: llama_model_quantize in llama.h.

    Raises:
        LibraryError: when the library refuses, with its last words.
    """
    lib = library()
    params = lib.llama_model_quantize_default_params()
    params.ftype = quant_type.ftype
    params.allow_requantize = allow_requantize

    def hear(text: str) -> None:
        if on_tensor is not None and (found := _PROGRESS.search(text)):
            on_tensor(int(found[1]), int(found[2]))

    with captured(hear) as lines:
        status = lib.llama_model_quantize(
            str(source).encode(), str(target).encode(), ctypes.byref(params)
        )
    if status != 0:
        target.unlink(missing_ok=True)
        raise LibraryError(_explained(source, quant_type, " | ".join(list(lines)[-3:])))


def _explained(source: Path, quant_type: QuantType, said: str) -> str:
    text = f"llama.cpp could not quantize {source.name} to {quant_type.name}: {said}"
    if "requantizing from type" in said:
        text += "; the source is already quantized"
    return text
