"""Identities: SHA-256 of files, of folders and of plain data.

Knows nothing of what the bytes mean.
"""

import hashlib
import json
from pathlib import Path
from typing import Any


def sha256_file(path: Path) -> str:
    """Return the hex digest of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Return the hex digest of canonical JSON: sorted keys, no blanks, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def files_below(folder: Path) -> list[Path]:
    """Return every file under a folder, in an order that does not depend on the file system."""
    return sorted((path for path in folder.rglob("*") if path.is_file()), key=Path.as_posix)


def sha256_files(folder: Path, files: list[Path]) -> str:
    """Return one digest over the names and contents of files in a folder."""
    return sha256_json({path.relative_to(folder).as_posix(): sha256_file(path) for path in files})
