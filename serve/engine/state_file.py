"""One stored prefix as a file: written whole or not at all, and read only when undamaged.

Knows nothing of which files to keep or what the bytes of a state mean.

    magic 8 | header length 4 | header (msgpack) | state | SHA-256 of all before 32
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from serve.engine.errors import DamagedStateError

if TYPE_CHECKING:
    from pathlib import Path

    from serve.engine.prefix import State

MAGIC = b"edgekv\x00\x01"
_LENGTH_BYTES = 4
_DIGEST_BYTES = 32
_PRIVATE = 0o600


class StateHeader(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What a file holds. `identity` names model and build, `scope` is a digest, not the scope."""

    identity: str
    scope: str
    token_ids: list[int]
    state_bytes: int


def write_state(path: Path, header: StateHeader, state: State) -> int:
    """Write a file readable by its owner alone; return its bytes. Raises: OSError.

    The bytes are on the disk before the name is: a crash leaves the old state of the folder.
    """
    encoded = msgspec.msgpack.encode(header)
    parts = (MAGIC, len(encoded).to_bytes(_LENGTH_BYTES, "little"), encoded, state.data)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        _write_private(unfinished, parts)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return sum(len(part) for part in parts) + _DIGEST_BYTES


def _write_private(path: Path, parts: tuple[bytes | memoryview, ...]) -> None:
    digest = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(path, flags, _PRIVATE), "wb") as file:
        for part in parts:
            digest.update(part)
            file.write(part)
        file.write(digest.digest())
        file.flush()
        os.fsync(file.fileno())


def read_header(path: Path) -> StateHeader:
    """Read what a file says it holds. Raises: DamagedStateError, OSError."""
    with path.open("rb") as file:
        start = file.read(len(MAGIC) + _LENGTH_BYTES)
        length = int.from_bytes(start[len(MAGIC) :], "little")
        size = os.fstat(file.fileno()).st_size
        if not start.startswith(MAGIC) or length > size:
            raise DamagedStateError(f"{path} does not begin as a stored prefix does")
        header = _decode(path, file.read(length))
    expected = len(start) + length + header.state_bytes + _DIGEST_BYTES
    if size != expected:
        raise DamagedStateError(f"{path} has {size} bytes and should have {expected}")
    return header


def _decode(path: Path, encoded: bytes) -> StateHeader:
    try:
        return msgspec.msgpack.decode(encoded, type=StateHeader)
    except msgspec.DecodeError as error:
        raise DamagedStateError(f"{path} has a header that cannot be read: {error}") from error


def read_state(path: Path) -> State:
    """Read a file's state, checked bit by bit. Raises: DamagedStateError, OSError."""
    state_bytes = read_header(path).state_bytes
    content = np.fromfile(path, np.uint8)
    body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(body.data).digest() != digest.tobytes():
        raise DamagedStateError(f"{path} does not match its checksum")
    return body[len(body) - state_bytes :]
