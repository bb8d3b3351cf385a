"""Choose what goes along with a request: opened files, imports, regions edited recently.

The order is the one that changes least from request to request, so that a server finds what it
read before at the beginning of the prompt:

    imported modules by path | opened files as given | edited regions, the newest last

Knows files and a budget, and neither HTTP nor the terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from clients.context.imports import imported_files
from clients.context.outline import outline
from clients.context.recent import edited_regions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_FILE_BYTES = 1_000_000
_BYTES_PER_TOKEN = 3  # code makes 3 to 4; the lower keeps the budget on the safe side
_TOKENS_PER_NAME = 12


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of another file. `filename` is relative to the repository where it lies there."""

    filename: str
    text: str

    @property
    def num_tokens(self) -> int:
        """What it takes of a prompt, estimated from its bytes."""
        return _TOKENS_PER_NAME + len(self.text.encode()) // _BYTES_PER_TOKEN


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent, in its order, and the names of what the budget left out."""

    neighbours: tuple[Neighbour, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def num_tokens(self) -> int:
        """The estimate of all."""
        return sum(each.num_tokens for each in self.neighbours)


def gather(file: Path, text: str, opened: Sequence[Neighbour], *, max_tokens: int) -> Context:
    """Choose the neighbours of `text`, which stands in `file`.

    `opened` was asked for and always goes along. What is left of `max_tokens` goes to imports,
    then to the regions edited last; each piece whole or not at all.
    """
    root = repository_of(file)
    known = {each.filename for each in opened} | {name_of(file, root)}
    imports = [each for each in _imports(file, text, root) if each.filename not in known]
    known |= {each.filename for each in imports}
    recent = [
        piece
        for region in edited_regions(root)
        if (piece := Neighbour(filename=name_of(region.path, root), text=region.text))
        and piece.filename not in known
    ]
    room = max_tokens - sum(each.num_tokens for each in opened)
    chosen: set[int] = set()
    for piece in [*imports, *reversed(recent)]:
        if piece.num_tokens <= room:
            chosen.add(id(piece))
            room -= piece.num_tokens
    kept = [each for each in imports if id(each) in chosen]
    newest = [each for each in recent if id(each) in chosen]
    left_out = {each.filename for each in [*imports, *recent] if id(each) not in chosen}
    return Context(neighbours=(*kept, *opened, *newest), left_out=tuple(sorted(left_out)))


def opened_files(paths: Sequence[tuple[Path, str]], root: Path) -> list[Neighbour]:
    """Return whole files as neighbours."""
    return [Neighbour(filename=name_of(path, root), text=text) for path, text in paths]


def repository_of(file: Path) -> Path:
    """Return the nearest folder above with a `.git`, else the file's own."""
    above = file.resolve().parents
    return next((folder for folder in above if (folder / ".git").exists()), above[0])


def name_of(path: Path, root: Path) -> str:
    """Return how a file is called within its repository, with `/`."""
    path, root = path.resolve(), root.resolve()
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _imports(file: Path, text: str, root: Path) -> list[Neighbour]:
    found = []
    for each in imported_files(file, text, root):
        source = _read(each.path)
        short = outline(source, each.names) if each.path.suffix == ".py" else source
        if short.strip():
            found.append(Neighbour(filename=name_of(each.path, root), text=short))
    return found


def _read(path: Path) -> str:
    """Return a file's text; what is no text, or no source by its size, is no neighbour."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return ""
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
