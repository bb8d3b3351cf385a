"""Read the head of a GGUF: metadata, tensor list, and where each byte range lies.

It knows the container and nothing of models. Every read is checked against the file's size, so a
file that was cut short is told apart from one that is whole:

    | magic version counts | metadata ... | tensor list ... | pad | tensor data ...      |
    0                      24             kv_end            |     data_offset            end
                                                            info_end

Source: the GGUF specification in ggml's docs/gguf.md.
"""

import math
import mmap
import struct
from pathlib import Path
from typing import Any

import msgspec

from quantize.errors import GgufError
from quantize.llama import ggml_types

MAGIC = b"GGUF"
VERSIONS = (2, 3)
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9
_MAX_ARRAY_KEPT = 4096


class TensorEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Locate one tensor; `offset` counts from the start of the tensor data."""

    name: str
    shape: tuple[int, ...]
    """ggml order: the row length first."""
    type_name: str
    offset: int
    num_elements: int
    num_bytes: int


class GgufHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what stands before the tensor data.

    `metadata` keeps scalars, strings and short numeric arrays; longer arrays and arrays of
    strings stand there as their length. `spans` gives each key's byte range in the file.
    """

    path: Path
    version: int
    metadata: dict[str, Any]
    spans: dict[str, tuple[int, int]]
    tensors: tuple[TensorEntry, ...]
    kv_end: int
    info_end: int
    data_offset: int
    alignment: int
    file_bytes: int

    def text(self, key: str) -> str | None:
        """Return a string value, or None."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def architecture_value(self, key: str) -> Any:
        """Return `<architecture>.<key>`, or None."""
        return self.metadata.get(f"{self.text('general.architecture')}.{key}")


class _Cursor:
    """Walk the mapped bytes; a read past the end is a file cut short."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data = data
        self.path = path
        self.at = 0

    def scalar(self, code: str) -> Any:
        size = struct.calcsize("<" + code)
        self.need(size)
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += size
        return value

    def need(self, size: int) -> None:
        if self.at + size > len(self.data):
            raise GgufError(
                f"{self.path} is cut short: its header goes on past the end of the file at "
                f"{len(self.data)} bytes; fetch or build it again"
            )

    def string(self) -> str:
        length = self.scalar("Q")
        self.need(length)
        text = self.data[self.at : self.at + length].decode("utf-8", errors="replace")
        self.at += length
        return text

    def skip_string(self) -> None:
        length = self.scalar("Q")
        self.need(length)
        self.at += length

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array()
        if kind not in _SCALARS:
            raise GgufError(f"{self.path} is damaged: metadata of unknown type {kind}")
        return self.scalar(_SCALARS[kind])

    def array(self) -> Any:
        kind, length = self.scalar("I"), self.scalar("Q")
        if kind == _STRING:
            for _ in range(length):
                self.skip_string()
            return length
        if kind not in _SCALARS:
            raise GgufError(f"{self.path} is damaged: an array of type {kind}")
        if length <= _MAX_ARRAY_KEPT:
            return [self.scalar(_SCALARS[kind]) for _ in range(length)]
        size = struct.calcsize("<" + _SCALARS[kind]) * length
        self.need(size)
        self.at += size
        return length


def read_header(path: Path) -> GgufHeader:
    """Read and check the head of a GGUF, and that all tensor data is there.

    Raises:
        GgufError: when the file is no GGUF, of another version, damaged or cut short.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(4) != MAGIC:
                raise GgufError(f"{path} is not a GGUF file: it does not start with 'GGUF'")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                header = _parse(_Cursor(data, path))
    except OSError as error:
        raise GgufError(f"cannot read {path}: {error.strerror}") from error
    _require_whole(header)
    return header


def _parse(cursor: _Cursor) -> GgufHeader:
    cursor.at = 4
    version = cursor.scalar("I")
    if version not in VERSIONS:
        raise GgufError(f"{cursor.path} is GGUF version {version}; versions 2 and 3 are read")
    num_tensors, num_values = cursor.scalar("Q"), cursor.scalar("Q")
    metadata: dict[str, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    for _ in range(num_values):
        start = cursor.at
        key = cursor.string()
        metadata[key] = cursor.value(cursor.scalar("I"))
        spans[key] = (start, cursor.at)
    kv_end = cursor.at
    tensors = tuple(_tensor(cursor) for _ in range(num_tensors))
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise GgufError(f"{cursor.path} is damaged: general.alignment is {alignment!r}")
    return GgufHeader(
        path=cursor.path,
        version=version,
        metadata=metadata,
        spans=spans,
        tensors=tensors,
        kv_end=kv_end,
        info_end=cursor.at,
        data_offset=-(-cursor.at // alignment) * alignment,
        alignment=alignment,
        file_bytes=len(cursor.data),
    )


def _tensor(cursor: _Cursor) -> TensorEntry:
    name = cursor.string()
    num_dimensions = cursor.scalar("I")
    if num_dimensions > 8:
        raise GgufError(f"{cursor.path} is damaged: tensor {name!r} has {num_dimensions} axes")
    shape = tuple(int(cursor.scalar("Q")) for _ in range(num_dimensions))
    kind, offset = cursor.scalar("I"), cursor.scalar("Q")
    stored = ggml_types.table().get(kind)
    if stored is None:
        raise GgufError(f"{cursor.path}: tensor {name!r} has type {kind}, unknown to this ggml")
    num_elements = math.prod(shape)
    return TensorEntry(
        name=name,
        shape=shape,
        type_name=stored.name,
        offset=offset,
        num_elements=num_elements,
        num_bytes=num_elements // stored.block_length * stored.block_bytes,
    )


def _require_whole(header: GgufHeader) -> None:
    if not header.tensors:
        raise GgufError(f"{header.path} holds no tensors; a model file is needed")
    last = max(header.tensors, key=lambda tensor: tensor.offset + tensor.num_bytes)
    needed = header.data_offset + last.offset + last.num_bytes
    if header.file_bytes < needed:
        raise GgufError(
            f"{header.path} is cut short: tensor {last.name!r} ends at byte {needed}, "
            f"the file at {header.file_bytes}; fetch or build it again"
        )
