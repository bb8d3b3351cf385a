"""SHA-256 of files, folders, plain data and this program's own code; knows nothing of runs."""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
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


def sha256_code(*modules: str, root: Path | None = None) -> str:
    """Return one digest over the sources of modules and of all they import from this package.

    Imports inside of functions count as well. `root` holds the package; default: this one's.
    """
    root = root or Path(__file__).resolve().parent.parent
    waiting, found = list(modules), dict[str, Path]()
    while waiting:
        name = waiting.pop()
        path = root / Path(*name.split(".")).with_suffix(".py")
        if name.startswith("quantize.") and name not in found and path.is_file():
            found[name] = path
            waiting += _imported(path)
    assert found.keys() >= set(modules), "no such module"
    assert found.keys() >= set(modules), f"not all of {modules} below {root}"
    return sha256_folder(found.items())


def _imported(path: Path) -> Iterator[str]:
    """Yield what may be a module's name; `from a import b` may mean a.b."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
