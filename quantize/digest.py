"""SHA-256 of files, folders and plain data; knows nothing of runs."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_BLOCK_BYTES = 1 << 20


def sha256_file(path: Path) -> str:
    """Return the hex digest of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """Return the hex digest of canonical JSON: sorted keys, no blanks."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """Return one digest for a set of (path, digest) pairs, whatever their order."""
    return sha256_json(sorted(pairs))


def sha256_folder(files: Iterable[tuple[str, Path]]) -> str:
    """Return one digest for named files: their names and contents, no times."""
    return sha256_pairs((name, sha256_file(path)) for name, path in files)
