"""Identities: SHA-256 of files, of folders, of plain data and of this program's own code.

Knows nothing of what the bytes mean.
"""

import ast
import hashlib
import json
from collections.abc import Iterator
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


def sha256_code(module: str, root: Path | None = None) -> str:
    """Return one digest over the sources of a module and of all it imports from its own package.

    Imports inside of functions count as well. `root` holds the package; default: this one's.
    """
    root = root or Path(__file__).resolve().parent.parent
    package, waiting, found = module.partition(".")[0], [module], set[Path]()
    while waiting:
        path = root / Path(*waiting.pop().split(".")).with_suffix(".py")
        if path not in found and path.is_file():
            found.add(path)
            waiting += [name for name in _imported(path) if name.partition(".")[0] == package]
    assert found, f"no module {module} below {root}"
    return sha256_files(root, sorted(found))


def _imported(path: Path) -> Iterator[str]:
    """Yield what may be a module's name; `from a import b` may mean a.b."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
