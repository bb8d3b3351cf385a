"""The `edgesmith.*` keys of a GGUF: what they say and how they get into a file.

Deterministic: nothing here depends on time, place or machine. Tensor bytes and every other key are
copied as they are; only the number of keys and the list of `edgesmith.*` keys change.
"""

import shutil
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import msgspec

from quantize.llama.gguf_header import MAGIC, read_header

PREFIX = "edgesmith."
_UINT32, _STRING = 4, 8


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Say where the weights came from; the same for every file of a run."""

    base_ref: str
    base_sha256: str | None
    base_licence: str | None
    llama_cpp_commit: str
    training_config_hash: str | None = None
    data_licences: tuple[str, ...] = ()

    def keys(self, quant_type: str, parent_sha256: str) -> dict[str, str | int]:
        """Return all keys of a file that others are made from, without what is not known."""
        licences = ",".join(sorted(set(self.data_licences)))
        values: dict[str, str | int | None] = {
            "schema_version": 1,
            "base_model.ref": self.base_ref,
            "base_model.sha256": self.base_sha256,
            "base_model.licence": self.base_licence,
            "training.config_hash": self.training_config_hash,
            "data.licences": licences or None,
            "llama_cpp.commit": self.llama_cpp_commit,
        }
        known = {PREFIX + key: value for key, value in values.items() if value is not None}
        return {**known, **file_keys(quant_type, parent_sha256)}


def file_keys(
    quant_type: str, parent_sha256: str, imatrix_sha256: str | None = None
) -> dict[str, str]:
    """Return the keys in which a file differs from the one it was made from."""
    values = {
        "quant.type": quant_type,
        "parent.sha256": parent_sha256,
        "imatrix.sha256": imatrix_sha256,
    }
    return {PREFIX + key: value for key, value in values.items() if value is not None}


def write_with_keys(source: Path, target: Path, keys: dict[str, str | int]) -> None:
    """Copy a GGUF, replacing all its `edgesmith.*` keys by the given ones."""
    header = read_header(source)
    kept = [span for key, span in header.spans.items() if not key.startswith(PREFIX)]
    added = b"".join(encoded_key(key, value) for key, value in keys.items())
    with source.open("rb") as reader, target.open("wb") as writer:
        writer.write(MAGIC + struct.pack("<IQQ", 3, len(header.tensors), len(kept) + len(keys)))
        _copy_spans(reader, writer, kept)
        writer.write(added)
        _copy_spans(reader, writer, [(header.kv_end, header.info_end)])
        writer.write(b"\0" * (-writer.tell() % header.alignment))
        reader.seek(header.data_offset)
        shutil.copyfileobj(reader, writer, 1 << 20)


def parent_sha256(path: Path) -> str | None:
    """Return the hash of what a file was made from."""
    return read_header(path).text(PREFIX + "parent.sha256")


def _copy_spans(reader: BinaryIO, writer: BinaryIO, spans: Iterable[tuple[int, int]]) -> None:
    for start, end in spans:
        reader.seek(start)
        writer.write(reader.read(end - start))


def encoded_key(key: str, value: str | int) -> bytes:
    """Return one key of a GGUF, with its value as a string or uint32."""
    head = _string(key)
    if isinstance(value, int):
        return head + struct.pack("<II", _UINT32, value)
    return head + struct.pack("<I", _STRING) + _string(value)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw
