"""Write a safetensors file one tensor at a time; the library's own writer wants them all at once.

    8 bytes: header length │ header: JSON, name → dtype, shape, [start, end] │ tensors, no gaps

Source: the format's description in the safetensors documentation.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

_ALIGNMENT = 8


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one tensor before it is made."""

    dtype: str
    """The format's name, `F16` for instance."""
    shape: tuple[int, ...]
    num_bytes: int


def write_shard(
    path: Path, entries: Mapping[str, Entry], tensors: Iterator[tuple[str, Any]]
) -> None:
    """Write tensors as they come; they are those of the entries, in that order."""
    import torch

    expected: Sequence[tuple[str, Entry]] = list(entries.items())
    with path.open("wb") as stream:
        stream.write(_header(expected))
        for (wanted, entry), (name, tensor) in zip(expected, tensors, strict=True):
            raw = tensor.contiguous().reshape(-1).view(torch.uint8)
            assert (name, raw.numel()) == (wanted, entry.num_bytes)  # the header promised it
            raw.numpy().tofile(stream)


def _header(entries: Sequence[tuple[str, Entry]]) -> bytes:
    fields: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, entry in entries:
        end = start + entry.num_bytes
        fields[name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [start, end]}
        start = end
    raw = json.dumps(fields, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % _ALIGNMENT)
    return len(raw).to_bytes(8, "little") + raw
