"""Which files of the same repository a source file imports, one level deep.

Python by its syntax tree, or line by line where the text around a gap does not parse; JavaScript,
TypeScript and C by their relative paths. Knows no budget and no model.
"""

from __future__ import annotations

import ast
import re
import warnings
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

_PYTHON_LINE = re.compile(
    r"^[ \t]*(?:from[ \t]+[\w.]+[ \t]+import[ \t]+(?:\([^)]*\)|[^\n(#]+)|import[ \t]+[\w., \t]+)",
    re.MULTILINE,
)
_SCRIPT_PATH = re.compile(r"""(?:from|import|require\()\s*["'](\.{1,2}/[^"'\n]+)["']""")
_C_PATH = re.compile(r"""^[ \t]*#[ \t]*include[ \t]+"([^"\n]+)\"""", re.MULTILINE)
_SCRIPT_ENDS = ("", ".ts", ".tsx", ".js", ".jsx", ".mjs", "/index.ts", "/index.js")
_SCRIPTS = {".ts", ".tsx", ".js", ".jsx", ".mjs"}
_C = {".c", ".h", ".cc", ".cpp", ".hpp", ".cu"}


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """One file, and the names wanted from it; no names mean the whole of it."""

    path: Path
    names: frozenset[str] = frozenset()


def imported_files(file: Path, text: str, root: Path) -> list[Imported]:
    """Return what `text`, which stands in `file`, imports from below `root`, by path."""
    if file.suffix in {".py", ".pyi"}:
        found = _python(file, text, root)
    elif file.suffix in _SCRIPTS:
        found = _relative(file, _SCRIPT_PATH.findall(text), _SCRIPT_ENDS)
    elif file.suffix in _C:
        found = _relative(file, _C_PATH.findall(text), ("",))
    else:
        found = []
    wanted: dict[Path, frozenset[str]] = {}
    for each in found:
        path = each.path.resolve()
        if path == file.resolve() or not path.is_relative_to(root.resolve()):
            continue
        known = wanted.get(path, each.names)
        wanted[path] = known | each.names if known and each.names else frozenset()
    return [Imported(path=path, names=wanted[path]) for path in sorted(wanted)]


def _relative(file: Path, paths: list[str], ends: tuple[str, ...]) -> list[Imported]:
    found = []
    for path in paths:
        tried = (file.parent / (path + end) for end in ends)
        target = next((each for each in tried if each.is_file()), None)
        if target is not None:
            found.append(Imported(path=target))
    return found


def _python(file: Path, text: str, root: Path) -> list[Imported]:
    found: list[Imported] = []
    for statement in _statements(text):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                found += _module(_folders(file, root), alias.name, frozenset())
        else:
            found += _from(file, root, statement)
    return found


def _statements(text: str) -> list[ast.Import | ast.ImportFrom]:
    """Return every import; those at which the text parses line by line when the whole does not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of strange escapes in the user's code
        try:
            trees = [ast.parse(text)]
        except (SyntaxError, ValueError):
            trees = []
            for match in _PYTHON_LINE.finditer(text):
                try:
                    trees.append(ast.parse(match[0].strip()))
                except SyntaxError:
                    continue
    nodes = (node for tree in trees for node in ast.walk(tree))
    return [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]


def _from(file: Path, root: Path, statement: ast.ImportFrom) -> list[Imported]:
    """Follow `from module import names`; a name may be a module itself."""
    folders = _folders(file, root)
    if statement.level:
        folders = list(file.resolve().parents)[statement.level - 1 : statement.level]
    names = [alias.name for alias in statement.names]
    found = []
    for name in names:
        dotted = f"{statement.module}.{name}" if statement.module else name
        found += _module(folders, dotted, frozenset())
    attributes = frozenset(names) - {each.path.stem for each in found} - {"*"}
    if statement.module and (attributes or "*" in names):
        found += _module(folders, statement.module, attributes)
    return found


def _folders(file: Path, root: Path) -> list[Path]:
    """Return where absolute imports may begin: the file's folder and those above it, and `src`."""
    root, file = root.resolve(), file.resolve()
    above = [folder for folder in file.parents if folder.is_relative_to(root)]
    return [*above, root / "src"]


def _module(folders: list[Path], dotted: str, names: frozenset[str]) -> list[Imported]:
    """Find a module's file in the first folder that has it."""
    for folder in folders:
        path = folder.joinpath(*dotted.split("."))
        for target in (path.with_name(path.name + ".py"), path / "__init__.py"):
            if target.is_file():
                return [Imported(path=target, names=names)]
    return []
