"""One GGUF into another type, in process; knows no run and no measurement."""

import ctypes
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from quantize.errors import LibraryError
from quantize.llama import ggml_types
from quantize.llama.ggml_tensor import Float32
from quantize.llama.native import captured, library
from quantize.llama.quant_types import QuantType
from quantize.machine import num_cores

_PROGRESS = re.compile(r"\[\s*(\d+)/\s*(\d+)\]")
_PLANNED = re.compile(
    r"\[\s*\d+/\s*\d+\]\s+(\S+)\s+-\s+\[[^\]]*\],\s+type =\s*(\w+),\s+size =[^\n(]*(?:\((\w+)\))?"
)
_FALLBACK = re.compile(r"required for type\s+(\w+)\).*?falling back to\s+(\w+)")
_BUFFER_BYTES = 512 << 20
"""Rows of one tensor held at once; more would not be faster."""


class TypeChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Say which types a file's tensors get: a stock mix, or the same with some named by hand."""

    quant_type: QuantType
    tensor_types: Mapping[str, str] = {}
    """ggml type by tensor name."""


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """Say what a file will hold."""

    types: dict[str, str]
    """ggml type by tensor name."""
    fallbacks: dict[str, int]
    """How many tensors take another type since their rows do not fit its blocks, by change."""

    def explain(self, name: str) -> str | None:
        """Return a line on the tensors that fall back, or None."""
        if not self.fallbacks:
            return None
        changes = ", ".join(f"{count} from {change}" for change, count in self.fallbacks.items())
        return (
            f"{name}: {sum(self.fallbacks.values())} of {len(self.types)} tensors have rows that "
            f"do not fit its blocks and fall back: {changes}"
        )


def quantize_file(
    source: Path,
    target: Path,
    choice: TypeChoice,
    *,
    imatrix: Mapping[str, Float32] | None = None,
    keys: Mapping[str, str] | None = None,
    allow_requantize: bool = False,
    on_tensor: Callable[[int, int], None] | None = None,
) -> None:
    """Write `source` in another type to `target`.

    The bytes depend on source, types and importance matrix only, not on the number of threads.
    `keys` are set in the metadata, which is the source's otherwise; at most 127 bytes each.
    `on_tensor` is told (tensors done, tensors in all).

    Source: llama_model_quantize in llama.h.

    Raises:
        LibraryError: when the library refuses, with its last words.
    """
    params = _Parameters(choice, imatrix or {}, keys or {})
    params.struct.allow_requantize = allow_requantize

    def hear(text: str) -> None:
        if on_tensor is not None and (found := _PROGRESS.search(text)):
            on_tensor(int(found[1]), int(found[2]))

    with captured(hear) as lines:
        status = params.quantize(source, target)
    if status != 0:
        target.unlink(missing_ok=True)
        raise LibraryError(_explained(source, choice, " | ".join(list(lines)[-3:])))


def planned(
    source: Path, choice: TypeChoice, *, imatrix: Mapping[str, Float32] | None = None
) -> Planned:
    """Return what `quantize_file` would do; nothing is written.

    Raises:
        LibraryError: when the library refuses, with its last words.
    """
    params = _Parameters(choice, imatrix or {})
    params.struct.dry_run = True
    params.struct.allow_requantize = True
    said: list[str] = []
    with captured(said.append) as lines:
        status = params.quantize(source, source.with_suffix(".unwritten"))
    text = "".join(said)
    types = {name: (new or old).lower() for name, old, new in _PLANNED.findall(text)}
    if status != 0 or not types:
        raise LibraryError(_explained(source, choice, " | ".join(list(lines)[-3:])))
    changes = Counter(f"{wanted} to {held}".lower() for wanted, held in _FALLBACK.findall(text))
    return Planned(types=types, fallbacks=dict(changes.most_common()))


class _Parameters:
    """Own the C parameters and all that they point to."""

    def __init__(
        self,
        choice: TypeChoice,
        imatrix: Mapping[str, Float32],
        keys: Mapping[str, str] | None = None,
    ) -> None:
        self.lib = library()
        self.struct = self.lib.llama_model_quantize_default_params()
        self.struct.ftype = choice.quant_type.ftype
        self.struct.nthread = num_cores()
        self.struct.max_buf_size = _BUFFER_BYTES
        self._alive: list[Any] = list(imatrix.values())
        if imatrix:
            self.struct.imatrix = self._imatrix(imatrix)
        if choice.tensor_types:
            self.struct.tt_overrides = self._overrides(choice.tensor_types)
        if keys:
            self.struct.kv_overrides = self._keys(keys)

    def quantize(self, source: Path, target: Path) -> int:
        """Run the library and return its status."""
        status: int = self.lib.llama_model_quantize(
            str(source).encode(), str(target).encode(), ctypes.byref(self.struct)
        )
        return status

    def _imatrix(self, means: Mapping[str, Float32]) -> Any:
        """Return the array of entries; a null name ends it."""
        entries = (self.lib.llama_model_imatrix_data * (len(means) + 1))()
        for entry, (name, values) in zip(entries, sorted(means.items()), strict=False):
            entry.name = name.encode()
            entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            entry.size = values.size
        self._alive.append(entries)
        return entries

    def _overrides(self, tensor_types: Mapping[str, str]) -> Any:
        """Return the array of patterns; a null pattern ends it."""
        numbers = {entry.name: number for number, entry in ggml_types.table().items()}
        overrides = (self.lib.llama_model_tensor_override * (len(tensor_types) + 1))()
        for override, (name, kind) in zip(overrides, sorted(tensor_types.items()), strict=False):
            override.pattern = f"^{re.escape(name)}$".encode()
            override.type = numbers[kind]
        self._alive.append(overrides)
        return overrides

    def _keys(self, keys: Mapping[str, str]) -> Any:
        """Return the array of metadata; an empty key ends it."""
        entries = (self.lib.llama_model_kv_override * (len(keys) + 1))()
        for entry, (key, value) in zip(entries, keys.items(), strict=False):
            entry.tag = self.lib.LLAMA_KV_OVERRIDE_TYPE_STR
            entry.key = key.encode()
            entry.value.val_str = value.encode()
        self._alive.append(entries)
        return entries


def _explained(source: Path, choice: TypeChoice, said: str) -> str:
    text = f"llama.cpp could not quantize {source.name} to {choice.quant_type.name}: {said}"
    if "requantizing from type" in said:
        text += "; the source is already quantized"
    return text
